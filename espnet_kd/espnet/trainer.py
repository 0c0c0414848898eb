"""ESPnet's trainer that also says how far it is, how it went and what it cost."""

import argparse
import contextlib
import dataclasses
import math
import os
import resource
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List

import torch
from espnet2.train.reporter import SubReporter, aggregate
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet_kd.common.records import FACTS, HISTORY
from espnet_kd.espnet.annealing import tell_length
from espnet_kd.espnet.dev_wer import DevWer
from espnet_kd.espnet.mixed_precision import autocast_dtype
from espnet_kd.espnet.throughput import Throughput, report_epoch
from espnet_kd.fileio import atomic_path, save_tensors
from espnet_kd.progress import Progress


@dataclasses.dataclass
class DistilTrainerOptions(TrainerOptions):
    """ESPnet's options and ours: see `DistilTransducerTask.add_task_arguments`."""

    amp_dtype: str
    wer_utterances: int


class DistilTrainer(Trainer):
    """`espnet2.train.trainer.Trainer` with progress lines, `history.json`, `facts.json`.

    ESPnet's own `train.log` names the epoch only once it has ended, and keeps the figures
    of the epochs inside a checkpoint, where no report can read them without ESPnet.
    """

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> DistilTrainerOptions:
        """Return ESPnet's options and ours."""
        return build_dataclass(DistilTrainerOptions, args)

    @classmethod
    def run(cls, **kwargs) -> None:
        """Train; see ESPnet's `Trainer.run`, which takes all its arguments by name."""
        options, model = kwargs["trainer_options"], kwargs["model"]
        device = "cuda" if options.ngpu > 0 else "cpu"
        model.autocast_dtype = autocast_dtype(options.use_amp, options.amp_dtype, device)
        processes = kwargs["distributed_option"].dist_world_size or 1
        wanted = 0 if options.no_forward_run else options.wer_utterances
        model.dev_wer = DevWer(wanted, processes)
        if model.autocast_dtype is not None:
            # The model sees to it: neither ESPnet's autocast nor its GradScaler is needed.
            kwargs["trainer_options"] = dataclasses.replace(options, use_amp=False)
        if _is_main(kwargs["distributed_option"]):
            # What a killed training was writing; large models would fill the disk in time.
            for path in Path(options.output_dir).glob(".*.pth.*.tmp"):
                path.unlink()
        with _atomic_saves():
            super().run(**kwargs)

    @classmethod
    def train_one_epoch(cls, iterator, reporter, options, distributed_option, **kwargs) -> bool:
        """Train one epoch; see ESPnet's `Trainer.train_one_epoch`."""
        main = _is_main(distributed_option)
        start = time.perf_counter()
        model = getattr(kwargs["model"], "module", kwargs["model"])  # inside DDP
        batches = _Counted(iterator, reporter, options, model, main)
        updates = len(iterator) // options.accum_grad
        tell_length(kwargs["schedulers"], updates * options.max_epoch)
        done = super().train_one_epoch(
            iterator=batches,
            reporter=reporter,
            options=options,
            distributed_option=distributed_option,
            **kwargs,
        )
        seconds = time.perf_counter() - start
        if distributed_option.distributed:
            batches.work.gather(options.ngpu)
        report_epoch(reporter, {**batches.work.per_second(seconds), **_gpu_memory(options)})
        if main:
            figures = _figures(reporter)
            figures["seconds"] = seconds
            figures["updates"] = updates
            _write_history(options, reporter.epoch, "train", figures)
        return done

    @classmethod
    def validate_one_epoch(cls, reporter, options, distributed_option, **kwargs) -> None:
        """Validate; see ESPnet's `Trainer.validate_one_epoch`."""
        start = time.perf_counter()
        model = getattr(kwargs["model"], "module", kwargs["model"])  # inside DDP
        iterator = model.dev_wer.watch(kwargs.pop("iterator"), model)
        super().validate_one_epoch(
            iterator=iterator,
            reporter=reporter,
            options=options,
            distributed_option=distributed_option,
            **kwargs,
        )
        iterator.close()  # another process may have had a batch less, which ends this loop, too
        found = model.dev_wer.figures(distributed_option.distributed, options.ngpu)
        report_epoch(reporter, found)
        if _is_main(distributed_option):
            figures = _figures(reporter)
            figures["seconds"] = time.perf_counter() - start
            _write_facts(options, _write_history(options, reporter.epoch, "valid", figures))


@contextlib.contextmanager
def _atomic_saves() -> Iterator[None]:
    """Let `torch.save` write beside its target and rename.

    ESPnet's trainer writes `checkpoint.pth` in place: a training killed in that moment
    could not be resumed, and a full disk would leave half a file. It then writes the epoch's
    model: killed between the two, a resumed training would miss a model when it averages.
    So the checkpoint waits until that model is there.
    """
    save = torch.save
    with contextlib.ExitStack() as waiting:

        def atomic(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
            if not isinstance(f, (str, os.PathLike)):
                save(obj, f, *args, **kwargs)
            elif Path(f).name == "checkpoint.pth":
                save_tensors(obj, waiting.enter_context(atomic_path(f)), save, **kwargs)
            else:
                with atomic_path(f) as tmp:
                    save_tensors(obj, tmp, save, **kwargs)
                waiting.close()

        torch.save = atomic
        try:
            yield
        finally:
            torch.save = save


class _Counted:
    """A data iterator that counts the model's updates and reports progress over all epochs.

    Counted from the number of the epoch: a training that was resumed goes on with the count
    (and what is scheduled by it) as if it had not stopped.
    """

    def __init__(
        self, batches: Iterable, reporter: SubReporter, options: Any, model: Any, main: bool
    ) -> None:
        self.batches, self.reporter, self.options = batches, reporter, options
        self.model, self.main = model, main
        self.work = Throughput(model)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        name = Path(self.options.output_dir).name
        epoch, epochs = self.reporter.epoch, self.options.max_epoch
        done = len(self) * (epoch - 1)
        progress = Progress(f"train {name}", len(self) * epochs, "batch", done=done)
        start = time.perf_counter()
        # ESPnet updates after every accum_grad batches of an epoch, and not for its remainder.
        every = self.options.accum_grad
        before = len(self) // every * (epoch - 1)
        for n, batch in enumerate(self.batches):
            self.model.updates = before + n // every
            yield batch
            self.work.add(batch[1])  # behind the names of the utterances
            if self.main:
                speeds = self.work.per_second(time.perf_counter() - start)
                figures = {**speeds, **_gpu_memory(self.options)}
                progress.update(note=f"epoch {epoch}/{epochs}{_spoken(self.reporter, figures)}")


def _gpu_memory(options: Any) -> Dict[str, float]:
    """Return the peak of this process so far, in 2^20 bytes; on the CPU nothing."""
    if options.ngpu == 0:
        return {}
    return {"gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20}


# What a progress line calls the figures of the epoch so far.
FIGURES = {
    "tokens_per_second": "{:.0f} tokens/s",
    "audio_seconds_per_second": "{:.1f} s of audio/s",
    "gpu_memory_mb": "GPU {:,.0f} MiB",
}


def _spoken(reporter: SubReporter, figures: Dict[str, float]) -> str:
    """Say what the last step's loss was made of, and how fast this process is."""
    last = {key: values[-1].value for key, values in reporter.stats.items() if values}
    # `loss_scale`, of mixed precision, is no loss.
    terms = {k: f"{k[5:]} {{:.2f}}" for k in last if k.startswith("loss_") and k != "loss_scale"}
    forms = {"loss": "loss {:.2f}", **terms, "kd_weight": "lambda {:.3g}"}
    forms["agreement"] = "agreement {:.3f}"
    spoken = [
        form.format(last[key])
        for key, form in forms.items()
        if key in last and math.isfinite(last[key])
    ]
    spoken += [form.format(figures[key]) for key, form in FIGURES.items() if key in figures]
    return "".join(f", {part}" for part in spoken)


def _is_main(distributed_option: Any) -> bool:
    return not distributed_option.distributed or distributed_option.dist_rank == 0


def _figures(reporter: SubReporter) -> Dict[str, float]:
    """Mean of each loss (and the learning rate) over the epoch."""
    return {
        key: float(aggregate(values))
        for key, values in reporter.stats.items()
        if not key.endswith("_time")
    }


def _write_history(
    options: Any, epoch: int, part: str, figures: Dict[str, float]
) -> List[Dict[str, Any]]:
    """Add an epoch to `history.json`; one trained again after a kill replaces the old."""
    folder = Path(options.output_dir)
    history = HISTORY.read_if_there(folder) or []
    history = [
        h for h in history if h["epoch"] < epoch or (h["epoch"] == epoch and part == "valid")
    ]
    if not history or history[-1]["epoch"] != epoch:
        history.append({"epoch": epoch})
    history[-1][part] = figures
    HISTORY.write(folder, history)
    return history


def _write_facts(options: Any, history: List[Dict[str, Any]]) -> None:
    """Write what the training cost so far, interruptions left out."""
    folder = Path(options.output_dir)
    before = FACTS.read_if_there(folder) or {}
    if options.ngpu > 0:
        device, peak = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated() / 2**20
    else:
        device, peak = "cpu", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    facts = {
        "epochs": history[-1]["epoch"],
        "updates": sum(h.get("train", {}).get("updates", 0) for h in history),
        "train_seconds": round(
            sum(h.get(part, {}).get("seconds", 0) for h in history for part in ("train", "valid")),
            1,
        ),
        "peak_memory_mb": round(max(peak, before.get("peak_memory_mb") or 0), 1),
        "device": device,
        "ngpu": options.ngpu,
        "seed": options.seed,
    }
    FACTS.write(folder, facts)
