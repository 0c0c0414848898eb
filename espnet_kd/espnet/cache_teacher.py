"""Run a teacher over data directories once and keep what its students need of it."""

import dataclasses
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.asr_transducer.utils import TooShortUttError, get_transducer_task_io

from espnet_kd.errors import UserError
from espnet_kd.espnet.cache_data import Item, Utterances, plan_batches, read_samples
from espnet_kd.espnet.cache_fingerprint import fingerprint_of
from espnet_kd.espnet.teacher import FrozenTeacher, load_transducer
from espnet_kd.espnet.whole_encoder import Frames, frames_of
from espnet_kd.lattice import node_stats
from espnet_kd.lattice.visits import occupancy
from espnet_kd.progress import Progress
from espnet_kd.teachers import Archive, band_starts, pack, record_bytes
from espnet_kd.teachers.archive import check_space, size

SAMPLE = 2000  # utterances that the size is estimated from
IGNORE = -1  # padding of labels, as ESPnet's collate function has it here


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of making a cache.

    Attributes:
        teacher_exp: Experiment of the teacher.
        teacher_model: Checkpoint, a file of that directory.
        data: Data directories with wav.scp, text and utt2num_samples.
        out: The cache; each data directory gets a folder of its name there.
        chunk_size: Encoder frames a chunk, 0: full context; None: the teacher's
            `short_chunk_size`, or full context if it was not trained with chunks.
        band: Rows kept of each frame; 0: all.
        nj: Processes that share the work.
        job: Number of this process, from 1; 0: do all that is left and write the tables.
        batch_bins: Audio samples of a batch, padding included.
        audio_type: ESPnet's name for the kind of the wav.scp.
        num_workers: Processes that read audio.
        device: Device on which the teacher runs.
    """

    teacher_exp: Path
    teacher_model: str
    data: Sequence[Path]
    out: Path
    chunk_size: Optional[int] = None
    band: int = 0
    nj: int = 1
    job: int = 0
    batch_bins: int = 2_000_000
    audio_type: str = "sound"
    num_workers: int = 1
    device: str = "cpu"


def cache_teacher(settings: Settings, say: Callable[[str], None] = print) -> None:
    """Make a cache, or go on with it.

    Args:
        settings: Options of the cache.
        say: Takes the lines for the user.

    Raises:
        UserError: something is missing, does not fit, or the disk is too small.
    """
    names = [folder.resolve().name for folder in settings.data]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--data: two directories are called '{name}'; make two caches")
    samples = read_samples(settings.data)
    config = settings.teacher_exp / "config.yaml"
    checkpoint = settings.teacher_exp / settings.teacher_model
    model = load_transducer(str(config), str(checkpoint))
    if model.frontend is None:
        raise UserError(f"{config}: the teacher has no front end; a cache is made from audio")
    embed = model.encoder.embed
    if isinstance(embed, Frames) and embed.vgg_like is None:
        raise UserError(
            f"{config}: its encoder makes another number of frames than any student's, and a "
            "cache does not align them; distil without it (--use_teacher_cache false)"
        )
    chunk_size = settings.chunk_size
    if chunk_size is None:
        encoder = model.encoder
        chunk_size = encoder.short_chunk_size if encoder.dynamic_chunk_training else 0
        settings = dataclasses.replace(settings, chunk_size=chunk_size)
    fingerprint = fingerprint_of(model, config, checkpoint, chunk_size, settings.band)
    fingerprint.claim(settings.out)

    archives = [Archive(settings.out / name) for name in names]
    finished = [archive.finished() for archive in archives]
    todo = [(i, utt) for i, utt in samples if utt not in finished[i]]
    if todo:
        utterances = Utterances(settings.data, settings.audio_type, config)
        needed, hours = _estimate(model, utterances, samples, todo, settings.band)
        hint = "" if settings.band else "; --band 5 needs a fraction of it"
        free = check_space(settings.out, needed, hint)
        say(
            f"teacher cache {settings.out}: {len(todo)} of {len(samples)} utterances to do, "
            f"{hours:.2f} h, about {size(needed)} ({size(needed / hours)} an hour); "
            f"{size(free)} free"
        )
        _run(model, utterances, samples, todo, archives, settings)
    if settings.job == 0:
        total = sum(
            archive.close([utt for i, utt in samples if i == n])
            for n, archive in enumerate(archives)
        )
        say(f"teacher cache {settings.out}: {len(samples)} utterances, {size(total)}")


def _estimate(
    model: ESPnetASRTransducerModel,
    utterances: Utterances,
    samples: Mapping[Item, int],
    todo: Sequence[Item],
    band: int,
) -> Tuple[int, float]:
    """Bytes of the utterances still to be done (within a few per cent), and their hours."""
    rate = _rate(model)
    chosen = todo[:: -(-len(todo) // SAMPLE)]
    # Feature frames of one and of two seconds of silence make a straight line.
    with torch.no_grad():
        one_second, two_seconds = (
            int(model._extract_feats(torch.zeros(1, n), torch.tensor([n]))[1])
            for n in (rate, 2 * rate)
        )
    frames = torch.tensor(
        [one_second + (two_seconds - one_second) * (samples[item] / rate - 1) for item in chosen]
    )
    t_len = frames_of(model.encoder, frames.long())
    total = sum(
        record_bytes(int(t), len(utterances.labels(item)), band) + len(item[1]) + 1
        for item, t in zip(chosen, t_len)
    )
    hours = sum(samples[item] for item in todo) / rate / 3600
    return round(total * len(todo) / len(chosen)), hours


def _rate(model: ESPnetASRTransducerModel) -> int:
    """Samples a second."""
    mel = getattr(getattr(model.frontend, "logmel", None), "mel_options", {})
    return int(mel.get("sr", 16000))


def _run(
    model: ESPnetASRTransducerModel,
    utterances: Utterances,
    samples: Mapping[Item, int],
    todo: Sequence[Item],
    archives: Sequence[Archive],
    settings: Settings,
) -> None:
    """Do what is left, or this job's share of it."""
    teacher = FrozenTeacher(model.to(settings.device))
    batches = plan_batches(samples, set(todo), settings.batch_bins, settings.nj, settings.job)
    job = f"{settings.job}of{settings.nj}" if settings.job else "rest"
    progress = Progress(f"cache {settings.out}", sum(map(len, batches)))
    start, visits = time.monotonic(), np.zeros(2)
    for items, batch in utterances.load(batches, settings.num_workers):
        for (i, utt), record, inside in _records(teacher, items, batch, settings):
            archives[i].add(job, utt, record)
            visits += inside
        progress.update(len(items))
    for archive in archives:
        archive.flush(job)
    seconds = sum(samples[item] for items in batches for item in items) / _rate(model)
    note = f"{seconds / (time.monotonic() - start):.0f} x real time" if batches else ""
    if visits[1]:
        note += f", the band holds {100 * visits[0] / visits[1]:.2f} % of the teacher's paths"
    progress.close(note)


@torch.no_grad()
def _records(
    teacher: FrozenTeacher, items: List[Item], batch: Dict[str, torch.Tensor], settings: Settings
) -> Iterator[Tuple[Item, np.ndarray, Tuple[float, float]]]:
    """Yield item, record, and how many nodes of a path its band holds, and of how many."""
    batch = {name: x.to(settings.device) for name, x in batch.items()}
    # Clean features: the cache serves every epoch.
    feats, feats_len = teacher.model._extract_feats(batch["speech"], batch["speech_lengths"])
    text = batch["text"][:, : batch["text_lengths"].max()]
    decoder_in, labels, _, u_len = get_transducer_task_io(text, feats_len, ignore_id=IGNORE)
    try:
        joint, t_len, *_ = teacher.joint(feats, feats_len, decoder_in, settings.chunk_size or None)
    except TooShortUttError as e:
        raise UserError(f"{items[int(feats_len.argmin())][1]}: {e}") from None
    three = node_stats(joint, labels, t_len, u_len)  # (B, T, U + 1, 3)
    visits = occupancy(three[..., :2], t_len, u_len) if settings.band else None  # (B, T, U + 1)
    three, labels = three.cpu(), labels.cpu()
    for b, item in enumerate(items):
        T, U = int(t_len[b]), int(u_len[b])
        rows, start, inside = min(settings.band or U + 1, U + 1), None, (0.0, 0.0)
        if visits is not None:
            occupied = visits[b, :T, : U + 1].cpu()
            start = band_starts(occupied, rows)  # (T,)
            held = occupied.gather(1, start[:, None] + torch.arange(rows))  # (T, R)
            inside = (float(held.sum()), float(occupied.sum()))
        try:
            record = pack(three[b, :T, : U + 1], labels[b, :U], start, rows)
        except ValueError as e:
            raise UserError(f"{item[1]}: {e}") from None
        yield item, record, inside
