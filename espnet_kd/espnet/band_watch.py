"""Whether the student's paths stay in its teacher's band: else the whole lattice is used."""

import logging
from typing import Callable, Dict

import torch

from espnet_kd.objective import BandFacts, Losses

EVERY = 25  # batches from one exact look at the whole lattice to the next
LEAST = 0.5  # share of the student's path mass that must lie inside, mean of a batch


class BandWatch:
    """Losses of training batches in a band, with the whole lattice where the band does not fit.

    From time to time, and as long as too little of the student's path mass lies inside, a batch
    goes over the whole lattice, which says that share exactly. Early in a training from random
    weights, or where a teacher hears the whole utterance and the student does not, so does every
    batch.

    Attributes:
        batches: Batches so far of an epoch: each begins with a watch of its own, so that a
            training that is resumed goes on as if it had not stopped.
        inside: Share of the student's path mass inside, where it was last measured.
        kept: Share of the teacher's occupancy inside, measured then.
        whole: Whether the last batch went over the whole lattice.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.inside = 0.0
        self.kept = torch.tensor(0.0)
        self.whole = True

    def losses(self, compute: Callable[[bool], Losses]) -> Losses:
        """Compute the losses of a batch.

        Args:
            compute: Computes them, on the whole lattice if it is told so, with the share inside.
        """
        due = self.batches % EVERY == 0 or self.inside < LEAST
        self.batches += 1
        losses = None if due else compute(False)
        if losses is not None and bool(torch.isposinf(losses.rnnt).any()):
            logging.warning("lattice: no path lies inside the band; this batch is done whole")
            losses = None
        self.whole = losses is None
        if losses is None:
            losses = compute(True)
            assert losses.band is not None and losses.band.inside is not None  # it was measured
            self.kept = losses.band.kept  # over all of the lattice
            self._tell(float(losses.band.inside.mean()))
        return losses

    def stats(self, facts: BandFacts) -> Dict[str, torch.Tensor]:
        """Return what is shown of an epoch."""
        return {
            "band_kept": self.kept,
            "band_rows": facts.rows,
            "band_nodes": facts.nodes,
            "band_inside": torch.tensor(self.inside),
            "band_gap": -torch.tensor(self.inside).clamp_min(1e-30).log(),
            "band_whole": torch.tensor(float(self.whole)),
        }

    def _tell(self, inside: float) -> None:
        """Keep the share inside; say so where it crosses the limit."""
        if self.batches == 1 or (inside < LEAST) != (self.inside < LEAST):
            then = "the whole lattice is used" if inside < LEAST else "the band is used"
            logging.info(
                f"lattice: {100 * inside:.1f} % of the student's path mass lies in its teacher's "
                f"band: {then} from here on"
            )
        self.inside = inside
