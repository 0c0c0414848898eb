"""A learning rate that reaches zero when the training ends, however long it is."""

from typing import List, Sequence, Union

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from espnet2.tasks.abs_task import scheduler_classes
from torch.optim.lr_scheduler import LRScheduler

NAME = "warmupanneal"


class WarmupAnneal(LRScheduler, AbsBatchStepScheduler):
    """Linear warm-up to the optimizer's rate, then linear descent to zero at the last update.

    The rates of ESPnet's `warmuplr` fall with the root of the updates made, so that a short
    training ends at a high rate and a long one at a low one. Students of few epochs are then
    worse than they need be, and trainings of unlike lengths (the stages of a plan, a baseline
    as long as all of them) cannot be compared. Here every training ends at zero. That linear
    descent to zero suits a fixed number of updates is known, e.g. Li et al., *Budgeted
    Training*, ICLR 2020 (arXiv 1905.04753).

    A training that is made longer after its end (`gate: {otherwise: longer}`) goes on at the
    rate that it would have there had it been that long from the start.
    """

    total = 0  # updates of the whole training, which the trainer knows; 0: not yet

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_steps: Union[int, float] = 100,
        last_epoch: int = -1,
    ) -> None:
        """Start before the first update.

        Args:
            optimizer: Optimizer, whose `lr` is the highest rate.
            warmup_steps: Updates until it is reached, at most half of the training.
            last_epoch: Updates made before, less one, as torch counts them.
        """
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, last_epoch)  # makes the first step

    def get_lr(self) -> List[Union[float, torch.Tensor]]:
        """Return the rate of the coming update, for each group of parameters."""
        warmup, step = self.warmup_steps, self.last_epoch + 1
        if self.total:
            warmup = min(warmup, self.total / 2)
        factor = min(1.0, step / max(1, warmup))
        if self.total and step > warmup:
            factor = max(0.0, (self.total + 1 - step) / (self.total + 1 - warmup))
        return [rate * factor for rate in self.base_lrs]


def tell_length(schedulers: Sequence[object], updates: int) -> None:
    """Say how long the training is.

    Args:
        schedulers: Schedulers of whatever kind; only `WarmupAnneal` needs to know.
        updates: Updates of the whole training.
    """
    for scheduler in schedulers:
        if isinstance(scheduler, WarmupAnneal):
            scheduler.total = updates


# ESPnet looks its schedulers up here, and offers no other way in.
scheduler_classes.setdefault(NAME, WarmupAnneal)
