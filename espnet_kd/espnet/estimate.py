"""Costs of a training, measured by a few of its steps on noise."""

import copy
import dataclasses
import functools
import math
import statistics
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.espnet.batches import Batch, Batches
from espnet_kd.espnet.derive import train_config
from espnet_kd.espnet.mixed_precision import autocast_dtype
from espnet_kd.espnet.model import DistilTransducer
from espnet_kd.espnet.teacher import FrozenTeacher
from espnet_kd.espnet.versions import subsampled_lengths
from espnet_kd.methods import method_named
from espnet_kd.methods.protocol import OnDevice
from espnet_kd.peak_memory import PeakMemory, in_child, synchronize
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.spec.distillation import Distillation, read_kd_conf
from espnet_kd.spec.stage import Stage
from espnet_kd.spec.training_config import TrainingConfig
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.checkpoint_size import NOTHING, Beside, checkpoint_bytes
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.model_config import config_of
from espnet_kd.teachers import pack


@dataclasses.dataclass(frozen=True)
class Cost:
    """Measured costs.

    Attributes:
        step_seconds: Mean time of an update.
        peak_bytes: Memory of the whole process at its peak, on CUDA that of torch.
    """

    step_seconds: float
    peak_bytes: int

    def minutes(self, batches: int, epochs: int = 1) -> float:
        """Return the time of some epochs; reading of audio and validation are not in it."""
        return self.step_seconds * batches * epochs / 60


class Planned(NamedTuple):
    """A model without weights.

    Attributes:
        config: Training config of the student.
        sizes: Sizes of the student.
        bytes: Bytes of its checkpoint, of one that is yet to be made at most.
        device: What it takes on a device, if its method has a form for one.
    """

    config: Dict[str, Any]
    sizes: Architecture
    bytes: int = 0
    device: Optional[OnDevice] = None

    @property
    def params(self) -> int:
        """Numbers that are computed with: factors in the place of their products."""
        return self.device.params if self.device else self.sizes.params


def derive_all(
    stages: Sequence[Stage], teacher: Planned, base: TrainingConfig, others: Beside = NOTHING
) -> List[Planned]:
    """Return the students of a plan as they would be derived, without weights.

    Args:
        stages: The plan's.
        teacher: The first teacher.
        base: The training config for students.
        others: What a checkpoint of the first teacher, trained by `base`, holds beside.

    Raises:
        UserError: a student that cannot be derived, or an option that training has not.
    """
    models = [teacher]
    for stage, sizes in zip(stages, sizes_of_way(stages, teacher.sizes, others=others)):
        above = models[-1]
        kept = spaced_blocks(above.sizes.num_blocks, sizes.num_blocks)
        files = (Path("not trained yet"), Path("not trained yet"))
        student_config = config_of(sizes, above.config, kept)
        config = train_config(stage, above.config, student_config, base, files, files)
        net = functools.partial(_build, config)
        method = method_named(stage.method)
        device = method.on_device(stage, sizes.params, teacher.sizes.params, net)
        others = others.trained_with(stage.train.options)
        models.append(Planned(config, sizes, checkpoint_bytes(sizes, others), device))
    return models[1:]


def estimate(
    student: Mapping[str, Any],
    teacher: Optional[Mapping[str, Any]],
    batches: Batches,
    device: str = "cpu",
    threads: int = 1,
) -> Cost:
    """Train a student of random weights for a few updates, in a child process.

    The caller must not have computed on several threads, nor on CUDA: neither survives a
    fork.

    Args:
        student: Training config of the student.
        teacher: Config of its teacher, on-line distillation; None: without a teacher.
        batches: Batches to train on.
        device: `cpu` or `cuda`.
        threads: Number of CPU threads.

    Raises:
        RuntimeError: a step failed, for example for its memory.
    """
    training = Training(student, teacher, device=device, threads=threads)
    return in_child(functools.partial(_measure, training, batches))


@dataclasses.dataclass(frozen=True)
class Training:
    """A training of random weights on noise, to be measured in a child process.

    Attributes:
        student: The training config.
        teacher: The teacher's config, on-line distillation; None: without a teacher.
        cached: The teacher's posteriors come with the batch, as from a cache.
        device: `cpu` or `cuda`.
        threads: Number of CPU threads.
    """

    student: Mapping[str, Any]
    teacher: Optional[Mapping[str, Any]] = None
    cached: bool = False
    device: str = "cpu"
    threads: int = 1

    def start(self) -> Callable[[Batch], float]:
        """Return what does one update and tells its seconds."""
        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        frozen = None
        # `objective` alone decides whether there is a teacher.
        kd = Distillation()
        if self.teacher:
            frozen = FrozenTeacher(_build(self.teacher).to(self.device))
            kd = read_kd_conf(self.student["kd_conf"])
        elif self.cached:
            kd = read_kd_conf(self.student["kd_conf"]).changed(teacher_cache="with the batch")
        model = _build(self.student).to(self.device).train()
        DistilTransducer.wrap(model, kd.complete(), frozen)
        model.to(self.device)  # what distillation has added to it
        model.autocast_dtype = self._autocast_dtype()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
        return functools.partial(self._step, model, optimizer)

    def _autocast_dtype(self) -> Optional[torch.dtype]:
        """The format of mixed precision; ESPnet's own, too, is our model's here."""
        use_amp = self.student.get("use_amp", False)
        asked = autocast_dtype(use_amp, self.student.get("amp_dtype", "auto"), self.device)
        if asked is not None or not use_amp or self.device == "cpu":
            return asked
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    def _step(
        self, model: ESPnetASRTransducerModel, optimizer: torch.optim.Optimizer, lengths: Batch
    ) -> float:
        config = self.student
        batch = noise(lengths, len(config["token_list"]), config.get("input_size"))
        if self.cached:
            batch["teacher"] = cache_entries(model, lengths, batch["text"])
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        synchronize(self.device)
        start = time.perf_counter()
        optimizer.zero_grad()
        loss, _, _ = model(**batch)
        loss.backward()
        optimizer.step()
        synchronize(self.device)
        return time.perf_counter() - start


def _measure(training: Training, batches: Batches) -> Cost:
    with PeakMemory(training.device) as peak:
        step = training.start()
        step(batches.typical[0])  # warm-up
        seconds = statistics.fmean(step(batch) for batch in batches.typical)
        step(batches.largest)
    return Cost(seconds, peak.absolute)


def _build(config: Mapping[str, Any]) -> ESPnetASRTransducerModel:
    # ESPnet writes into the dicts it is given.
    args = copy.deepcopy({"init": None, "specaug": None, "specaug_conf": {}, **config})
    return ASRTransducerTask.build_model(Namespace(**args))


def noise(lengths: Batch, vocabulary: int, input_size: Optional[int]) -> Dict[str, torch.Tensor]:
    """Make a batch of noise.

    Args:
        lengths: Lengths of its utterances.
        vocabulary: V
        input_size: Features F of each frame; None: audio.

    Returns:
        The arguments of `DistilTransducer.forward`.
    """
    generator = torch.Generator().manual_seed(0)
    speech_len, u_len = torch.tensor(lengths.speech), torch.tensor(lengths.labels)  # (B,)
    size = (len(speech_len), int(speech_len.max()), *([input_size] if input_size else []))
    speech = 0.1 * torch.randn(size, generator=generator)  # (B, S) or (B, T, F)
    speech[torch.arange(size[1]) >= speech_len[:, None]] = 0.0
    # No blank, no <sos/eos>.
    text = torch.randint(
        1, vocabulary - 1, (size[0], max(1, int(u_len.max()))), generator=generator
    )  # (B, U)
    text[torch.arange(text.size(1)) >= u_len[:, None]] = -1
    return {
        "speech": speech,
        "speech_lengths": speech_len,
        "text": text,
        "text_lengths": u_len,
    }


def cache_entries(
    model: ESPnetASRTransducerModel, lengths: Batch, text: torch.Tensor
) -> torch.Tensor:
    """Make the entries of a teacher cache whose teacher knows nothing.

    Args:
        model: The student; its front end and subsampling decide the frames.
        lengths: Lengths of the utterances.
        text: Labels of the utterances. (B, U)

    Returns:
        (B, L, 1)
    """
    frames = torch.tensor(lengths.speech)  # (B,)
    if model.frontend is not None:
        frames = frames // model.frontend.hop_length + 1
    entries = []
    for T, U, labels in zip(
        subsampled_lengths(model.encoder.embed, frames).tolist(), lengths.labels, text
    ):
        three = torch.full((T, U + 1, 3), math.log(1 / 3))
        entry = torch.from_numpy(pack(three, labels[:U], None, U + 1))  # (L,)
        entries.append(entry.float()[:, None])
    return torch.nn.utils.rnn.pad_sequence(entries, batch_first=True)
