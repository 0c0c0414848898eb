"""A learning rate that reaches zero when the training ends, however long it is."""

from typing import List, Sequence, Union

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from espnet2.tasks.abs_task import scheduler_classes
from torch.optim.lr_scheduler import LRScheduler

from espnet_kd.spec.training_config import TO_ZERO


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

    A schedule may go over the trainings of a chain of students, each of which has a part of it
    (`anneal: through`): `epochs_before` and `epochs_after` are those of the others.
    """

    total = 0  # updates of the whole schedule, which the trainer knows; 0: not yet
    before = 0  # those of earlier trainings

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_steps: Union[int, float] = 100,
        last_epoch: int = -1,
        epochs_before: int = 0,
        epochs_after: int = 0,
    ) -> None:
        """Start before the first update.

        Args:
            optimizer: Optimizer, whose `lr` is the highest rate.
            warmup_steps: Updates until it is reached, at most half of the training.
            last_epoch: Updates made before, less one, as torch counts them.
            epochs_before: Epochs of the schedule that earlier students had.
            epochs_after: Epochs of the schedule that later students will have.
        """
        self.epochs_before, self.epochs_after = epochs_before, epochs_after
        self.warmup_steps = warmup_steps
        super().__init__(optimizer, last_epoch)  # makes the first step

    def get_lr(self) -> List[Union[float, torch.Tensor]]:
        """Return the rate of the coming update, for each group of parameters."""
        warmup, step = self.warmup_steps, self.before + self.last_epoch + 1
        if self.total:
            warmup = min(warmup, self.total / 2)
        factor = min(1.0, step / max(1, warmup))
        if self.total and step > warmup:
            factor = max(0.0, (self.total + 1 - step) / (self.total + 1 - warmup))
        return [rate * factor for rate in self.base_lrs]


def tell_length(schedulers: Sequence[object], updates: int, epochs: int = 1) -> None:
    """Say how long the training is.

    Args:
        schedulers: Schedulers of whatever kind; only `WarmupAnneal` needs to know.
        updates: Updates of the whole training.
        epochs: Epochs of it.
    """
    for scheduler in schedulers:
        if not isinstance(scheduler, WarmupAnneal):
            continue
        others = scheduler.epochs_before + scheduler.epochs_after
        scheduler.total = updates + updates // epochs * others
        scheduler.before = updates // epochs * scheduler.epochs_before
        if scheduler.before and scheduler.last_epoch == 0:  # whose rate was set without that
            for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_lr()):
                group["lr"] = rate


# ESPnet looks its schedulers up here, and offers no other way in.
scheduler_classes.setdefault(TO_ZERO, WarmupAnneal)
