"""A row a student and format: what is read, compared and drawn of it."""

import json
import random
from dataclasses import replace

import pytest
from fake_run import CHECKPOINT, TAG, add_model, add_scores, add_speed, write_json

from espnet_kd.bin.report import main
from espnet_kd.common.records import DELAY, SPEED
from espnet_kd.device.description import GRAPHS, TOKENS
from espnet_kd.errors import UserError
from espnet_kd.report import plot_fronts
from espnet_kd.report.device_section import front_names
from espnet_kd.report.variants import Variant, pareto_front
from espnet_kd.run.reporting import _beyond

LATE = {"median": 400.0, "p90": 640.0}
SIZES = {"encoder.onnx": 3000, "predictor.onnx": 200, "joiner.onnx": 100, "tokens.txt": 30}


def write_exported(folder, form):
    folder.mkdir(parents=True)
    for name in (*GRAPHS, TOKENS):
        (folder / name).write_bytes(b"x" * SIZES[name])
    write_json(
        folder / "model.json",
        {
            "format": form, "sampling_rate": 16000, "n_fft": 640, "win_length": 400,
            "hop_length": 160, "n_mels": 40, "fmin": 0.0, "fmax": 8000.0, "htk": False,
            "log_floor": 1e-10, "subsampling": 4, "chunk_size": 16, "left_context": 32,
            "states": {"att": [3, 32, 8], "conv": [3, 8, 14]}, "token_type": "char",
            "predictor": "stateless", "source": {"model": "s1", "digest": "0"}, "bytes": SIZES,
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    """A teacher and a student with two formats, measured; and what the report says of them."""
    exp = tmp_path_factory.mktemp("variants") / "exp"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCLITE", "none")
        for seed, (name, width, error) in enumerate((("teacher", 40, 0.03), ("s1", 30, 0.05))):
            folder = add_model(exp, name, width, error, seed)
            add_scores(folder, ("seen", "new"), 0.4, seed, tag="decode_320")
    for form in ("float32", "int8"):
        write_exported(exp / f"asr_s1/exported/{form}", form)
    add_speed(exp, **{"teacher": 0.2, "s1": 0.1, "s1/float32": 0.02, "s1/int8": 0.03})
    draw = random.Random(1)
    errors = [draw.choice([0, 0, 1]) for _ in range(50)]
    more = [min(e + draw.choice([0, 0, 1]), 4) for e in errors]
    streaming = {"tokens": 900, "chunk_ms": 640.0, "latency_ms": 680.1}
    kinds = dict.fromkeys(("token", "first", "last", "frames"), LATE)
    models = {"teacher": errors, "s1": more, "s1/float32": errors, "s1/int8": more}
    write_json(
        exp / "delay.json",
        {
            "utterances": 50, "audio_seconds": 61.5, "alignment": "teacher", "words": [4] * 50,
            "models": {n: {"errors": e, **streaming, **kinds} for n, e in models.items()},
        },
    )  # fmt: skip
    return exp


def report(exp, *words):
    options = [f"--model={name}={exp}/asr_{name}" for name in ("teacher", "s1")]
    options += [f"--exp={exp}", f"--inference_tag={TAG}", "--test_sets", "seen", "new"]
    with pytest.raises(SystemExit) as exit_:
        main([*options, "--draws=200", f"--speed={exp}/{SPEED.file}", *words])
    return exit_.value.code


def test_each_student_in_each_format_has_a_row(exp, capsys):
    named = [f"--exported=s1/{f}={exp}/asr_s1/exported/{f}" for f in ("float32", "int8")]
    windows = ["--window=320=decode_320", f"--window=640={TAG}"]
    assert report(exp, *named, f"--delay={exp}/{DELAY.file}", *windows) == 0
    data = json.loads((exp / "results.json").read_text())
    teacher, s1, float32, int8 = data["variants"]
    assert [v["format"] for v in data["variants"]] == ["ESPnet", "ESPnet", "float32", "int8"]
    assert teacher["bytes"] == (exp / "asr_teacher" / CHECKPOINT).stat().st_size
    assert int8["bytes"] == 3300 and int8["relative_dir"] == "asr_s1/exported/int8"
    assert int8["rtf"] == {"median": 0.03, "p95": 0.06} and int8["decode_memory_mb"] == 300.5
    assert (s1["latency_ms"], s1["delay"]["last"]) == (680.1, LATE)
    assert teacher["wer_diff"] is None and float32["wer_diff"]["diff"] == 0
    assert int8["wer"] > float32["wer"] == teacher["wer"]
    assert int8["wer_diff"]["low"] <= int8["wer_diff"]["diff"] <= int8["wer_diff"]["high"]
    assert data["delay"] == {"utterances": 50, "audio_seconds": 61.5, "alignment": "teacher"}
    rates = data["models"][1]["wer_windows"]
    assert rates["640"] == data["models"][1]["wer"] and rates["320"]["new"] > rates["640"]["new"]

    text = (exp / "RESULTS.md").read_text()
    section = text.partition("## On a device")[2].partition("\n## ")[0]
    row = next(line for line in section.splitlines() if line.startswith("| s1 | int8 |"))
    assert "| 3,300 | " in row and "| 0.0300 (0.0600) | 300 | 680 | 400 (640) |" in row
    assert "less bytes: s1 float32" in section and "best path of `teacher`" in section
    assert "| Model | seen, 320 ms | seen, 640 ms | new, 320 ms | new, 640 ms |" in text
    for name in ("bytes", "rtf"):
        assert (exp / f"wer_vs_{name}.png").stat().st_size > 5000
        assert f"](wer_vs_{name}.png)" in text
    delay = json.loads((exp / "delay.json").read_text())
    speakers, sources = ([f"x{k % n}" for k in range(50)] for n in (7, 25))
    write_json(exp / "delay.json", {**delay, "speakers": speakers, "sources": sources})
    widths = {}
    for draw, drawn in (
        ("auto", "its 7 speakers, each with all utterances"),
        ("recordings", "its 25 recordings, each with all versions (as asked for)"),
        ("utterances", "its 50 utterances (as asked for)"),
    ):
        assert report(exp, f"--delay={exp}/{DELAY.file}", f"--draw={draw}") == 0
        text = (exp / "RESULTS.md").read_text().partition("## On a device")[2]
        assert f"(drawn are {drawn}" in " ".join(text.split())
        diff = json.loads((exp / "results.json").read_text())["variants"][1]["wer_diff"]
        widths[draw] = diff["high"] - diff["low"]
    assert len(set(widths.values())) == 3
    for name, labels in (("speakers", speakers), ("sources", sources)):
        write_json(exp / "delay.json", {**delay, name: labels[:49]})
        with pytest.raises(UserError, match=f"delay.json: {name}: expected 50, found 49"):
            DELAY.read(exp)
    write_json(exp / "delay.json", delay)
    assert report(exp) == 0
    assert "## On a device" not in (exp / "RESULTS.md").read_text()
    for option, said in {
        "--exported=s1=x": "--exported s1=x: not of the form NAME/FORMAT=DIR",
        "--exported=s2/int8=x": "--exported s2/int8=x: no --model is named 's2'",
        "--window=long=x": "--window long=x: not of the form MILLISECONDS=TAG",
    }.items():
        capsys.readouterr()
        assert report(exp, option) == 1 and said in capsys.readouterr().err


def test_a_format_has_its_joules_where_they_are_known(exp):
    speed = json.loads((exp / SPEED.file).read_text())
    named = f"--exported=s1/int8={exp}/asr_s1/exported/int8"
    speed["energy"] = {"counters": ["package-0"]}
    speed["models"]["s1/int8"]["joules_per_hour"] = 321.4
    kept = (exp / SPEED.file).read_text()
    write_json(exp / SPEED.file, speed)
    assert report(exp, named) == 0
    (exp / SPEED.file).write_text(kept)
    section = (exp / "RESULTS.md").read_text().partition("## On a device")[2]
    assert "| RTF | J per hour | Peak MiB |" in section
    assert "| s1 | int8 | 3,300 |" in section and "| 0.0300 (0.0600) | 321 | 300 |" in section
    assert report(exp, named) == 0
    section = (exp / "RESULTS.md").read_text().partition("## On a device")[2]
    assert "| RTF | Peak MiB |" in section


def test_what_is_beyond_the_margin_is_marked_and_on_no_front(exp):
    good = Variant("s1", "int8", "x", 10, None, None, None, None, None, {}, 1.0, None)
    bad = replace(good, format="int4", bytes=5, beyond="WER is 2.00 points higher")
    assert front_names([good, bad], [10.0, 5.0]) == ["s1 int8"]
    path = exp / "asr_s1/exported/int8/model.json"
    kept = path.read_text()
    write_json(path, {**json.loads(kept), "beyond": "WER is 2.00 points higher"})
    named = f"--exported=s1/int8={exp}/asr_s1/exported/int8"
    assert report(exp, named, f"--delay={exp}/{DELAY.file}") == 0
    assert _beyond(str(path.parent)) == "WER is 2.00 points higher"  # what stage 21 says of it
    path.write_text(kept)
    assert _beyond(str(path.parent)) == _beyond(str(exp)) == ""
    text = (exp / "RESULTS.md").read_text()
    assert "| s1 | int8 \\* | 3,300 |" in text
    assert "s1 int8 was beyond the margin when exported: WER is 2.00 points higher" in text
    variants = json.loads((exp / "results.json").read_text())["variants"]
    assert [v["beyond"] for v in variants] == ["", "", "WER is 2.00 points higher"]


def test_the_front_holds_what_nothing_beats_in_both():
    assert pareto_front([(5, 2.0), (1, 3.0), (2, 3.0), (3, 2.0), (4, 1.9), (1, 3.0)]) == [1, 3, 4]
    assert pareto_front([]) == []


def test_names_keep_clear_of_each_other():
    """Boxes overlap if they share an inner point."""
    assert plot_fronts._overlap((0, 0, 2, 1), (1, 0.5, 3, 2))
    assert not plot_fronts._overlap((0, 0, 1, 1), (1, 0, 2, 1))
