r"""Memory and work of a training config's updates: what GPU does it need, and for how long?

    python tools/config_cost.py --config conf/train_teacher_960.yaml --vocabulary 1000 --hours 961
    python tools/config_cost.py --config conf/train_teacher_960.yaml --vocabulary 1000 \
        --hours 961 --plan conf/compression_960.yaml --student_config conf/train_student.yaml

Without a plan it measures the teacher, else the student of that stage, taught on-line and from
a cache. Batches are those that ESPnet makes of real lengths with the config's batch options,
their content is noise. Measured, in a process of its own: the peak memory of a whole update
(models, optimizer, activations, gradients) of the batch with the largest lattice, and the
floating-point operations of an update of usual length. Estimated from the latter: the time of
an epoch on GPUs of which a stated share of the peak speed is reached.
"""

import argparse
import copy
import dataclasses
import functools
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

import torch
from benchdata import Lengths, read_lengths
from torch.utils.flop_counter import FlopCounterMode

from espnet_kd.cli import new_parser
from espnet_kd.common.yaml_file import parse_yaml
from espnet_kd.errors import UserError, run_main
from espnet_kd.espnet.versions import quiet_import
from espnet_kd.peak_memory import PeakMemory, in_child
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import read_config
from espnet_kd.students.model_config import architecture_of

with quiet_import():
    from espnet_kd.espnet.batches import Batch, Batches, of_training
    from espnet_kd.espnet.estimate import Planned, Training, derive_all

SAMPLES = 640  # of audio for an encoder frame: 16 kHz, 25 Hz
RATE = 16000
# Dense bfloat16 operations a second (float16 where there is no bfloat16), GB of memory: data
# sheets.
GPUS = {"V100": (125e12, 32), "RTX 4090": (165e12, 24), "A100": (312e12, 80), "H100": (989e12, 80)}


class Cost(NamedTuple):
    """Of one update.

    Attributes:
        bytes: Peak memory of the batch with the largest lattice, beyond the imports.
        flops: Operations of a batch of usual length, for a second of its audio.
        seconds: Time of the first of them, here.
    """

    bytes: int
    flops: float
    seconds: float


def batches_of(lengths: Lengths, vocabulary: int, config: Mapping[str, Any]) -> Batches:
    """Make the batches that ESPnet would make of utterances of these lengths."""
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "train"
        stats.mkdir()
        utts = [(f"u{i:06d}", x) for i, x in enumerate(lengths.utterances)]
        speech = "".join(f"{name} {x.frames * SAMPLES}\n" for name, x in utts)
        (stats / "speech_shape").write_text(speech)
        text = "".join(f"{name} {x.labels},{vocabulary}\n" for name, x in utts)
        (stats / "text_shape.bpe").write_text(text)
        return of_training(Path(folder), "bpe", config)


def part_of(batch: Batch, share: float) -> Batch:
    """Take a share of a batch's utterances, the longest first."""
    order = sorted(range(len(batch.speech)), key=lambda i: -batch.speech[i])
    order = order[: max(1, round(share * len(order)))]
    return Batch([batch.speech[i] for i in order], [batch.labels[i] for i in order])


def measure(training: Training, batches: Batches, share: float) -> Cost:
    """Train two updates (in a child)."""
    usual = part_of(batches.typical[len(batches.typical) // 2], min(share, 0.25))
    largest = part_of(batches.largest, share)
    with PeakMemory(training.device) as peak:
        run = training.start()
        # The first update is the warm-up, too.
        with FlopCounterMode(display=False) as counter:
            run(usual)
        start = time.perf_counter()
        run(largest)
        seconds = time.perf_counter() - start
    return Cost(peak.used, counter.get_total_flops() / audio(usual), seconds)


def audio(batch: Batch) -> float:
    """Seconds of audio, padding included."""
    return len(batch.speech) * max(batch.speech) / RATE


def overridden(pairs: Sequence[str]) -> Dict[str, Any]:
    """Read `KEY=VALUE`s.

    Raises:
        UserError: one is not of that form, or its value is no YAML.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UserError(f"--override '{pair}': write KEY=VALUE, such as batch_bins=8000000")
        found[key] = parse_yaml(value, f"--override '{pair}'").data
    return found


def refuse_equal_parts(batch: Batch, shares: Sequence[float]) -> None:
    """Refuse shares that nothing can be extrapolated from.

    Raises:
        UserError: the smallest and the largest take the same utterances of the batch.
    """
    low, high = min(shares), max(shares)
    taken = len(part_of(batch, high).speech)
    if high < 1 and len(part_of(batch, low).speech) == taken:
        raise UserError(
            f"--share {low:g} {high:g}: both are {taken} of the batch's {len(batch.speech)} "
            "utterances, so their memory says nothing about the whole; give shares farther apart"
        )


def trainings(args: argparse.Namespace) -> Dict[str, Training]:
    """Return what is to be measured, by name."""
    tokens = ["<blank>", "<unk>", *(f"t{i}" for i in range(args.vocabulary - 3)), "<sos/eos>"]
    teacher = {
        **read_config(args.config, of_student=False).options,
        "token_list": tokens,
        "input_size": None,
    }
    teacher.update(normalize=None, normalize_conf={})
    teacher.setdefault("frontend_conf", {})["fs"] = "16k"
    make = functools.partial(Training, device=args.device, threads=args.threads)
    if args.plan is None:
        return {"teacher": make(teacher)}
    stages = load_plan(args.plan).stages
    if not 1 <= args.stage <= len(stages):
        raise UserError(f"--stage {args.stage}: {args.plan} has stages 1 to {len(stages)}")
    features = teacher["frontend_conf"].get("n_mels", 80)
    first = Planned(teacher, architecture_of(teacher, features, args.vocabulary))
    models = [first, *derive_all(stages, first, read_config(args.student_config))]
    above, student = models[args.stage - 1 : args.stage + 1]
    found = {f"{stages[args.stage - 1].name}, teacher on-line": make(student.config, above.config)}
    if student.config["kd_conf"]["objective"] in ("collapsed", "full_sum"):
        found[f"{stages[args.stage - 1].name}, cached teacher"] = make(student.config, cached=True)
    return found


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--config", required=True, help="training config of the teacher")
    add("--vocabulary", type=int, required=True, help="tokens (500 for 100 h, 1000 for 960 h)")
    add("--hours", type=float, required=True, help="audio of an epoch, all speeds together")
    add("--plan", help="compression plan: measure one of its students instead")
    add("--student_config", help="training config of the students")
    add("--stage", type=int, default=1, help="number of the student")
    add(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change of the config"
    )
    share = "of the batch's utterances; several: memory of the whole batch is extrapolated"
    add("--share", type=float, nargs="+", default=[1.0], help=share)
    add("--utilisation", type=float, default=0.1, help="share of a GPU's peak reached")
    add(
        "--corpus",
        type=Path,
        help="set whose lengths are taken, by default those that the benchmarks take",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to measure")
    add("--threads", type=int, default=1, help="CPU threads")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Print a table."""
    args = get_parser().parse_args(cmd)
    if not all(0 < share <= 1 for share in args.share):
        raise UserError(f"--share {args.share}: shares lie between 0 and 1")
    if max(args.share) < 1 and len(set(args.share)) == 1:
        raise UserError(f"--share {args.share[0]}: one share of a batch is no line; give two")
    if not Path(args.config).is_file():
        raise UserError(f"--config {args.config}: no such file; name the teacher's config")
    override = overridden(args.override)
    torch.set_num_threads(1)  # what is measured is measured in a fork
    lengths = read_lengths(args.corpus, args.vocabulary)
    for name, training in trainings(args).items():
        config = {**training.student, **override}
        training = dataclasses.replace(training, student=copy.deepcopy(config))
        batches = batches_of(lengths, args.vocabulary, config)
        refuse_equal_parts(batches.largest, args.share)
        costs = {}
        for share in args.share:
            work = functools.partial(measure, training, batches, share)
            costs[share] = in_child(work)
            said = f"{costs[share].bytes / 1e9:.2f} GB, {costs[share].seconds:.0f} s"
            print(f"{name}, share {share:g} of the batch: {said}", flush=True)
        report(name, costs, batches, lengths, args)


def report(
    name: str,
    costs: Mapping[float, Cost],
    batches: Batches,
    lengths: Lengths,
    args: argparse.Namespace,
) -> None:
    """Say what was measured and what follows."""
    share, cost = max(costs.items())
    used, how = cost.bytes, "measured"
    if share < 1:
        low, low_cost = min(costs.items())
        slope = (cost.bytes - low_cost.bytes) / (share - low)
        used, how = (
            round(cost.bytes + slope * (1 - share)),
            f"extrapolated from shares {', '.join(map(str, sorted(costs)))}",
        )
    big = batches.largest
    nodes = len(big.speech) * max(big.speech) // SAMPLES * (1 + max(big.labels))
    print(
        f"{name}: {used / 1e9:.1f} GB at the peak of an update ({how}, {args.device}): "
        f"{len(big.speech)} utterances of up to {max(big.speech) / RATE:.1f} s, {nodes:,} "
        f"lattice nodes; lengths: {lengths.source}"
    )
    flops = cost.flops * args.hours * 3600
    print(f"  {cost.flops / 1e9:.1f} GFLOP a second of audio, {flops / 1e15:.1f} PFLOP an epoch")
    fits = [gpu for gpu, (_, memory) in GPUS.items() if used < 0.9 * memory * 1e9]
    for gpu in fits:
        minutes = flops / (GPUS[gpu][0] * args.utilisation) / 60
        print(
            f"  {gpu}: {minutes:.0f} min an epoch, estimated at {args.utilisation:.0%} of its peak"
        )


if __name__ == "__main__":
    main()
