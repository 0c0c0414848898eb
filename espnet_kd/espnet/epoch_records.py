"""Records of a training's epochs: `history.json` and `facts.json`."""

import logging
import resource
from pathlib import Path
from typing import Any, Dict, List, Literal, Tuple

import torch
from espnet2.train.reporter import Reporter, SubReporter, aggregate

from espnet_kd.common.records import FACTS, HISTORY, Epoch, Facts, Figures
from espnet_kd.errors import UserError

Part = Literal["train", "valid"]
PARTS: Tuple[Part, Part] = ("train", "valid")
Epochs = List[Epoch]


def figures_of(reporter: SubReporter) -> Figures:
    """Return the mean of each loss (and the learning rate) over the epoch."""
    return _losses({key: aggregate(values) for key, values in reporter.stats.items()})


def _losses(stats: Dict[str, Any]) -> Figures:
    # ESPnet measures times of its own; its memory is the one that is kept for later, too.
    left_out = ("time", "total_count", "gpu_max_cached_mem_GB")
    return {
        key: float(value)
        for key, value in stats.items()
        if key not in left_out and not key.endswith("_time")
    }


def read_history(folder: Path) -> Epochs:
    """Read `history.json`; a damaged one is as none."""
    try:
        return HISTORY.read_if_there(folder) or []
    except UserError:
        return []


def repair_history(folder: Path, reporter: Reporter) -> None:
    """Write `history.json` anew from a checkpoint, if it lacks an epoch or is damaged.

    Args:
        folder: The experiment.
        reporter: Reporter of the checkpoint, whose epochs are finished.
    """
    finished = range(1, reporter.get_epoch() + 1)
    whole = [h["epoch"] for h in read_history(folder) if all(part in h for part in PARTS)]
    if whole[: len(finished)] == list(finished):
        return
    logging.warning(
        f"{folder}/{HISTORY.file} is damaged or lacks epochs: made anew from the checkpoint"
    )
    history: Epochs = []
    for epoch in finished:
        history.append({"epoch": epoch})
        for part in PARTS:
            stats = reporter.stats.get(epoch, {}).get(part, {})
            history[-1][part] = _losses(stats)
            if "time" in stats:
                history[-1][part]["seconds"] = stats["time"].total_seconds()
    HISTORY.write(folder, history)


def write_history(folder: Path, epoch: int, part: Part, figures: Figures) -> Epochs:
    """Add an epoch to `history.json`; one trained again after a kill replaces the old."""
    history = [
        h
        for h in read_history(folder)
        if h["epoch"] < epoch or (h["epoch"] == epoch and part == "valid")
    ]
    if not history or history[-1]["epoch"] != epoch:
        history.append({"epoch": epoch})
    history[-1][part] = figures
    HISTORY.write(folder, history)
    return history


def _read_facts(folder: Path) -> Facts:
    try:
        return FACTS.read_if_there(folder) or Facts()
    except UserError:
        return Facts()


def repair_facts(options: Any) -> None:
    """Write `facts.json` anew if it is damaged; its memory is then that of this process."""
    folder = Path(options.output_dir)
    history = read_history(folder)
    if history and "epochs" not in _read_facts(folder):
        write_facts(options, history)


def write_facts(options: Any, history: Epochs) -> None:
    """Write what the training cost so far, interruptions left out.

    Args:
        options: The trainer's.
        history: Records of its epochs.
    """
    folder = Path(options.output_dir)
    if options.ngpu > 0:
        device, peak = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**20
    else:
        device, peak = "cpu", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    before = _read_facts(folder).get("peak_memory_mb") or 0
    trained = [h.get("train", {}) for h in history]
    both = [h.get(part, {}) for h in history for part in PARTS]
    cpu = [h.get("cpu_seconds") for h in both if h]
    known = [seconds for seconds in cpu if seconds is not None]
    facts = {
        "epochs": history[-1]["epoch"],
        "max_epoch": options.max_epoch,
        "updates": int(sum(t.get("updates") or 0 for t in trained)),
        "skipped_updates": int(sum(t.get("skipped_updates") or 0 for t in trained)),
        "train_seconds": round(sum(h.get("seconds") or 0 for h in both), 1),
        # Epochs of older versions have none: then the sum is not known.
        "cpu_seconds": round(sum(known), 1) if known and len(known) == len(cpu) else None,
        "peak_memory_mb": round(max(peak, before), 1),
        "device": device,
        "ngpu": options.ngpu,
        "seed": options.seed,
    }
    FACTS.write(folder, facts)
