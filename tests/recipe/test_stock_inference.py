"""A student decodes with unmodified ESPnet where there is no espnet_kd."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
MESSAGE = "espnet_kd is kept away by a test"
WHERE = "logdir/output.1"


@pytest.fixture(scope="module")
def without_us(tmp_path_factory):
    """Python's path with a package in our place that cannot be imported; the repo is not in it."""
    folder = tmp_path_factory.mktemp("without_us")
    (folder / "espnet_kd").mkdir()
    (folder / "espnet_kd/__init__.py").write_text(f"raise ImportError({MESSAGE!r})\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def run(first_run):
    return first_run[0]


def lines(folder):
    """utterance -> (text, token IDs, score)."""
    columns = [
        dict(line.partition(" ")[::2] for line in (folder / name).read_text().splitlines())
        for name in ("text", "token_int", "score")
    ]
    assert set(columns[0]) == set(columns[1]) == set(columns[2])
    return {utt: tuple(column[utt] for column in columns) for utt in columns[0]}


def score(line):
    return float(line.removeprefix("tensor(").split(",")[0].rstrip(")"))


def test_espnet_kd_is_really_kept_away(run, without_us):
    for module in ("espnet_kd", "espnet_kd.espnet.task"):
        done = run.command([sys.executable, "-c", f"import {module}"], **without_us)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"ImportError: {MESSAGE}"


@pytest.mark.parametrize("streaming", [False, True], ids=["offline", "streaming"])
def test_stock_inference_says_what_ours_says(run, without_us, tmp_path, streaming):
    student = run.students[-1]
    if streaming:
        tag = run.stock_tag
        options = ["--streaming", "true", "--decoding_window", "640"]
    else:
        tag = run.offline_tag
        options = []  # `--streaming false` would be read as true
        run.ok(stage=16, stop_stage=16, compression_stage=2, use_streaming="false")
    ours = run.dir / student / tag / "test_seen"
    assert json.loads((ours / WHERE / "rtf.json").read_text())["streaming"] == streaming
    # Paths inside config.yaml (statistics of the features) start at the recipe's folder.
    done = run.command(
        [sys.executable, "-m", "espnet2.bin.asr_transducer_inference",
         "--config", "conf/decode.yaml",
         "--data_path_and_name_and_type", "dump/raw/test_seen/wav.scp,speech,sound",
         "--key_file", ours / "logdir/keys.1.scp",
         "--asr_train_config", student / "config.yaml",
         "--asr_model_file", student / run.model,
         "--output_dir", tmp_path, *options],
        **without_us,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stock, mine = lines(tmp_path / "1best_recog"), lines(ours / WHERE / "1best_recog")
    assert len(stock) == 6 and set(stock) == set(mine)
    assert sum(bool(text) for text, _, _ in stock.values()) >= 4  # there is something to compare
    for utt in stock:
        assert stock[utt][:2] == mine[utt][:2], utt
        assert score(stock[utt][2]) == pytest.approx(score(mine[utt][2]), rel=1e-5), utt
    joined = (ours / "text").read_text().splitlines()
    assert dict(line.partition(" ")[::2] for line in joined) == {u: x[0] for u, x in mine.items()}


def test_a_packed_student_says_the_same_in_another_place(run, without_us, tmp_path):
    """The archive of stage 18 is all there is, and the model card says how it is used."""
    student = run.students[-1]
    with zipfile.ZipFile(run.dir / student / f"packed/{student.name}.zip") as z:
        z.extractall(tmp_path)
    card = (tmp_path / "README.md").read_text()
    wav = (run.dir / "dump/raw/test_seen/wav.scp").read_text().split()
    pairs = zip(wav[::2], wav[1::2])
    (tmp_path / "wav.scp").write_text("".join(f"{utt} {run.dir / path}\n" for utt, path in pairs))
    (command,) = re.findall("```sh\n(.*?)```", card, re.S)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **without_us},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ours = run.dir / student / run.stock_tag / "test_seen" / WHERE
    stock, mine = lines(tmp_path / "decoded/1best_recog"), lines(ours / "1best_recog")
    assert len(stock) == 6 and sum(bool(text) for text, _, _ in stock.values()) >= 4
    assert {u: x[:2] for u, x in stock.items()} == {u: x[:2] for u, x in mine.items()}
    results = json.loads((run.dir / "exp/results.json").read_text())
    for model in results["models"]:
        assert f"{model['params']:,}" in card and f"{model['wer']['test_seen']:.2f}" in card
    assert f"this model's WER is {results['models'][-1]['wer_stock']['test_seen']:.2f} %" in card
    assert "SYNTHETIC" in card and "**third**" in card and "Teacher | half (" in card
