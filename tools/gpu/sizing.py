"""How many epochs fit into the minutes on a GPU? On paper first, then measured there.

    python tools/gpu/sizing.py --corpus DIR --minutes 20                  # on paper, anywhere
    python tools/gpu/sizing.py --corpus DIR --minutes 20 --device cuda \
        --results results.jsonl --plan compression.yaml                   # measured, on the GPU

On paper an update takes its floating-point operations at a share of an H100's peak, and a fixed
time in which Python starts the kernels, as many for long utterances as for short ones. Measured,
it takes what a few updates on noise take. All epochs of `conf/mini` are scaled by one factor, so
that teacher, stages and baselines fit; what was chosen stays, as the learning rates depend on it.
"""

import argparse
import copy
import functools
import statistics
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import config_cost  # noqa: E402
from benchdata import Lengths, read_lengths  # noqa: E402

from espnet_kd.cli import new_parser  # noqa: E402
from espnet_kd.common.yaml_file import read_yaml  # noqa: E402
from espnet_kd.errors import UserError, run_main  # noqa: E402
from espnet_kd.espnet.batches import Batches  # noqa: E402
from espnet_kd.espnet.estimate import Training  # noqa: E402
from espnet_kd.peak_memory import in_child  # noqa: E402
from tools.gpu.result_rows import Results  # noqa: E402

CONF = Path(__file__).resolve().parents[2] / "egs2/librispeech/asr_kd/conf/mini"
VOCABULARY = 34  # characters; sentencepiece counts them for the lengths
SPEEDS = 3  # 0.9, 1.0, 1.1
PEAK, UTILISATION = config_cost.GPUS["H100"][0], 0.05  # narrow models fill no GPU
HOST_SECONDS = 0.11  # Python starts 2,000 kernels: 109 to 118 ms a step beside an H200
OVERHEAD = 1.15  # validation, checkpoints, reading


class Work(NamedTuple):
    """A training.

    Attributes:
        name: As in the report.
        epochs: As `conf/mini` has them.
        updates: In an epoch.
        seconds: Of an update.
    """

    name: str
    epochs: int
    updates: int
    seconds: float

    def minutes(self, epochs: int) -> float:
        """Return what some epochs take, validation included."""
        return OVERHEAD * epochs * self.updates * self.seconds / 60


def on_paper(training: Training, batches: Batches) -> float:
    """Guess the seconds of an update of usual length on an H100."""
    usual = batches.typical[len(batches.typical) // 2]
    share = 1 / len(usual.speech)  # the operations of one utterance, counted on this CPU
    training = Training(training.student, training.teacher, training.cached, device="cpu")
    cost = in_child(functools.partial(config_cost.measure, training, batches, share))
    return HOST_SECONDS + cost.flops * config_cost.audio(usual) / (PEAK * UTILISATION)


def measured(training: Training, batches: Batches) -> float:
    """Time updates on noise (in a child, so that no CUDA context is taken into a fork)."""

    def run() -> float:
        step = training.start()
        step(batches.typical[0])  # warm-up
        return statistics.fmean(step(batch) for batch in batches.typical)

    return in_child(run)


def works(lengths: Lengths, device: str, bins: Optional[int]) -> List[Work]:
    """Return all trainings; on paper where `device` is empty."""
    teacher = read_yaml(CONF / "train_teacher.yaml", "the teacher")
    stages = read_yaml(CONF / "compression.yaml", "the plan")["stages"]
    found = []
    base = {"config": CONF / "train_teacher.yaml", "vocabulary": VOCABULARY, "threads": 1}
    base.update(device=device or "cpu", student_config=CONF / "train_student.yaml")
    names = ["teacher", *(f"stage{k}" for k in range(1, len(stages) + 1))]
    for k, name in enumerate(names):
        plan = CONF / "compression.yaml" if k else None
        trainings = config_cost.trainings(Namespace(**base, plan=plan, stage=k))
        training = list(trainings.values())[-1]  # a student: from a cache
        config = copy.deepcopy(dict(training.student))
        if device == "cuda":
            config.update(use_amp=True, amp_dtype="bfloat16")
        config.update({"batch_bins": bins} if bins else {})
        training = Training(config, None, training.cached, device=device or "cpu")
        batches = config_cost.batches_of(lengths, VOCABULARY, config)
        seconds = (measured if device else on_paper)(training, batches)
        epochs = stages[k - 1]["epochs"] if k else teacher["max_epoch"]
        found.append(Work(name, epochs, SPEEDS * batches.count, seconds))
        print(f"sizing: {name}: {1 / seconds:.2f} updates a second", flush=True)
    total = sum(work.epochs for work in found[1:])
    # As long as the whole way down, at the last student's size.
    found += [found[-1]._replace(name=name, epochs=total) for name in ("one_shot", "scratch")]
    return found


def scaled(all_works: Sequence[Work], minutes: float) -> Dict[str, int]:
    """Return the epochs of each training that fit into the minutes in all."""
    need = sum(work.minutes(work.epochs) for work in all_works)
    factor = min(1.0, minutes / need)
    epochs = {w.name: max(1, int(w.epochs * factor)) for w in all_works}
    stages = [name for name in epochs if name.startswith("stage")]

    def add(names: Sequence[str], count: int) -> float:
        """Give them so many epochs more; minutes of all trainings."""
        for name in names:
            epochs[name] += count
        for name in ("one_shot", "scratch"):  # the recipe gives them the sum
            epochs[name] = sum(epochs[stage] for stage in stages)
        return sum(work.minutes(epochs[work.name]) for work in all_works)

    add([], 0)
    configured = {work.name: work.epochs for work in all_works}
    # What rounding down has left over, for the stages alike.
    for names in (stages, ["teacher"]):
        while epochs[names[0]] < configured[names[0]] and add(names, 1) <= minutes:
            pass
        if add([], 0) > minutes and epochs[names[0]] > 1:
            add(names, -1)
    return epochs


def plan_of(epochs: Dict[str, int]) -> str:
    """Write `conf/mini`'s plan with the epochs chosen."""
    stages = read_yaml(CONF / "compression.yaml", "the plan")["stages"]
    stages = [{**stage, "epochs": epochs[f"stage{k}"]} for k, stage in enumerate(stages, 1)]
    return "# conf/mini/compression.yaml, its epochs scaled by tools/gpu/sizing.py\n" + (
        yaml.safe_dump({"stages": stages}, sort_keys=False)
    )


def rows_of(all_works: Sequence[Work], epochs: Dict[str, int], how: str) -> List[Dict[str, Any]]:
    """Return a row for each training."""
    return [
        {
            "training": work.name,
            "how": how,
            "updates_an_epoch": work.updates,
            "updates_a_second": round(1 / work.seconds, 2),
            "epochs_configured": work.epochs,
            "epochs": epochs[work.name],
            "minutes": round(work.minutes(epochs[work.name]), 1),
        }
        for work in all_works
    ]


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, help="the training set, <corpus>/<speaker>/<chapter>")
    add("--minutes", type=float, default=20, help="for all trainings, over all calls")
    add("--device", choices=("cpu", "cuda"), help="measure there; without it: on paper")
    add("--batch_bins", type=int, help="instead of the config's, for a rehearsal")
    add("--results", type=Path, help="file that rows go to, and where a choice is kept")
    add("--plan", type=Path, help="write the plan with the epochs chosen here")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.minutes <= 0:
        raise UserError(f"--minutes {args.minutes}: give a positive number of minutes")
    results = Results(args.results, args.device or "paper") if args.results else None
    rows = results.of("sizing", "epochs") if results else []
    if not rows:
        torch.set_num_threads(1)
        all_works = works(read_lengths(args.corpus, VOCABULARY), args.device, args.batch_bins)
        epochs = scaled(all_works, args.minutes)
        how = f"measured, {args.device}" if args.device else "on paper, H100"
        rows = rows_of(all_works, epochs, how)
        if results:
            results.add("sizing", "epochs", rows)
    for row in rows:
        print(
            f"sizing: {row['training']}: {row['epochs']} of {row['epochs_configured']} epochs of "
            f"{row['updates_an_epoch']} updates, {row['updates_a_second']} updates a second: "
            f"{row['minutes']} min ({row['how']})"
        )
    print(f"sizing: {sum(row['minutes'] for row in rows):.1f} of {args.minutes:g} min in all")
    if args.plan:
        args.plan.parent.mkdir(parents=True, exist_ok=True)
        args.plan.write_text(plan_of({row["training"]: row["epochs"] for row in rows}))
        # For the shell, which gives it to the teacher's training.
        print(f"teacher_epochs={rows[0]['epochs']}")


if __name__ == "__main__":
    main()
