"""Tables of options, made from what their fields know: for `docs/plan.md` and for `--help`."""

import re
import textwrap
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Type

from espnet_kd.spec.distillation import IN_STAGE, Distillation
from espnet_kd.spec.family_plan import Family
from espnet_kd.spec.gate import Gate
from espnet_kd.spec.method import conf_class, method_names
from espnet_kd.spec.named_sizes import NamedSizes
from espnet_kd.spec.option import Option, Options, kinds, known_options
from espnet_kd.spec.stage import Stage
from espnet_kd.spec.values import MOST

BEGIN, END = "<!-- options: begin (tools/write_option_tables.py) -->", "<!-- options: end -->"
Row = Tuple[str, str, str, str]  # key, values, default, meaning


def rows(cls: Type[Options], keys: Optional[Sequence[str]] = None) -> List[Row]:
    """Return the table of a class of options.

    Args:
        cls: The class.
        keys: Names of the options to show; None: all.
    """
    return [
        (key, _values(facts, kinds(cls)[field.name]), _default(field.default), facts.doc)
        for key, (field, facts) in known_options(cls).items()
        if keys is None or key in keys
    ]


def _values(facts: Option, kind: Any) -> str:
    if facts.values:
        return facts.values
    if facts.choices:
        return ", ".join(f"`{choice}`" for choice in facts.choices)
    if kind not in (int, float):
        return {bool: "`true`, `false`", str: "text"}[kind]
    name = "a whole number" if kind is int else "a number"
    if facts.most not in (None, MOST):
        return f"{name} from {facts.least or 0:g} to {facts.most:g}"
    return name if facts.least is None else f"{name} ≥ {facts.least:g}"


def _default(value: Any) -> str:
    if value in (None, "") or not isinstance(value, (str, int, float, bool)):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _sections() -> Iterator[Tuple[str, List[Row]]]:
    """Yield title and table of everything that a plan may hold."""
    yield "A stage", rows(Stage)
    yield "A stage: what of the teacher is matched", rows(Distillation, IN_STAGE)
    for part, (field, _) in known_options(NamedSizes).items():
        yield f"`student: {{{part}: ...}}`", rows(kinds(NamedSizes)[field.name])
    yield "`gate`", rows(Gate)
    yield "`family`, which holds keys of a stage, too", rows(Family)
    for name in method_names():
        if known_options(conf_class(name)):
            yield f"`method_conf` of `method: {name}`", rows(conf_class(name))
    further = [key for key in known_options(Distillation) if key not in IN_STAGE]
    yield (
        "`kd_conf` of a training, which holds the options of a stage too",
        rows(Distillation, further),
    )


def markdown() -> str:
    """Return all tables as Markdown."""
    lines = []
    for title, table in _sections():
        lines += [f"### {title}", "", "| key | values | default | means |", "|---|---|---|---|"]
        lines += [f"| `{key}` | {' | '.join(cells)} |" for key, *cells in table]
        lines.append("")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return a Markdown document with the tables of today between its two marks."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{markdown()}\n{END}",
        text,
        flags=re.DOTALL,
    )


def in_words(cls: Type[Options], keys: Optional[Sequence[str]] = None) -> str:
    """Return the table of a class for `--help`."""
    lines = []
    for key, values, default, meaning in rows(cls, keys):
        text = f"{meaning} ({values}{f'; default: {default}' if default else ''})"
        lines += textwrap.wrap(
            text.replace("`", ""), 98, initial_indent=f"  {key:17}", subsequent_indent=" " * 19
        )
    return "\n".join(lines)
