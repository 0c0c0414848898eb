"""The command line `report`: the files it writes, from files as the recipe leaves them."""

import json
import shutil
import sys

import numpy as np
import pytest
from fake_run import CHECKPOINT, TAG, WORDS, add_scores, add_speed, params, state_dict

from espnet_kd.bin.report import main
from espnet_kd.common.device_weights import write_device
from espnet_kd.scoring.bootstrap import paired_interval
from espnet_kd.scoring.counts import read_counts
from espnet_kd.scoring.score import score

MODELS = ["--model=teacher=exp/asr_teacher", "--model=s1=exp/asr_s1", "--model=s2=exp/asr_s2"]


def run(*more, models=MODELS, sets="seen new"):
    argv = ["--exp=exp", f"--inference_tag={TAG}", "--test_sets", sets, "--draws=300"]
    with pytest.raises(SystemExit) as exit_:
        main([*argv, *models, *more])
    return exit_.value.code


def test_a_form_for_devices_has_columns_of_its_own(run_dir):
    path = run_dir / "asr_s2" / f"device.{CHECKPOINT[:-4]}.npz"
    weights = {"encoder.w": np.zeros((20, 10), np.float32), "normalize.mean": np.zeros(80)}
    write_device(weights, path)
    assert run() == 0
    teacher, _, last = json.loads((run_dir / "results.json").read_text())["models"]
    assert last["device_params"] == 200 and "device_mb" not in teacher
    assert last["device_mb"] == pytest.approx(path.stat().st_size / 1e6, abs=1e-4)
    text = (run_dir / "RESULTS.md").read_text()
    assert "| Parameters on a device | MB on a device |" in text and "| 200 | 0.00" in text
    path.unlink()
    assert run() == 0 and "on a device" not in (run_dir / "RESULTS.md").read_text()


@pytest.fixture
def results(run_dir):
    assert run("--note", "synthetic speech") == 0
    data = json.loads((run_dir / "results.json").read_text())
    return run_dir, data, (run_dir / "RESULTS.md").read_text()


def test_results_json(results):
    exp, data, _ = results
    assert set(data) >= {"models", "environment", "method", "test_sets"}
    assert [m["name"] for m in data["models"]] == ["teacher", "s1", "s2"]
    assert [m["stage"] for m in data["models"]] == [0, 1, 2]
    teacher, _, last = data["models"]
    assert teacher["params"] == params(40) and last["params"] == params(20)
    assert last["params_total"] == params(20) + 7 * 20
    assert last["compression"] == pytest.approx(1 - params(20) / params(40), abs=1e-4)
    assert last["size_mb"] == pytest.approx(
        (exp / "asr_s2" / CHECKPOINT).stat().st_size / 1e6, abs=1e-4
    )
    assert last["train_seconds"] == 110 and last["peak_memory_mb"] == 700.5
    assert last["updates"] == 40
    assert teacher["wer_diff"] is None
    for score_type in ("wer", "cer"):
        for test_set in ("seen", "new"):
            own, base = (
                read_counts(exp / f"asr_{m}" / TAG / test_set / f"score_{score_type}/counts.tsv")
                for m in ("s2", "teacher")
            )
            words = [c.ref_words for c in own.values()]
            errors, baseline = ([c.errors for c in x.values()] for x in (own, base))
            rate = 100 * sum(errors) / sum(words)
            assert last[score_type][test_set] == pytest.approx(rate, abs=1e-4)
            i = paired_interval(errors, baseline, words, draws=300)
            expected = {"diff": i.diff, "low": i.low, "high": i.high}
            assert last[f"{score_type}_diff"][test_set] == pytest.approx(expected, abs=1e-4)
            counts = last["errors"][score_type][test_set]
            kinds = ("substitutions", "deletions", "insertions")
            assert sum(counts[k] for k in kinds) == sum(errors)
            assert counts["ref_words"] == sum(words)


def test_results_md(results):
    exp, data, text = results
    lines = text.splitlines()
    assert lines[2] == "> **synthetic speech**"
    assert lines[4].startswith("The smallest student, s2, is 70.0 % smaller than the teacher")
    # The table has the rows of results.json.
    for m in data["models"]:
        row = next(line for line in lines if line.startswith(f"| {m['stage']} | {m['name']} |"))
        assert f"| {m['params']:,} |" in row
        for test_set in ("seen", "new"):
            assert f"| {m['wer'][test_set]:.2f} |" in row
    for plot in ("wer_vs_params.png", "loss_curves.png", "dev_wer_curves.png"):
        assert f"]({plot})" in text
        assert (exp / plot).read_bytes().startswith(b"\x89PNG")
    # ESPnet's block and tables.
    assert "# RESULTS\n## Environments\n- date: `" in text
    assert f"- pytorch version: `pytorch {data['environment']['torch']}`" in text
    start = lines.index("## exp/asr_s2")
    assert lines[start + 1] == "### WER"
    assert lines[start + 3] == "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|"
    cells = lines[start + 5].strip("|").split("|")
    assert cells[:2] == [f"{TAG}/seen", "120"]
    assert float(cells[7]) == pytest.approx(data["models"][2]["wer"]["seen"], abs=0.051)
    assert not list(exp.glob(".*tmp"))


def test_runs_are_equal(results):
    exp, data, text = results
    assert run("--note", "synthetic speech") == 0
    again = json.loads((exp / "results.json").read_text())
    del data["environment"], again["environment"]
    assert data == again


def test_external_teacher_has_gaps(run_dir):
    """A teacher that was trained elsewhere: no facts, no history, a checkpoint of its own."""
    for file in ("facts.json", "history.json"):
        (run_dir / "asr_teacher" / file).unlink()
    shutil.rmtree(run_dir / "asr_teacher" / TAG / "seen/logdir")
    shutil.rmtree(run_dir / "asr_teacher" / TAG / "new/logdir")
    outside = run_dir.parent / "elsewhere.pth"
    (run_dir / "asr_teacher" / CHECKPOINT).rename(outside)
    models = [f"--model=teacher=exp/asr_teacher:{outside}", *MODELS[1:]]
    assert run(models=models) == 0
    teacher = json.loads((run_dir / "results.json").read_text())["models"][0]
    for key in ("rtf", "train_seconds", "updates", "peak_memory_mb", "decode_memory_mb"):
        assert teacher[key] is None
    row = next(x for x in (run_dir / "RESULTS.md").read_text().splitlines() if "| teacher |" in x)
    assert row.endswith("| – | – | – | – |")


def test_espnets_own_streaming_stands_beside_ours(run_dir):
    for k, name in enumerate(("teacher", "s1", "s2")):
        folder = run_dir / f"asr_{name}"
        add_scores(folder, ("seen", "new"), 0.5, 7 + k, tag="decode_x_stock")
    assert run("--decoding=aligned", "--stock_tag=decode_x_stock") == 0
    data = json.loads((run_dir / "results.json").read_text())
    assert (data["decoding"], data["stock_tag"]) == ("aligned", "decode_x_stock")
    last = data["models"][-1]
    counts = read_counts(run_dir / "asr_s2/decode_x_stock/new/score_wer/counts.tsv").values()
    rate = 100 * sum(c.errors for c in counts) / sum(c.ref_words for c in counts)
    assert last["wer_stock"]["new"] == pytest.approx(rate, abs=1e-4) and rate > last["wer"]["new"]
    text = (run_dir / "RESULTS.md").read_text()
    section = text.partition("## With ESPnet's own streaming")[2]
    assert "| Model | WER % seen | ESPnet's seen | WER % new | ESPnet's new |" in section
    assert f"{last['wer']['new']:.2f} | {rate:.2f} |" in section
    assert run() == 0
    data = json.loads((run_dir / "results.json").read_text())
    assert data["models"][0]["wer_stock"] is None and data["stock_tag"] is None
    assert "own streaming" not in (run_dir / "RESULTS.md").read_text()
    assert run("--decoding=aligned") == 0  # nobody takes its rates for ESPnet's
    assert "costs words; how many was not measured" in (run_dir / "RESULTS.md").read_text()


def test_joules_and_kilowatt_hours_stand_there_where_they_are_known(run_dir):
    add_speed(run_dir, teacher=0.07, s1=0.05)
    plain = (run_dir / "speed.json").read_text()
    assert run("--speed=exp/speed.json") == 0
    text = (run_dir / "RESULTS.md").read_text()
    assert "joules of decoding: not measured here." in text
    assert "| J per hour |" not in text and "kWh" not in text
    speed = json.loads(plain)
    speed["energy"] = {"not_measured": "energy_uj: may not be read"}
    (run_dir / "speed.json").write_text(json.dumps(speed))
    assert run("--speed=exp/speed.json", "--train_watts=250") == 0
    text = (run_dir / "RESULTS.md").read_text()
    assert "joules of decoding: not measured (energy_uj: may not be read)." in text
    assert "| J per hour |" not in text and "| kWh | of the path |" in text
    models = json.loads((run_dir / "results.json").read_text())["models"]
    for model in models:
        expected = None
        if model["cost"]["seconds"] is not None:
            expected = pytest.approx(250 * model["cost"]["seconds"] / 3.6e6, rel=1e-3)
        assert model["cost"]["kwh"] == expected
    assert any(model["cost"]["kwh"] for model in models)
    speed["energy"] = {"counters": ["package-0", "dram"]}
    speed["models"]["s1"]["joules_per_hour"] = 1234.4
    (run_dir / "speed.json").write_text(json.dumps(speed))
    assert run("--speed=exp/speed.json") == 0
    text = (run_dir / "RESULTS.md").read_text()
    rows = {line.split("|")[2].strip(): line for line in text.splitlines() if "| 70" in line}
    assert "| 1,234 |" in rows["s1"] and "| – |" in rows["teacher"]
    assert "of all that package-0, dram took meanwhile by RAPL's counters" in text


@pytest.mark.parametrize("watts", ["0", "nan", "-3", "many"])
def test_a_power_is_a_number(run_dir, capsys, watts):
    assert run(f"--train_watts={watts}") == 2
    assert f"'{watts}' is not a number of watts, above 0" in capsys.readouterr().err


def test_the_speed_is_that_of_one_process_and_says_what_went_on_beside(run_dir):
    add_speed(run_dir, teacher=0.07312, s1=0.05)
    assert run("--speed=exp/speed.json") == 0
    data = json.loads((run_dir / "results.json").read_text())
    assert [m["rtf"] for m in data["models"]] == [
        {"median": 0.07312, "p95": 0.1462}, {"median": 0.05, "p95": 0.1}, None
    ]  # fmt: skip
    assert [m["decode_memory_mb"] for m in data["models"]] == [300.5, 300.5, None]
    assert data["speed"]["load"] == [0.3, 1.24] and "models" not in data["speed"]
    text = (run_dir / "RESULTS.md").read_text()
    rows = {line.split("|")[2].strip(): line for line in text.splitlines() if "| 70" in line}
    assert "| 0.073 (0.146) |" in rows["teacher"] and "| 0.050 (0.100) |" in rows["s1"]
    assert "| – |" in rows["s2"]
    assert (
        "- *RTF*: seconds of decoding for a second of speech; median over 40 utterances (119 s of "
        "speech), decoded chunk by chunk, not in batches, by all models in turn in one process on "
        "one thread, in brackets the 95th percentile; A processor, cores: 2, load 0.3 before and "
        "1.2 after"
    ) in text
    # What jobs took that ran beside others is not published.
    assert run() == 0
    text = (run_dir / "RESULTS.md").read_text()
    assert "for a second of speech; not measured here." in text


@pytest.mark.parametrize("text", ["{}", '{"models": {"s1": {"median": 1}}}', "[1]", "{"])
def test_a_file_that_measure_speed_did_not_write(run_dir, capsys, text):
    (run_dir / "speed.json").write_text(text)
    assert run("--speed=exp/speed.json") == 1
    err = capsys.readouterr().err
    assert "error: exp/speed.json: " in err and err.count("\n") == 1


def test_what_is_not_scored_is_named(run_dir):
    assert run("--left_out=s3", "--left_out=scratch") == 0
    text = (run_dir / "RESULTS.md").read_text()
    assert "Not scored on all test sets, and left out: s3, scratch." in text
    assert json.loads((run_dir / "results.json").read_text())["left_out"] == ["s3", "scratch"]


def test_only_a_teacher(run_dir, capsys):
    assert run(models=MODELS[:1], sets="seen") == 0
    assert "no student yet" in capsys.readouterr().out


def test_without_matplotlib(run_dir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run() == 0
    assert "pip install matplotlib" in capsys.readouterr().err
    assert ".png" not in (run_dir / "RESULTS.md").read_text()


def test_without_git(run_dir, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run() == 0
    assert json.loads((run_dir / "results.json").read_text())["environment"]["git_commit"] is None


def test_infinite_losses_are_left_out(run_dir):
    (run_dir / "asr_s1/history.json").write_text(
        '[{"epoch": 1, "train": {"loss": NaN}}, {"epoch": 2, "valid": {"loss": Infinity}}]'
    )
    assert run() == 0


def remove(path):
    return lambda exp: (exp / path).unlink()


def write(path, text):
    return lambda exp: (exp / path).write_text(text)


def save(path, state):
    def break_(exp):
        import torch

        torch.save(state, exp / path)

    return break_


def other_references(exp):
    refs = {f"s0-u{n}": WORDS[n % 10] for n in range(20)}
    score(refs, refs, dict.fromkeys(refs, "s0"), exp / f"asr_s2/{TAG}/new/score_wer", "wer")


WER = f"asr_s1/{TAG}/new/score_wer"


@pytest.mark.parametrize(
    "break_, message",
    [
        (remove(f"{WER}/counts.tsv"), f"{WER}/counts.tsv: no such file; score this model first"),
        (remove(f"{WER}/result.txt"), f"{WER}/result.txt: no line 'Sum/Avg'"),
        (write(f"{WER}/counts.tsv", "utt\n"), f"{WER}/counts.tsv:1: the header is not"),
        (
            write(f"{WER}/counts.tsv", "utt\tref_words\tC\tS\tD\tI\na\t1\n"),
            f"{WER}/counts.tsv:2: not a row of counts",
        ),
        (write(f"{WER}/counts.tsv", "utt\tref_words\tC\tS\tD\tI\n"), "no reference words in it"),
        (other_references, "new: s2 and teacher were scored on different references"),
        (remove(f"asr_s2/{CHECKPOINT}"), f"asr_s2/{CHECKPOINT}: no such checkpoint"),
        (write(f"asr_s2/{CHECKPOINT}", "text"), "not a readable checkpoint"),
        (save(f"asr_s2/{CHECKPOINT}", {"epoch": 3}), "not the parameters of a model"),
        (save(f"asr_s2/{CHECKPOINT}", [1]), "not the parameters of a model"),
        (
            save(f"asr_s2/{CHECKPOINT}", {"encoder.w": state_dict(2)["decoder.embed.weight"]}),
            "not a transducer",
        ),
        (write("asr_s2/facts.json", "{"), "asr_s2/facts.json: line 1: not JSON"),
        (write("asr_s2/history.json", "{}"), "asr_s2/history.json: expected a list, found '{}'"),
        (
            write(
                f"asr_s2/{TAG}/new/logdir/output.1/rtf.json",
                '{"audio_seconds": 1, "decode_seconds": 1, "hit_limit": "1"}',
            ),
            "rtf.json: hit_limit: expected a whole number, found '1'; ",
        ),
        (write("asr_s2/history.json", "[{}]"), "history.json: [0]: no field 'epoch'"),
        (
            lambda exp: (exp / f"{WER}/counts.tsv").write_bytes(b"\xff"),
            f"{WER}/counts.tsv: not UTF-8",
        ),
    ],
)
def test_bad_files_are_one_line(run_dir, capsys, break_, message):
    break_(run_dir)
    assert run() == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (run_dir / "results.json").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--model=x"], "not of the form NAME=DIR"),
        (["--model=a b=exp/asr_s1"], "not of the form NAME=DIR"),
        (["--model=s1=exp/asr_s2"], "the name 's1' is used twice"),
        (["--model=x=exp/none"], "exp/none is not a directory"),
        (["--test_sets", "seen", "seen"], "name each test set once"),
        (["--also_on=s1"], "--also_on s1: not of the form NAME=PATH"),
        (["--also_on=s3=one_shot"], "--also_on s3=one_shot: no model 's3'"),
        (["--draws=0"], "--draws 0"),
        (["--seed=-1"], "--seed -1: 0 or more"),
        (["--exp=exp/asr_s1/facts.json"], "--exp exp/asr_s1/facts.json: a file"),
    ],
)
def test_bad_options_are_one_line(run_dir, capsys, more, message):
    assert run(*more) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
