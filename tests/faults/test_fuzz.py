"""The short form of the fuzz; `python -m tests.faults.fuzz_plan` is the long one."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from espnet_kd.errors import UserError
from tests.faults import fuzz_plan, fuzz_records, fuzzing


@pytest.mark.parametrize("fuzz", [fuzz_plan, fuzz_records], ids=["plans", "records"])
def test_no_traceback_no_hang_no_payload(fuzz):
    counts = fuzz.run(300)
    assert counts.clean, (str(counts), counts.tracebacks[:5], counts.hangs[:5])
    assert counts.cases == 300 and counts.refused > 150 and counts.accepted > 10, str(counts)


def test_a_case_is_made_again_by_its_seed():
    for fuzz in (fuzz_plan, fuzz_records):
        for seed in range(20):
            assert fuzz.make(random.Random(seed))[:2] == fuzz.make(random.Random(seed))[:2]


@pytest.mark.parametrize("name", sorted(fuzz_records.VALID))
def test_what_is_mutated_is_right_to_begin_with(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("run/dec/test/logdir/output.1" if name == "rtf.json" else "run/exp")
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(fuzz_records.VALID[name]))
    if name == "fingerprint.json":
        with pytest.raises(UserError, match="no field 'sha256'"):
            fuzz_records.READ[name](folder / name)
    else:
        fuzz_records.READ[name](folder / name)
    Path("plan.yaml").write_text(fuzz_plan.PLAN)
    fuzz_plan.load_plan("plan.yaml")


def test_the_counts_see_what_must_not_happen(tmp_path, monkeypatch):
    def refuse(path):
        raise UserError(f"{path}: wrong")

    def mumble(path):
        raise UserError("wrong")  # of what file?

    def crash(path):
        raise KeyError("x")

    def seize(path):
        os.system(f"touch {fuzzing.PAYLOAD}")

    def turn_round(path):
        while True:
            pass

    reads = [refuse, mumble, crash, seize, turn_round, lambda path: time.sleep(60), lambda path: 0]
    monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    turn = iter(reads)
    counts = fuzzing.run(lambda rng: ("x", b"", next(turn)), len(reads), 1, tmp_path)
    assert (counts.cases, counts.refused, counts.accepted) == (7, 1, 2)
    assert (len(counts.tracebacks), len(counts.hangs), counts.payloads) == (2, 2, 1)
    assert not counts.clean
