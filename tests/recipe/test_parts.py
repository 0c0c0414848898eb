"""Stages without the shell: a student's parts alone, and what the program tells the loop."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from shell_recipe import OPTIONS, STUB, ends

from tests.patience import PATIENCE

LAST = 10


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


def start(recipe, *words, verb="compress", env=(), **options):
    python = f"{sys.executable} -S {STUB}"
    command = [*python.split(), "-m", f"espnet_kd.bin.{verb}"]
    given = {**OPTIONS, "python": python, "train_threads": 1, **options}
    command += [f"--{name}={value}" for name, value in given.items()]
    environment = {**os.environ, **recipe.environment(), "OMP_NUM_THREADS": "1", **dict(env)}
    environment.pop("ESPNET_KD_RUN", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *words], cwd=recipe.dir, env=environment, **pipes)


def run(recipe, *words, **options):
    process = start(recipe, *words, **options)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


def test_each_part_alone_and_then_all(recipe):
    student = {"compression_stage": 1, "use_teacher_cache": "true", "nj": 1}
    for part, verbs in {
        "derive": ["derive_student"],
        "labels": [],  # transcripts
        "cache": ["cache_teacher"],
        "train": ["train"],
        "gate": [],  # it has none
        "decode": ["decode"] * 2,
        "score": ["score"] * 2,
        "manifest": [],
    }.items():
        for expected in verbs, []:
            code, printed = run(recipe, "--only", part, **student)
            assert code == 0 and recipe.verbs() == expected, (part, printed)
    assert (recipe.dir / "exp/kd_big/manifest.json").exists()
    code, printed = run(recipe, **student)
    assert code == 0 and recipe.verbs() == []
    assert "(compress) Compression stage 1 of 3: big" in printed
    # The shell finds the same.
    recipe.ok(stage=16, stop_stage=16, use_teacher_cache="true", nj=1, stop_compression_stage=1)
    assert recipe.verbs() == []
    assert not list(recipe.dir.rglob(".run.json"))


def test_a_last_stage_of_few_bits_is_a_student_like_others(recipe):
    plan = (recipe.dir / "conf/compression.yaml").read_text()
    bits = "- {name: bits, method: quantise, method_conf: {bits: 4}, epochs: 1}\n"
    recipe.write(
        "conf/compression.yaml", plan.splitlines(True)[0] + plan.splitlines(True)[1] + bits
    )
    for stage, stock in ((1, "as trained"), (2, "averaged weights, rounded to their bits")):
        code, printed = run(recipe, compression_stage=stage)
        assert code in (0, LAST), printed
        name = ("big", "bits")[stage - 1]
        manifest = json.loads((recipe.dir / f"exp/kd_{name}/manifest.json").read_text())
        assert manifest["stock"] == stock
    assert manifest["teacher"].endswith("kd_big")
    recipe.write("conf/compression.yaml", plan.splitlines(True)[0] + bits.replace("4", "9"))
    code, printed = run(recipe, compression_stage=1)
    assert (
        code == 1 and "method_conf.bits: expected 2 to 8" in printed and "\n" not in printed[:-1]
    )


def test_the_last_student_says_so(recipe):
    plan = (recipe.dir / "conf/compression.yaml").read_text()
    recipe.write("conf/compression.yaml", "gate: {margin: 1}\n" + plan)
    wer = {"STUB_WER": "teacher=5 kd_big=5 kd_mid=9"}
    assert run(recipe, compression_stage=1, env=wer)[0] == 0
    code, printed = run(recipe, compression_stage=2, env=wer)
    assert code == LAST and "the compression stops at big" in printed
    code, printed = run(recipe, compression_stage=3, env=wer)
    assert code == 1
    expected = "compress: error: --compression_stage 3: conf/compression.yaml has 2 students\n"
    assert printed == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"compression_stage": 2}, "stage 16 needs exp/kd_big/config.yaml, which stage 16 (--com"),
        ({"compression_stage": "x"}, "--compression_stage must be a whole number, not 'x'"),
        ({"compression_stage": 0}, "--only must name one of its parts: train, decode, score"),
        ({"expdir": "my exp"}, "' ' (space) cannot be used"),
    ],
)
def test_a_mistake_is_one_line(recipe, options, message):
    code, printed = run(recipe, **options)
    line = printed.splitlines()[-1]
    assert code == 1 and line.startswith("compress: error: ") and message in line


def test_a_run_in_the_same_folder_is_refused_and_a_signal_ends_everything(recipe):
    slow = {"STUB_SLEEP": "espnet_kd.bin.train:300"}
    first = start(recipe, compression_stage=1, env=slow)
    while "train" not in [call[0].rpartition(".")[2] for call in recipe.calls(clear=False)]:
        assert first.poll() is None
        time.sleep(0.05)
    code, printed = run(recipe, compression_stage=1)
    assert code == 1 and f"exp is in use by another run (pid {first.pid} " in printed
    jobs = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(pid) == first.pid]
    assert jobs
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 130
    assert err.endswith(
        "interrupted in stage 16 (compression stage 1, big); run the same command to go on\n"
    )
    assert all(ends(pid) for pid in jobs)
    assert not list(recipe.dir.rglob(".run.json"))
    assert "going on with the interrupted run in exp/kd_big" in run(recipe, compression_stage=1)[1]


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
