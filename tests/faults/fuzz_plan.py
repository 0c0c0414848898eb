"""Fuzz of compression plans: `python -m tests.faults.fuzz_plan [cases [seed]]` from the root."""

import copy
import functools
import json
import random
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List

import yaml

from espnet_kd.common.json_file import Record
from espnet_kd.plan.baselines import PATHS
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.plan.selection import check_cacheable, students_of
from espnet_kd.spec.distillation import IN_STAGE, Distillation
from espnet_kd.spec.gate import Gate
from espnet_kd.spec.option import known_options
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.stage import Stage
from espnet_kd.spec.training_config import read_config
from espnet_kd.students.architecture import Architecture
from tests.faults.fuzzing import APPLY, Case, Counts, mangled, nonsense, restructured
from tests.faults.fuzzing import run as run_cases

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
SIZE_KEYS = ("target", "student")
FIRST = Architecture(80, 30, 6, 64, 128, 4, 15, 32, 0, 4, "rnn", "lstm", 1, 32, 32, 32)
TRAIN = b"max_epoch: 3\nkd_conf: {weight: 0.3}\noptim_conf: {lr: 0.001}\n"
PLAN = """\
# A plan that uses everything.
gate: {margin: 1.0, otherwise: stop}
common: &common
stages:
  - name: stage1
    target: 0.7
    epochs: 8
    objective: collapsed
    weight: 0.5
    weight_schedule: [[0, 0], [500, 1]]
    temperature: 1.0
    labels: transcript
  - name: stage2
    student:
      encoder: {num_blocks: 4, hidden_size: 48, heads: 4, conv_mod_kernel_size: 15}
      joint_network: {joint_space_size: 24}
      decoder: {embed_size: 16}
    init: teacher
    blocks: influence
    units: taylor
    objective: full
    divergence: reverse
    nodes: occupancy
    normalize: node
    first_weight: 0.3
    layers: [[0, 1], [1, 3]]
    layer_weight: 0.1
    encoder_weight: 0.5
    ctc_weight: 0.2
    teacher_features: clean
    teacher_context: full
    teacher_dtype: bfloat16
    gate: {margin: 0.5, otherwise: longer, epochs: 2, at_most: 3}
    train:
      max_epoch: 4
      optim_conf: {lr: 0.001}
      kd_conf: {weight: 2.0, top_k: 4}
  - name: stage3
    target: 300 kB
    allocate: deep
    objective: top_k
    top_k: 8
    frame_shift: 1
    gate: false
  - {name: stage4, target: 20000, objective: none, init: random, gate: {otherwise: split}}
""".replace("common: &common\n", "")
STAGE_KEYS = [*known_options(Stage), *IN_STAGE]
CHOICES = {
    key: facts.choices
    for cls in (Stage, Distillation, Gate)
    for key, (_, facts) in known_options(cls).items()
    if facts.choices
}
GATES = [False, None, {}, {"margin": 0.5}] + [{"otherwise": word} for word in CHOICES["otherwise"]]
SIZES = [
    {"encoder": {"num_blocks": 2}},
    {"encoder": {"hidden_size": 32, "heads": 2}, "joint_network": {"joint_space_size": 8}},
    {"decoder": {"type": "stateless"}},
    {"decoder": {"type": "averaged", "context": 3}},
    {"decoder": {"embed_size": 8}, "encoder": {"conv_size": 8, "linear_size": 24}},
]
GOOD: Dict[str, List[Any]] = {
    "name": ["small", "s-1", "one_shot", "scratch", "small_half", "9"],
    "target": [0.45, 0.3, 0.2, "150 kB", 30000, 12000],
    "student": SIZES,
    "epochs": [1, 8],
    "train": [None, {}, {"max_epoch": 2}, {"kd_conf": {"weight": 2.0}}, {"optim_conf": {"a": 1}}],
    "gate": GATES,
    "weight_schedule": [None, [[0, 0], [500, 1]]],
    "layers": [None, [[0, 1]]],
    "layer_weight": [0, 0.5],
    "frame_shift": [-1, 0, 2],
    "top_k": [1, 8],
    "temperature": [0.5, 2],
    **{key: list(words) for key, words in CHOICES.items() if key in STAGE_KEYS},
}
VALUES = [value for values in GOOD.values() for value in values]


@functools.lru_cache(maxsize=None)
def _valid() -> Any:
    return yaml.safe_load(PLAN)


def make(rng: random.Random) -> Case:
    """Make a plan, mostly a wrong one."""
    kind = rng.randrange(10)
    if kind < 3:
        content = mangled(rng, PLAN.encode())
    elif kind < 5:
        content = _dump(restructured(rng, copy.deepcopy(_valid()), VALUES))
    elif kind < 9:
        stages = [_stage(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
        gate = {"gate": rng.choice(GATES)} if rng.random() < 0.3 else {}
        content = _dump({"stages": stages, **gate})
    else:
        content = _hostile(rng).encode("utf-8", "surrogatepass")
    return "plan.yaml", content, functools.partial(_read, rng)


def _stage(rng: random.Random) -> Any:
    """Make a stage, each of its values right with a probability of 95 %."""
    keys = rng.sample([key for key in STAGE_KEYS if key not in SIZE_KEYS], rng.randrange(6))
    return {
        key: rng.choice(GOOD.get(key, [0, 0.5])) if rng.random() < 0.95 else nonsense(rng)
        for key in [rng.choice(SIZE_KEYS), *keys]
    }


def _dump(data: Any) -> bytes:
    return yaml.dump(data, Dumper=DUMPER, allow_unicode=True, sort_keys=False).encode(
        "utf-8", "surrogatepass"
    )


def _hostile(rng: random.Random) -> str:
    """Write what is made to exhaust or to seize a reader."""
    n = rng.choice((2, 5, 9, 30, 300, 5000))
    width = rng.choice((1, 2, 10))
    laughs = "a0: &a0 [x]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * width)}]\n" for k in range(1, n)
    )
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{k}: &a{k}\n  <<: [{', '.join([f'*a{k - 1}'] * width)}]\n" for k in range(1, n)
    )
    entry = rng.choice(STAGE_KEYS)
    value = rng.choice(
        (
            APPLY, "!!python/name:os.system", "!!python/module:os", "!!binary aGk=", "&a [*a]",
            "&a {b: *a}", "[" * n, "{a: " * n, "- " * n, "? " * n, "1" + "0" * n, "0x" + "f" * n,
            ":".join(["59"] * n), "1." + "0" * n + "e+" + "9" * min(n, 9), "2026-11-26 10:00:00",
            "!!timestamp 0", "!!set {a}", "!!omap [a: 1]", "'" + "x" * n, "|\n" + "x\n" * n, "=",
            "\u0085", "\ufeff", "\ud800", "*undefined", "&a &b x", "!!float .nan", "!!null null",
        )
    )  # fmt: skip
    stage = f"stages:\n- target: 0.5\n  {entry}: {value}\n"
    return rng.choice((laughs, merges, stage, stage, stage, f"{value}\n", f"? {value}\n: 1\n"))


def _read(rng: random.Random, path: Path) -> None:
    """Read a plan as the recipe does before stage 1, and all that can be known without torch."""
    Path("train.yaml").write_bytes(TRAIN)
    if rng.random() < 0.1:
        read_config(path)  # as if it were a training config
    load_plan(str(path))
    args = Namespace(
        plan=str(path),
        paths=" ".join(["progressive", *rng.sample(sorted(PATHS), rng.randrange(4))]),
        paths_at="",
        paths_epochs="sum",
        ablate=rng.choice(("true", "false")),
        students="exp/kd",
        train_config="train.yaml",
    )
    students = students_of(args)
    for student in students:
        record = Record("stage.json", dict, "")
        record.write(Path("."), student.record())
        json.loads(Path("stage.json").read_text())
        assert student.fingerprint() and student.last_epoch(3) > 0
    if rng.random() < 0.5:
        check_cacheable(students, read_config("train.yaml"), rng.choice((0, 5)))
    if all(stage.allocate in SHAPES for stage in load_plan(str(path)).stages):
        sizes_of_way(load_plan(str(path)).stages, FIRST)


def run(cases: int, seed: int = 1) -> Counts:
    """Read many plans and count what came of them."""
    with tempfile.TemporaryDirectory() as folder:
        return run_cases(make, cases, seed, Path(folder))


if __name__ == "__main__":
    counts = run(*map(int, sys.argv[1:] or ["10000"]))
    print(f"plans: {counts}", *counts.tracebacks[:20], *counts.hangs[:20], sep="\n")
    sys.exit(not counts.clean)
