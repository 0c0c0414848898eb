"""The batches of a training, by their lengths alone."""

import dataclasses
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

import humanfriendly
from espnet2.samplers.build_batch_sampler import build_batch_sampler

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table

FOLD_LENGTHS = [80000, 150]  # the recipe's
TYPICAL = 3


@dataclasses.dataclass(frozen=True)
class Batch:
    """Lengths of the utterances of a batch.

    Attributes:
        speech: Audio samples, or frames of features, of each. (B values)
        labels: Labels of each. (B values)
    """

    speech: List[int]
    labels: List[int]

    @property
    def nodes(self) -> int:
        """Nodes of its lattice in units of audio samples: padding included."""
        return len(self.speech) * max(self.speech) * (1 + max(self.labels))


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of an epoch that are measured.

    Attributes:
        count: Batches in an epoch; 0: unknown.
        typical: Some whose mean stands for all.
        largest: The one that takes most memory.
        source: Origin of the lengths, in words.
        hours: Hours of audio in an epoch; None: unknown.
    """

    count: int
    typical: List[Batch]
    largest: Batch
    source: str
    hours: Optional[float] = None


def stated(seconds: float, labels: int, batch: int, config: Mapping[str, Any]) -> Batches:
    """Return one batch of equal utterances, for a teacher whose data is not at hand.

    Args:
        seconds: Length of each.
        labels: Labels of each.
        batch: Number of utterances.
        config: The teacher's, for what a second is made of.
    """
    alike = Batch([int(seconds * _rate(config))] * batch, [labels] * batch)
    source = f"{batch} utterances of {seconds:g} s and {labels} labels; no --stats_dir"
    return Batches(0, [alike], alike, source)


def of_training(stats_dir: Path, token_type: str, config: Mapping[str, Any]) -> Batches:
    """Make the batches that ESPnet would make of a training set.

    Args:
        stats_dir: `exp/asr_stats_*`, stage 10.
        token_type: `char`, `bpe`, ...: which text shapes.
        config: The training config; its batch options count.

    Raises:
        UserError: a shape file is missing, or the batch options are not ESPnet's.
    """
    files = [stats_dir / "train" / name for name in ("speech_shape", f"text_shape.{token_type}")]
    speech, labels = ({u: _first(n) for u, n in read_table(f).items()} for f in files)
    kind = config.get("batch_type", "folded")
    try:
        sampler = build_batch_sampler(
            type=kind,
            batch_size=config.get("batch_size", 20),
            batch_bins=config.get("batch_bins", 1000000),
            shape_files=[str(f) for f in files],
            fold_lengths=config.get("fold_length") or FOLD_LENGTHS,
        )
        groups: Sequence[Sequence[str]] = list(sampler)
    except (ValueError, RuntimeError, AssertionError, KeyError) as e:
        raise UserError(f"batches of type '{kind}' cannot be made of {stats_dir}: {e}") from None
    batches = sorted(
        (Batch([speech[u] for u in g], [labels[u] for u in g]) for g in groups),
        key=lambda batch: batch.nodes,
    )
    # The middles of equal parts of all batches, ordered by size.
    n = min(TYPICAL, len(batches))
    typical = [batches[int((k + 0.5) * len(batches) / n)] for k in range(n)]
    source = f"{len(speech):,} utterances of {stats_dir} in {len(batches):,} batches an epoch"
    hours = sum(sum(batch.speech) for batch in batches) / _rate(config) / 3600
    return Batches(len(batches), typical, batches[-1], source, hours)


def _rate(config: Mapping[str, Any]) -> int:
    """Return the lengths of a second: samples, or frames of features."""
    if config.get("input_size") is not None:
        return 100
    fs = (config.get("frontend_conf") or {}).get("fs", "16k")
    return humanfriendly.parse_size(fs) if isinstance(fs, str) else int(fs)


def _first(shape: str) -> int:
    return int(shape.split(",")[0])
