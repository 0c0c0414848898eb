"""Conditions that an epoch, and a training, must meet to count as one."""

import math
from typing import Any, List, NamedTuple

from espnet2.train.reporter import SubReporter

from espnet_kd.common.records import Epoch
from espnet_kd.errors import UserError

SKIPPED_SHARE = 0.01  # of an epoch's updates; more is said


class Steps(NamedTuple):
    """Counts of the steps of an epoch.

    Attributes:
        made: Updates of the model.
        skipped: Updates that ESPnet left out, as the gradient held NaN or infinity.
        batches: Batches.
        lost: Batches whose loss was NaN or infinite.
    """

    made: int
    skipped: int
    batches: int
    lost: int

    @classmethod
    def of(cls, reporter: SubReporter) -> "Steps":
        """Count from what ESPnet's trainer has reported."""
        # ESPnet reports the time of every step, the norm of a gradient only with its update.
        tried, made = (_count(reporter, key) for key in ("train_time", "grad_norm"))
        losses = [v.value for v in reporter.stats.get("loss", ())]
        lost = sum(not math.isfinite(value) for value in losses)
        return cls(made, max(0, tried - made), len(losses), lost)

    def lost_losses(self) -> str:
        """Say how many losses were no numbers."""
        return f"the loss was NaN or infinite in {self.lost} of {self.batches} batches"


def _count(reporter: SubReporter, key: str) -> int:
    return sum(math.isfinite(v.value) for v in reporter.stats.get(key, ()))


def check_plan(batches: int, options: Any) -> None:
    """Refuse an epoch that could make no update.

    Args:
        batches: Batches of the epoch.
        options: The trainer's.

    Raises:
        UserError: there are fewer batches than one update takes.
    """
    if batches < options.accum_grad and not options.no_forward_run:
        raise UserError(
            f"--accum_grad {options.accum_grad}: an epoch has {batches} batches (of one process), "
            "so that no update would ever be made; make it smaller, or the batches"
        )


def check_trained(epoch: int, steps: Steps, options: Any) -> str:
    """Judge the training part of an epoch.

    Args:
        epoch: Number of the epoch.
        steps: Counts of its steps.
        options: The trainer's.

    Returns:
        A line to tell if updates were skipped, else nothing.

    Raises:
        UserError: no update was made.
    """
    if options.no_forward_run:
        return ""
    if not steps.made:
        raise UserError(
            f"{options.output_dir}: epoch {epoch} made no update of the model: every gradient "
            f"held NaN or infinity ({steps.lost_losses()}); lower the learning rate "
            "(optim_conf.lr), or look for damaged audio"
        )
    if steps.skipped <= SKIPPED_SHARE * (steps.made + steps.skipped):
        return ""
    return (
        f"epoch {epoch}: {steps.skipped} of {steps.made + steps.skipped} updates were skipped, "
        f"as the gradient held NaN or infinity ({steps.lost_losses()})"
    )


def check_validated(epoch: int, reporter: SubReporter, options: Any) -> str:
    """Judge the validation part of an epoch.

    Args:
        epoch: Number of the epoch.
        reporter: Reporter of ESPnet's for it.
        options: The trainer's.

    Returns:
        A line to tell if some losses were no numbers, else nothing.

    Raises:
        UserError: all of them were.
    """
    steps = Steps.of(reporter)
    if not steps.lost or options.no_forward_run:
        return ""
    if steps.lost == steps.batches:
        raise UserError(
            f"{options.output_dir}: epoch {epoch} left a model that computes no numbers: in the "
            f"validation {steps.lost_losses()}; lower the learning rate (optim_conf.lr), or look "
            "for damaged audio"
        )
    return f"epoch {epoch}: in the validation {steps.lost_losses()}"


def check_finished(history: List[Epoch], options: Any) -> None:
    """Refuse a training that ended before its time.

    Args:
        history: Records of its epochs.
        options: The trainer's.

    Raises:
        UserError: it has fewer epochs than it was asked for, and no early stopping.
    """
    done = [h["epoch"] for h in history if "valid" in h]
    last = max(done, default=0)
    if last < options.max_epoch and options.patience is None and not options.no_forward_run:
        raise UserError(
            f"{options.output_dir}: the training ended after epoch {last} of "
            f"{options.max_epoch}, and no early stopping (patience) was asked for"
        )
