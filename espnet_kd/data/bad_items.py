"""Utterances that cannot be used: counted, the first few named, refused beyond a share."""

import logging
from pathlib import Path
from typing import Dict, List, Optional

from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open
from espnet_kd.spec.values import part_of

NO_TRANSCRIPT = "utterances without a transcript"
# When a training set may lack transcripts.
UNTRANSCRIBED = (
    "a training set needs none where --teacher_exp names a teacher and every stage of the plan "
    "has 'labels: teacher'"
)
NAMED = 3  # a corpus with 10,000 missing files must not print 10,000 lines


class BadItems:
    """Collect what is skipped, by kind.

    Args:
        where: The corpus or data directory, for the messages.
        max_share: Share of all utterances that may be skipped.
    """

    def __init__(self, where: str, max_share: float) -> None:
        self.where, self.max_share = where, max_share
        self.by_kind: Dict[str, List[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note that `name` is skipped because of `kind`, such as `unreadable audio`."""
        self.by_kind.setdefault(kind, []).append(name)

    @property
    def count(self) -> int:
        """Number of items skipped so far."""
        return sum(map(len, self.by_kind.values()))

    def describe(self) -> str:
        """Return each kind, with its count and an example."""
        return "; ".join(
            f"{len(names)} {kind} (e.g. {names[0]})" for kind, names in self.by_kind.items()
        )

    def exceed(self, total: int) -> bool:
        """Whether more than `max_share` of `total` utterances are bad."""
        return self.count > part_of(self.max_share, total)

    def refuse_beyond_share(self, total: int, seen: Optional[int] = None) -> None:
        """Stop if more than `max_share` of `total` utterances are bad.

        Args:
            total: All utterances.
            seen: Number of items that were looked at; None: all.

        Raises:
            UserError: they are; the message counts each kind and names an example.
        """
        if self.exceed(total):
            so_far = "" if seen in (None, total) else f" (after a look at {seen} of them)"
            hint = f"; {UNTRANSCRIBED}" if NO_TRANSCRIPT in self.by_kind else ""
            raise UserError(
                f"{self.where}: {self.count} of {total} utterances are unusable{so_far}, more "
                f"than --max_bad_share {self.max_share:g} allows: {self.describe()}{hint}"
            )

    def log(self) -> None:
        """Warn once for each kind, with its count and the first few names."""
        for kind, names in self.by_kind.items():
            more = ", ..." if len(names) > NAMED else ""
            logging.warning(f"skipped {len(names)} {kind}: {', '.join(names[:NAMED])}{more}")

    def write(self, folder: Path) -> None:
        """Write all of them to `left_out`, a line `kind<TAB>name` each; none: remove it."""
        path = folder / "left_out"
        if not self.count:
            path.unlink(missing_ok=True)
            return
        with atomic_open(path) as f:
            for kind, names in self.by_kind.items():
                f.writelines(f"{kind}\t{name}\n" for name in names)
        logging.warning(f"{path} lists all {self.count} that are left out")
