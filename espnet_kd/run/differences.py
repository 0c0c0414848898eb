"""Differences between two records, looked at from both sides."""

from os.path import basename
from typing import Any, Dict, List, Mapping

from espnet_kd.run.content import differing_parts
from espnet_kd.run.step_record import Record


def option_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> List[str]:
    """Name each option that differs, is new or is gone, with both values."""
    before, now = _flat(old), _flat(new)
    lines = []
    for name in [*now, *(name for name in before if name not in now)]:
        if before.get(name) != now.get(name):
            lines.append(f"{name} {_shown(before, name)}, now {name} {_shown(now, name)}")
    return lines


def input_differences(old: Record, new: Record) -> List[str]:
    """Name each input that differs, is new or is gone.

    A file that lies elsewhere and holds the same is the same.
    """
    gone = [name for name in old.inputs if name not in new.inputs]
    added = [name for name in new.inputs if name not in old.inputs]
    for name in list(added):
        for other in gone:
            same = basename(name) == basename(other)
            if same and new.inputs[name] == old.inputs[other]:
                gone.remove(other)
                added.remove(name)
                break
    lines = []
    for name in new.inputs:
        if name in old.inputs and new.inputs[name] != old.inputs[name]:
            parts = differing_parts(old.content(name), new.content(name))
            lines.append(new.path_of(name) + parts)
    lines += [f"{new.path_of(name)} was no input then" for name in added]
    lines += [f"{old.path_of(name)} is no input now" for name in gone]
    return lines


def source_differences(old: Mapping[str, str], new: Mapping[str, str]) -> List[str]:
    """Name each source that differs; one that is not named again is taken to be the same."""
    return option_differences({k: v for k, v in old.items() if k in new}, new)


def _flat(options: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    flat: Dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _shown(options: Mapping[str, Any], name: str) -> str:
    if name not in options:
        return "(not set)"
    value = options[name]
    return value if isinstance(value, str) else str(value)
