"""Joules that the processor takes, by the counters of Linux's power capping (RAPL).

Two files are read by hand. pyRAPL and pyJoules had their last releases in 2019 and 2020; zeus
0.16 and codecarbon 3.3 are kept up, but would bring 16 and 22 packages, and codecarbon estimates
from the processor's name what it cannot read: here a figure is measured, or there is none.

Source: https://docs.kernel.org/power/powercap/powercap.html
"""

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

ROOT = "/sys/class/powercap"
VARIABLE = "ESPNET_KD_POWERCAP"  # another root, for tests
# Whole processors, and their memory, which no processor's counter holds. Those of cores are part
# of the former, and "psys" and intel-rapl-mmio count the same once more.
PROCESSORS, MEMORY = "intel-rapl:[0-9]*", "dram"
MICRO = 1e-6


class NotMeasured(Exception):
    """Energy cannot be measured here; the message says why."""


class Counter(NamedTuple):
    """A counter of energy.

    Attributes:
        name: What it counts, as the kernel calls it.
        path: File of the count, in microjoules.
        range: Count at which it begins anew, in microjoules.
    """

    name: str
    path: Path
    range: int


class Meter:
    """Reads all counters of this machine.

    Args:
        root: Folder of the counters; None: that of the environment, or the kernel's.

    Attributes:
        counters: The counters.

    Raises:
        NotMeasured: there are none, or one cannot be read.
    """

    def __init__(self, root: Optional[Union[str, Path]] = None) -> None:
        root = Path(root or os.environ.get(VARIABLE) or ROOT)
        self.counters = _counters(root)
        if not self.counters:
            what = "no counter of a processor in it" if root.is_dir() else "no such folder"
            raise NotMeasured(
                f"{root}: {what}; it takes a processor with RAPL, its kernel module "
                "(intel_rapl_msr), and no virtual machine between"
            )
        self.read()

    def read(self) -> List[int]:
        """Return all counts, in microjoules.

        Raises:
            NotMeasured: one cannot be read.
        """
        return [_number(counter.path) for counter in self.counters]

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Return what was taken between two readings.

        A counter begins anew at its range, after minutes at full power at the soonest: between
        readings that are seconds apart it has done so at most once.

        Raises:
            NotMeasured: a count lies beyond its counter's range.
        """
        total = 0
        for counter, first, last in zip(self.counters, before, after):
            if max(first, last) > counter.range:
                raise NotMeasured(f"{counter.path}: a count beyond its range of {counter.range:,}")
            total += last - first if last >= first else last - first + counter.range
        return total * MICRO


def _counters(root: Path) -> List[Counter]:
    counters = []
    for zone in sorted(root.glob(PROCESSORS)):
        # Subzones stand beside the zones, or in them alone.
        subzone = zone.name.count(":") > 1
        parts = [] if subzone else [zone, *sorted(zone.glob(f"{zone.name}:[0-9]*"))]
        for part in parts:
            name = _text(part / "name")
            if name.startswith("package") if part == zone else name == MEMORY:
                limit = _number(part / "max_energy_range_uj")
                counters.append(Counter(name, part / "energy_uj", limit))
    return counters


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        raise NotMeasured(
            f"{path}: may not be read (since 2020 by root alone); measure as root, or "
            "`sudo chmod a+r` it"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "no text"
        raise NotMeasured(f"{path}: cannot be read ({reason})") from None


def _number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise NotMeasured(f"{path}: expected a whole number, found '{text[:40]}'")
    return int(text)


class ByModel:
    """Adds up the joules of models that take turns; once a reading fails, nothing is measured.

    Args:
        root: See `Meter`.

    Attributes:
        why_not: Reason why nothing is measured; empty: it is.
    """

    def __init__(self, root: Optional[Union[str, Path]] = None) -> None:
        self.why_not = ""
        self._meter: Optional[Meter] = None
        try:
            self._meter = Meter(root)
        except NotMeasured as e:
            self.why_not = str(e)

    def read(self) -> List[int]:
        """Return all counts; nothing, where they cannot be read (any more)."""
        try:
            return self._meter.read() if self._meter and not self.why_not else []
        except NotMeasured as e:
            self.why_not = str(e)
            return []

    def since(self, before: Sequence[int]) -> float:
        """Return the joules since a reading; 0 where nothing is measured."""
        after = self.read()
        if not (self._meter and before and after):
            return 0.0
        try:
            return self._meter.joules(before, after)
        except NotMeasured as e:
            self.why_not = str(e)
            return 0.0

    def circumstances(self) -> Dict[str, Any]:
        """Return what `speed.json` says of energy: what was counted, or why nothing was."""
        if self.why_not or not self._meter:
            return {"not_measured": self.why_not}
        return {"counters": [counter.name for counter in self._meter.counters]}
