"""Fuzz of JSON records: `python -m tests.faults.fuzz_records [cases [seed]]` from the root."""

import copy
import json
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict

from espnet_kd.common.records import FACTS, GATE, HISTORY, MANIFEST, RESULTS, STUDENT
from espnet_kd.deploy.bundle import Bundle
from espnet_kd.deploy.card import About, model_card
from espnet_kd.deploy.results import find_model
from espnet_kd.plan.effective import effective
from espnet_kd.plan.manifest import differences
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.plan.verdict import Round, add_round, decide, describe, read_rounds
from espnet_kd.report.paths import lineage
from espnet_kd.report.rows import _hit_limit
from espnet_kd.report.seeds import read_runs
from espnet_kd.spec.gate import Gate
from espnet_kd.spec.option import known_options
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.architecture import Architecture
from espnet_kd.teachers.fingerprint import FORMAT, Fingerprint, list_digest
from tests.faults.fuzzing import APPLY, PICKLE, Case, Counts, mangled, restructured
from tests.faults.fuzzing import run as run_cases

FIRST = Architecture(80, 30, 6, 64, 128, 4, 15, 32, 0, 4, "rnn", "lstm", 1, 32, 32, 32)
ROUND = {"epochs": 8, "wer": 5.25, "teacher_wer": 4.0, "utterances": 90}
MODEL = {
    "name": "teacher",
    "stage": 0,
    "path": None,
    "teacher": None,
    "dir": "exp/asr",
    "relative_dir": "asr",
    "checkpoint": "m.pth",
    "params": 1000,
    "compression": 0.0,
    "size_mb": 1.5,
    "wer": {"test": 3.0},
    "cer": {"test": 1.0},
    "wer_diff": None,
    "rtf": {"median": 0.1, "p95": 0.2},
    "epochs": 8,
    "updates": 80,
    "train_seconds": 70.5,
    "device": "cpu",
}
DIFFERENCE = {"diff": 0.5, "low": -0.1, "high": 1.0, "significant": False}
VALID: Dict[str, Any] = {
    "student.json": {
        "stage": 1,
        "name": "exp",
        "path": "progressive",
        "teacher": "exp/asr",
        "first_teacher": "exp/asr",
        "init": "teacher",
        "labels": "transcript",
        "kept_blocks": [0, 2],
        "params": 800,
        "sizes": {**vars(FIRST), "num_blocks": 2},
        "importance": {"influence": [0.5, 0.25, None]},
        "before_training": {"utterances": 20, "loss": 9.0, "wer": 88.5, "teacher_wer": 3.0},
    },
    "facts.json": {
        "epochs": 8,
        "updates": 80,
        "train_seconds": 70.5,
        "peak_memory_mb": 700.5,
        "device": "cpu",
        "ngpu": 0,
        "seed": 1,
    },
    "history.json": [
        {"epoch": k, "train": {"loss": 9.0 / k, "wer": None}, "valid": {"loss": 8.0, "wer": 50.0}}
        for k in (1, 2, 3)
    ],
    "gate.json": {
        "student": "exp",
        "teacher": "the first teacher",
        "verdict": "longer",
        "student_wer": 5.25,
        "teacher_wer": 4.0,
        "difference": 1.25,
        "utterances": 90,
        "rounds": [ROUND, {**ROUND, "epochs": 10}],
    },
    "manifest.json": {
        "student": "exp",
        "stage": {"target": 0.5, "gate": None},
        "fingerprint": "0123456789ab",
        "teacher": "exp/asr",
        "files": {"plan": {"path": "plan.yaml", "sha256": "0" * 64}},
        "training": {"seed": "3"},
        "gate": None,
        "wer": {"dec/dev": 20.0},
        "versions": {"espnet_kd": "0.1.0", "git_commit": None},
        "date": "2026-11-26",
    },
    "results.json": {
        "title": "A run",
        "note": None,
        "left_out": [],
        "inference_tag": "dec",
        "test_sets": ["test"],
        "models": [
            MODEL,
            {**MODEL, "name": "s", "stage": 1, "path": "progressive", "teacher": "teacher",
             "relative_dir": "kd_s", "params": 500, "compression": 0.5,
             "wer_diff": {"test": DIFFERENCE}},
        ],
        "method": {"level": 0.95, "interval": "bootstrap", "draws": 1000},
        "speed": {"utterances": 9, "audio_seconds": 30.5, "cores": 2, "load": [0.5, 1.0]},
        "environment": {"date": "today", "espnet": "202511", "git_commit": None},
    },
    "rtf.json": {
        "utterances": 60,
        "audio_seconds": 20.5,
        "decode_seconds": 2.0,
        "rtf": 0.1,
        "peak_memory_mb": 100.0,
        "device": "A CPU",
        "threads": 1,
        "streaming": True,
    },
    "fingerprint.json": {
        "teacher_model": "0" * 64,
        "teacher_config": "0" * 64,
        "tokens": "0" * 64,
        "features": {"frontend": "DefaultFrontend", "n_fft": 512},
        "subsampling": {"factor": 4, "vgg_like": False},
        "chunk_size": 0,
        "band": 0,
        "temperature": 1.0,
        "format": FORMAT,
        "made_from": "exp/asr/m.pth",
    },
}  # fmt: skip
COUNTED = set(VALID["fingerprint.json"]) - {"made_from"}
VALUES = [None, 0, 1, 3, 0.5, 90.0, "teacher", "test", "s", True, [], {}, [ROUND], MODEL]


def make(rng: random.Random) -> Case:
    """Make a record, mostly a wrong one."""
    name = rng.choice(sorted(VALID))
    text = json.dumps(VALID[name], indent=rng.choice((None, 1)))
    kind = rng.randrange(10)
    if kind < 4:
        content = mangled(rng, text.encode())
    elif kind < 9:
        data = restructured(rng, copy.deepcopy(VALID[name]), VALUES)
        if name == "fingerprint.json" and isinstance(data, dict):  # as if it were made so
            data["sha256"] = list_digest({key: data[key] for key in sorted(COUNTED & set(data))})
        content = json.dumps(data, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
    else:
        content = _hostile(rng, text)
    folder = "run/dec/test/logdir/output.1" if name == "rtf.json" else "run/exp"
    return f"{folder}/{name}", content, READ[name]


def _hostile(rng: random.Random, text: str) -> bytes:
    """Write what is made to exhaust or to seize a reader."""
    n = rng.choice((1, 10, 900, 20_000, 200_000))
    return rng.choice(
        (
            PICKLE,
            APPLY.encode(),
            b"[" * n,
            b'{"a": ' * n,
            b"[" * n + b"]" * n,
            b"9" * n,
            b"-1." + b"0" * n + b"e+9999",
            b'"' + b"x" * n,
            b'{"a": 1, "a": 2}' * min(n, 2),
            b"NaN",
            text.encode("utf-16"),
            text.encode("utf-8-sig"),
            text.replace("0", "NaN").encode(),
            text.replace(": ", ": -").encode(),
            text.replace('"', "'").encode(),
            text[: rng.randrange(len(text))].encode(),
            b"\0" * n,
            b"",
        )
    )


def _student(path: Path) -> None:
    exp = path.parent
    past = lineage(exp, exp, 10)
    assert isinstance(past.path, str)
    text = "stages: [{target: 0.6, allocate: sensitivity, name: exp}, {target: 0.3}]"
    stages = parse_plan(text, "run/plan.yaml").stages
    for sizes in sizes_of_way(stages, FIRST, exp.with_name("other"), "other"):
        assert sizes.params > 0
    results = copy.deepcopy(VALID["results.json"])
    _card(results, results["models"][1], STUDENT.read(exp))


def _facts(path: Path) -> None:
    facts = FACTS.read(path.parent)
    max(1.0, facts.get("peak_memory_mb") or 0)
    cost = lineage(path.parent, path.parent, 10).path_cost
    assert cost.updates is None or cost.seconds is None or cost.updates + cost.seconds >= 0


def _history(path: Path) -> None:
    history = HISTORY.read(path.parent)
    for part in ("train", "valid"):
        for epoch in history:
            for value in epoch.get(part, {}).values():
                assert value is None or math.isfinite(value)
    # As the trainer adds an epoch, and adds up what it has cost.
    history = [h for h in history if h["epoch"] < 3]
    sum(h.get("train", {}).get("updates") or 0 for h in history)
    HISTORY.write(path.parent, [*history, {"epoch": 3, "train": {"loss": float("nan")}}])
    HISTORY.read(path.parent)


def _gate(path: Path) -> None:
    GATE.read(path.parent)
    rounds = read_rounds(path.parent)
    lineage(path.parent, path.parent, 10)
    plan = "gate: {otherwise: %s}\nstages: [{name: exp, target: 0.5}]"
    for otherwise in known_options(Gate)["otherwise"][1].choices:
        effective(parse_plan(plan % otherwise, "plan"), lambda name: rounds)
        if rounds:
            decide(Gate(otherwise=otherwise), rounds)
    added = add_round(rounds, Round(9, 5.0, 4.0, 90))
    record, line = describe(Gate(), added, "exp", "the first teacher")
    assert "\n" not in line
    GATE.write(path.parent, record)
    GATE.read(path.parent)


def _manifest(path: Path) -> None:
    differences(MANIFEST.read(path.parent))


def _results(path: Path) -> None:
    results = RESULTS.read(path.parent)
    for model in results["models"]:
        _card(results, find_model(results, model["name"], path), VALID["student.json"])
    other = path.parents[1] / "other"
    RESULTS.write(other, VALID["results.json"])
    if results != VALID["results.json"]:
        read_runs([path.parent, other])


def _card(results: Any, model: Any, student: Any) -> None:
    names = ("exp/m", "exp/m/config.yaml", "exp/m/m.pth")
    about = About(results, model, {"kd_conf": {"objective": "full"}}, student)
    model_card(about, Bundle(Path("."), *map(Path, names), None, []))


def _rtf(path: Path) -> None:
    _hit_limit(path.parents[3], ["test"])


def _fingerprint(path: Path) -> None:
    fingerprint = Fingerprint.load(path.parent)
    fingerprint.check(path.parent, {"band": 0, "features": {"n_fft": 512}}, "make it again")


READ: Dict[str, Callable[[Path], None]] = {
    "student.json": _student,
    "facts.json": _facts,
    "history.json": _history,
    "gate.json": _gate,
    "manifest.json": _manifest,
    "results.json": _results,
    "rtf.json": _rtf,
    "fingerprint.json": _fingerprint,
}


def run(cases: int, seed: int = 1) -> Counts:
    """Read many records and count what came of them."""
    with tempfile.TemporaryDirectory() as folder:
        return run_cases(make, cases, seed, Path(folder))


if __name__ == "__main__":
    counts = run(*map(int, sys.argv[1:] or ["10000"]))
    print(f"records: {counts}", *counts.tracebacks[:20], *counts.hangs[:20], sep="\n")
    sys.exit(not counts.clean)
