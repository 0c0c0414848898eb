"""Damaged records, through what reads them: one line names file, field and remedy."""

import json

import pytest

from espnet_kd.bin import manifest, pack_model, plan_stages, report_seeds
from espnet_kd.common.json_file import Record, check_shape
from espnet_kd.common.records import FACTS, HISTORY
from espnet_kd.errors import UserError
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.report.paths import lineage
from espnet_kd.report.rows import _hit_limit
from espnet_kd.spec.plan import parse_plan
from espnet_kd.students.architecture import Architecture
from espnet_kd.teachers.fingerprint import Fingerprint

SIZES = {
    "features": 80,
    "vocab": 30,
    "num_blocks": 2,
    "hidden_size": 16,
    "linear_size": 32,
    "heads": 2,
    "kernel_size": 3,
    "conv_size": 8,
    "conv_size1": 0,
    "subsampling": 4,
    "decoder": "rnn",
    "rnn_type": "lstm",
    "rnn_layers": 1,
    "embed_size": 8,
    "decoder_size": 8,
    "joint_size": 8,
}
ROUND = {"epochs": 2, "wer": 5.0, "teacher_wer": 4.0, "utterances": 9}
MODEL = {
    "name": "teacher",
    "dir": "exp/asr",
    "checkpoint": "m.pth",
    "stage": 0,
    "params": 10,
    "compression": 0.0,
    "size_mb": 1.5,
    "wer": {"test": 3.0},
    "wer_diff": None,
}
VALID = {
    "student.json": {"teacher": "exp/t", "path": "progressive", "sizes": SIZES},
    "facts.json": {"epochs": 3, "updates": 30, "train_seconds": 2.5},
    "gate.json": {"verdict": "stop", "student_wer": 5.0, "teacher_wer": 4.0, "rounds": [ROUND]},
    "manifest.json": {
        "student": "a",
        "stage": {},
        "teacher": "exp/t",
        "files": {"plan": {"path": "p", "sha256": "0"}},
    },
    "results.json": {
        "inference_tag": "d",
        "test_sets": ["test"],
        "models": [MODEL],
        "method": {"level": 0.95, "interval": "bootstrap", "draws": 100},
        "environment": {"date": "today"},
    },
    "rtf.json": {"audio_seconds": 3.0, "decode_seconds": 1.0},
    "fingerprint.json": {
        "format": 2,
        "sha256": "0",
        "teacher_model": "",
        "teacher_config": "",
        "tokens": "",
        "features": {},
        "subsampling": {},
        "chunk_size": 0,
        "band": 0,
    },
}


def call(main, *words):
    """Run a command line; return the one line of its error."""

    def do(folder, capsys):
        with pytest.raises(SystemExit) as e:
            main([word.format(folder) for word in words])
        err = capsys.readouterr().err
        assert e.value.code == 1 and err.count("\n") == 1, err
        return err

    return do


def read(function):
    def do(folder, capsys):
        with pytest.raises(UserError) as e:
            function(folder)
        return str(e.value)

    return do


def measured_sizes(folder):
    stages = parse_plan(
        "stages: [{target: 0.6, allocate: sensitivity, name: exp}, {target: 0.5}]", "plan"
    ).stages
    sizes_of_way(stages[:1], Architecture(**SIZES), folder.with_name("other"), "other")


def gate(folder, capsys):
    plan = folder / "plan.yaml"
    plan.write_text("gate: {}\nstages: [{name: exp, target: 0.5}]\n")
    (folder.parent / "kd_exp").symlink_to(folder)
    words = ["--plan", str(plan), "--students", str(folder.parent / "kd")]
    return call(plan_stages.main, *words)(folder, capsys)


READERS = {
    "student.json": [read(lambda folder: lineage(folder, folder, 10)), read(measured_sizes)],
    "facts.json": [read(lambda folder: lineage(folder, folder.parent, 10))],
    "gate.json": [gate, read(lambda folder: lineage(folder, folder.parent, 10))],
    "manifest.json": [call(manifest.main, "--check", "{}")],
    "results.json": [
        call(pack_model.main, "--results", "{}/results.json", "--list"),
        call(report_seeds.main, "--run={}", "--run={}/..", "--out", "x.md"),
    ],
    "rtf.json": [read(lambda folder: _hit_limit(folder.parents[2], ["test"]))],
    "fingerprint.json": [read(Fingerprint.load)],
}


def broken(name):
    """Yield contents that are damaged in ways that every record can be."""
    text = json.dumps(VALID[name])
    yield b"", "the file is empty"
    yield text[: len(text) // 2].encode(), "line 1: not JSON"
    yield text.encode("utf-16"), "not UTF-8: byte 0xff at offset 0"
    yield b'{"a": ' + b"[" * 100_000, "nested too deeply"
    yield b"[1, 2]", "expected fields by name, found '[1, 2]'"
    yield b"null", "expected fields by name, found null or NaN"
    yield text.replace("{", '{"x": 1, "x": 2, ', 1).encode(), "duplicate field 'x'"
    yield text.replace("{", '{"x": 1e999, ', 1).encode(), "'1e999' is not a usable number"
    yield text.replace("{", f'{{"x": {"9" * 5000}, ', 1).encode(), "'9999999999"


OTHER_SHAPES = [
    # file, field, its value, words
    ("student.json", "path", 3, "path: expected text, found '3'"),
    ("student.json", "teacher", ["x"], "teacher: expected text, found '['x']'"),
    ("student.json", "before_training", {"wer": "x"}, "before_training.wer: expected a number"),
    ("facts.json", "updates", "9", "updates: expected a whole number, found '9'"),
    ("facts.json", "updates", True, "updates: expected a whole number, found 'true'"),
    ("facts.json", "train_seconds", -1, "train_seconds: expected at least 0, found '-1'"),
    ("gate.json", "verdict", float("nan"), "verdict: expected text, found null or NaN"),
    ("gate.json", "rounds", [{**ROUND, "wer": float("nan")}], "rounds[0].wer: expected a numb"),
    ("gate.json", "rounds", [{**ROUND, "epochs": 0}], "rounds[0].epochs: expected at least 1"),
    ("gate.json", "rounds", {"a": 1}, "rounds: expected a list, found"),
    ("manifest.json", "files", ["plan"], "files: expected fields by name, found '['plan']'"),
    ("manifest.json", "files", {"plan": "p"}, "files.plan: expected fields by name, found 'p'"),
    ("manifest.json", "files", {"plan": {"sha256": ""}}, "files.plan: no field 'path'"),
    ("results.json", "models", {}, "models: expected a list, found '{}'"),
    ("results.json", "models", ["m"], "models[0]: expected fields by name, found 'm'"),
    ("results.json", "models", [{**MODEL, "params": 0}], "models[0].params: expected at least 1"),
    ("results.json", "models", [{**MODEL, "wer": {}}], "models[0].wer: no value for 'test'"),
    ("results.json", "models", [{**MODEL, "wer_stock": {}}], "models[0].wer_stock: no value for"),
    ("results.json", "test_sets", "test", "test_sets: expected a list, found 'test'"),
    ("results.json", "inference_tag", 3, "inference_tag: expected text, found '3'"),
    ("rtf.json", "audio_seconds", "3", "audio_seconds: expected a number, found '3'"),
    ("rtf.json", "decode_seconds", float("nan"), "decode_seconds: expected a number, found nu"),
    ("fingerprint.json", "features", 3, "features: expected fields by name, found '3'"),
    ("fingerprint.json", "band", "0", "band: expected a whole number, found '0'"),
]
CASES = [
    *((name, content, words) for name in VALID for content, words in broken(name)),
    *(
        (name, json.dumps({**VALID[name], field: value}).encode(), words)
        for name, field, value, words in OTHER_SHAPES
    ),
]


@pytest.mark.parametrize("name, content, words", CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES])
def test_one_line(name, content, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run/dec/test/logdir/output.1" if name == "rtf.json" else tmp_path / "exp"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    if name == "results.json":
        (tmp_path / name).write_text(json.dumps(VALID[name]))
    for reader in READERS[name]:
        message = reader(folder, capsys)
        assert f"/{name}: {words}" in message and len(message) < 400
        assert message.rstrip().endswith(
            ("again", "file", "stage 16)", "student", "(stage 17)", "stage 17 again")
        )


def test_sizes_that_no_model_has(tmp_path):
    folder = tmp_path / "exp"
    folder.mkdir()
    for sizes, words in (
        ({**SIZES, "heads": "2"}, "sizes.heads: expected a whole number, found '2'"),
        ({**SIZES, "heads": 3}, "sizes: hidden_size 16 is no multiple of heads 3"),
        ({**SIZES, "height": 2}, "sizes: unknown field 'height'"),
        ({}, "sizes: no field 'features'"),
        (None, "sizes: expected fields by name, found null or NaN"),
    ):
        (folder / "student.json").write_text(json.dumps({"sizes": sizes} if sizes != {} else {}))
        with pytest.raises(UserError) as e:
            measured_sizes(folder)
        assert "exp/student.json: sizes" in str(e.value) and "derive the student again" in str(
            e.value
        )
        assert words in str(e.value) or sizes in ({}, None)


def test_what_is_written_can_be_read(tmp_path):
    """NaN is no JSON: a figure that was not finite is left as null, and readers know that."""
    history = [{"epoch": 1, "train": {"loss": float("nan"), "kd": 1.5}, "valid": {"loss": 2.0}}]
    HISTORY.write(tmp_path, history)
    text = (tmp_path / "history.json").read_text()
    assert "NaN" not in text and json.loads(text)[0]["train"] == {"loss": None, "kd": 1.5}
    assert HISTORY.read(tmp_path)[0]["train"] == {"loss": None, "kd": 1.5}
    (tmp_path / "history.json").write_text('[{"epoch": 1, "train": {"loss": NaN}}]')
    assert HISTORY.read(tmp_path) == [{"epoch": 1, "train": {"loss": None}}]
    (tmp_path / "history.json").write_text('[{"epoch": 2}, {"epoch": 1}]')
    with pytest.raises(UserError, match="history.json: epoch: the numbers do not rise"):
        HISTORY.read(tmp_path)
    assert FACTS.read_if_there(tmp_path) is None
    with pytest.raises(UserError, match="facts.json: no such file; train the model again"):
        FACTS.read(tmp_path)


def test_a_write_that_fails_leaves_the_old_record(tmp_path):
    FACTS.write(tmp_path, {"epochs": 1})
    with pytest.raises(TypeError):
        FACTS.write(tmp_path, {"epochs": {1, 2}})
    assert FACTS.read(tmp_path) == {"epochs": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "facts.json", "wb") as f:
        f.truncate(2**33)  # a hole: takes no disk
    with pytest.raises(UserError, match="facts.json: larger than 67,108,864 bytes; train the m"):
        FACTS.read(tmp_path)


def test_messages_do_not_repeat_large_values(tmp_path):
    record = Record("x.json", dict, "make it again")
    (tmp_path / "x.json").write_text(json.dumps(["x" * 9999]))
    with pytest.raises(UserError) as e:
        Record(record.file, FACTS.shape, record.remake).read(tmp_path)
    assert len(str(e.value)) < 200
    with pytest.raises(UserError, match=r"^a\.b\[1\]: expected a number, found 'x'$"):
        from typing import Dict, List

        check_shape({"b": [1.0, "x"]}, Dict[str, List[float]], "a")
