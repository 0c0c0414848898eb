"""What the minutes on a GPU have brought: a line of JSON each, written at once.

A line holds `part`, `name`, `device` and the numbers. A cut loses at most the line that was being
written, which is dropped when the file is read again.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

Row = Dict[str, Any]


class Results:
    """A file of results that is appended to.

    Args:
        path: The file; made if missing.
        device: `cuda` or `cpu`. What one device has shown says nothing of the other.
    """

    def __init__(self, path: Path, device: str) -> None:
        self.path, self.device = path, device
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: List[Row] = read_rows(path)
        # An unfinished last line would swallow the next one.
        path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    def has(self, part: str, name: str) -> bool:
        """Tell whether this device has this result already."""
        return bool(self.of(part, name))

    def of(self, part: str, name: str = "") -> List[Row]:
        """Return the rows of a part, or of one of its names, on this device."""
        return [
            row
            for row in self.rows
            if (row["part"], row["device"]) == (part, self.device) and name in ("", row["name"])
        ]

    def add(self, part: str, name: str, numbers: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of one result together, and see them on the disk."""
        rows = [{"part": part, "name": name, "device": self.device, **row} for row in numbers]
        self.rows += rows
        with open(self.path, "a", encoding="utf-8") as f:
            f.write("".join(json.dumps(row) + "\n" for row in rows))
            f.flush()
            os.fsync(f.fileno())


def read_rows(path: Path) -> List[Row]:
    """Read all whole lines."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut while it was written
            if isinstance(row, dict) and {"part", "name", "device"} <= row.keys():
                rows.append(row)
    return rows
