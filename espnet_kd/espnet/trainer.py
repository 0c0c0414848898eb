"""ESPnet's trainer that also says how far it is, how it went and what it cost."""

import argparse
import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import torch
from espnet2.train.reporter import SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet_kd.errors import UserError
from espnet_kd.espnet import checkpoints, epoch_records, soundness
from espnet_kd.espnet.annealing import tell_length
from espnet_kd.espnet.band_watch import BandWatch
from espnet_kd.espnet.curriculum import TeacherEpochs
from espnet_kd.espnet.dev_wer import DevWer
from espnet_kd.espnet.exports import ExportAverages
from espnet_kd.espnet.mixed_precision import autocast_dtype
from espnet_kd.espnet.moments import begin_with
from espnet_kd.espnet.reading import DataBatches, in_one_line
from espnet_kd.espnet.throughput import Throughput, report_epoch
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.progress import Progress, show
from espnet_kd.saved import check_finite, checked_loads

REMOVE = "remove it, and the *epoch.pth beside it, to train from the start"


@dataclasses.dataclass
class DistilTrainerOptions(TrainerOptions):
    """ESPnet's options and ours: see `DistilTransducerTask.add_task_arguments`."""

    amp_dtype: str
    wer_utterances: int
    init_moments: Optional[str]
    token_type: str  # ESPnet's, of the task


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
        model.dev_wer = DevWer(wanted, processes, options.token_type)
        if model.autocast_dtype is not None:
            # The model sees to it: neither ESPnet's autocast nor its GradScaler is needed.
            kwargs["trainer_options"] = dataclasses.replace(options, use_amp=False)
        if model.rests:
            kwargs["trainer_options"] = dataclasses.replace(
                kwargs["trainer_options"], unused_parameters=True
            )
        main = _is_main(kwargs["distributed_option"])
        run = model.run = Run(model, options, (*CALLBACKS, *model.callbacks), main)
        run.tell("on_start")
        where = f"{run.folder}: the model to begin with"
        check_finite(model.state_dict(), where, "look at --init_param and the statistics")
        if options.init_moments:  # what is resumed overrules them
            begin_with(Path(options.init_moments), model, kwargs["optimizers"])
        try:
            super().run(**kwargs)
        except RuntimeError as e:
            size = 4 * sum(tensor.nbytes for tensor in model.state_dict().values())
            unwritten = checkpoints.unwritten(run.folder, e, size) if main else None
            if unwritten:
                raise unwritten from None
            raise
        run.tell_saved()
        if main and not options.no_forward_run:
            soundness.check_finished(epoch_records.read_history(run.folder), options)
            epoch_records.repair_facts(options)
        run.tell("on_end")

    @staticmethod
    def resume(checkpoint: Path, **kwargs: Any) -> None:
        """Go on from a checkpoint; see ESPnet's `Trainer.resume`.

        Raises:
            UserError: it and the one before it are damaged.
        """
        folder, reporter = Path(checkpoint).parent, kwargs["reporter"]

        def load(path: Path) -> None:
            try:
                with checked_loads(REMOVE):
                    Trainer.resume(checkpoint=path, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as e:
                reason = (str(e).splitlines() or [""])[0]
                raise UserError(
                    f"{path}: not the checkpoint of this training ({type(e).__name__}: {reason}); "
                    f"{REMOVE}"
                ) from None
            check_finite(kwargs["model"].state_dict(), path, REMOVE)

        checkpoints.resume(load, Path(checkpoint))
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            epoch_records.repair_history(folder, reporter)

    @classmethod
    def train_one_epoch(cls, iterator, reporter, options, distributed_option, **kwargs) -> bool:
        """Train one epoch; see ESPnet's `Trainer.train_one_epoch`."""
        main = _is_main(distributed_option)
        start, cpu_start = time.perf_counter(), time.process_time()
        run = getattr(kwargs["model"], "module", kwargs["model"]).run  # inside DDP
        run.tell_saved()
        run.tell("on_begin", reporter.epoch)
        batches = _Counted(iterator, reporter, run)
        soundness.check_plan(len(iterator), options)
        updates = len(iterator) // options.accum_grad
        run.updates = updates * options.max_epoch
        tell_length(kwargs["schedulers"], run.updates, options.max_epoch)
        done = super().train_one_epoch(
            iterator=batches,
            reporter=reporter,
            options=options,
            distributed_option=distributed_option,
            **kwargs,
        )
        seconds = time.perf_counter() - start
        steps = soundness.Steps.of(reporter)
        line = soundness.check_trained(reporter.epoch, steps, options)
        if distributed_option.distributed:
            batches.work.gather(options.ngpu)
        counts = {"updates": steps.made, "skipped_updates": steps.skipped}
        speeds = batches.work.per_second(seconds)
        report_epoch(reporter, {**speeds, **_gpu_memory(options), **counts})
        if main:
            _tell(options, line)
            figures = {**epoch_records.figures_of(reporter), "seconds": seconds, **counts}
            figures["cpu_seconds"] = time.process_time() - cpu_start
            folder = Path(options.output_dir)
            epoch_records.write_history(folder, reporter.epoch, "train", figures)
        return done

    @classmethod
    def validate_one_epoch(cls, reporter, options, distributed_option, **kwargs) -> None:
        """Validate; see ESPnet's `Trainer.validate_one_epoch`."""
        start, cpu_start = time.perf_counter(), time.process_time()
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
        word_errors = model.dev_wer.figures(distributed_option.distributed, options.ngpu)
        report_epoch(reporter, word_errors)
        line = soundness.check_validated(reporter.epoch, reporter, options)
        if _is_main(distributed_option):
            _tell(options, line)
            figures = epoch_records.figures_of(reporter)
            figures["seconds"] = time.perf_counter() - start
            figures["cpu_seconds"] = time.process_time() - cpu_start
            folder = Path(options.output_dir)
            history = epoch_records.write_history(folder, reporter.epoch, "valid", figures)
            epoch_records.write_facts(options, history)
        model.run.unsaved = reporter.epoch
        model.run.tell("on_epoch", reporter.epoch)


class CountUpdates(Callback):
    """Tells the model how many updates it has had: weights may be scheduled by them."""

    def on_update(self, run: Run, update: int) -> None:
        """Count."""
        run.model.updates = update


CALLBACKS = (CountUpdates(), TeacherEpochs(), checkpoints.CarefulSaves(), ExportAverages())


class _Counted:
    """A data iterator that tells of the model's updates and of progress over all epochs.

    Counted from the number of the epoch: a training that was resumed goes on with the count
    (and what is scheduled by it) as if it had not stopped.
    """

    def __init__(self, batches: DataBatches, reporter: SubReporter, run: Run) -> None:
        self.batches, self.reporter, self.run = batches, reporter, run
        self.work = Throughput(run.model)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        options, name = self.run.options, self.run.folder.name
        epoch, epochs = self.reporter.epoch, options.max_epoch
        done = len(self) * (epoch - 1)
        progress = Progress(f"train {name}", len(self) * epochs, "batch", done=done)
        start = time.perf_counter()
        # ESPnet updates after every accum_grad batches of an epoch, and not for its remainder.
        every = options.accum_grad
        before = len(self) // every * (epoch - 1)
        self.run.model.band_watch = BandWatch()  # as a training that is resumed here has it
        for n, batch in enumerate(in_one_line(self.batches)):
            if n % every == 0:
                self.run.tell("on_update", before + n // every)
            self.run.model.batches = n
            yield batch
            self.work.add(batch[1])  # behind the names of the utterances
            if self.run.main:
                speeds = self.work.per_second(time.perf_counter() - start)
                figures = {**speeds, **_gpu_memory(options)}
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


def _tell(options: Any, line: str) -> None:
    """Show a line in the log, and, as it is marked, in the recipe's terminal."""
    if line:
        show(f"train {Path(options.output_dir).name}: {line}", last=True)
