"""The benchmarks work, and what they compare is the same. Times are never asserted."""

import csv
import json
import os
import subprocess
import sys

import pytest

from espnet_kd.errors import UserError

TINY = ["--device", "cpu", "--threads", "1", "--batch", "3"]


def run(repo, tool, *options):
    environment = {**os.environ, "PYTHONPATH": str(repo), "ESPNET_KD_SHARED": "missing"}
    command = [sys.executable, str(repo / "tools" / tool), *map(str, options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return list(csv.DictReader(f))


@pytest.fixture
def tools(repo, monkeypatch):
    """Import from tools/ as the programs there do."""
    monkeypatch.syspath_prepend(str(repo / "tools"))


def test_bench_lattice(repo, tmp_path):
    """It compares all losses before it times, and fails if two differ."""
    pytest.importorskip("torchaudio")
    table, numbers = tmp_path / "new" / "rows.csv", tmp_path / "rows.json"
    sizes = ["--vocabularies", 12, 30, "--shrink", 12, "--dim", 8, "--teacher_dim", 6]
    outputs = ["--repeats", 1, "--csv", table, "--json", numbers]
    done = run(repo, "bench_lattice.py", *TINY, *sizes, *outputs)
    assert done.returncode == 0, done.stderr
    rows = rows_of(table)
    variants = {row["variant"] for row in rows}  # `fast_rnnt` too, where it is installed
    assert {"plain", "naive_full", "ours_full", "ours_band", "ours_band_cached"} <= variants
    assert len(rows) == len(json.loads(numbers.read_text())) == 2 * 3 * len(variants)
    assert {row["batch"] for row in rows} == {"equal", "sorted", "unsorted"}
    assert {row["V"] for row in rows} == {"12", "30"}
    for row in rows:
        assert row["lengths"].startswith("stored quantiles")
        assert float(row["peak_mb"]) >= 0 and float(row["time_ms"]) > 0
        assert float(row["load_average"]) >= 0 and row["threads"] == "1"
        alone = ("plain", "ours", "fast_rnnt", "floor", "floor_full")
        assert (row["loss_kd"] == "") == (row["variant"] in alone)
        if row["variant"] == "plain":
            assert float(row["time_ratio"]) == float(row["peak_ratio"]) == 1
        if row["batch"] == "equal":
            assert float(row["padding"]) == 1
    full = [row["loss_kd"] for row in rows if row["variant"].endswith("full")][:2]
    assert float(full[0]) == pytest.approx(float(full[1]), rel=1e-4)
    assert "| unsorted | 30 |" in done.stdout and "ours_collapsed_cached" in done.stdout


def test_bench_step(repo, tmp_path):
    table = tmp_path / "rows.csv"
    options = ["--quick", "--batches", "unsorted", "--csv", table]
    done = run(repo, "bench_step.py", *TINY, *options)
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in rows_of(table)}
    assert set(rows) == {
        "plain", "ours", "ours_cached", "ours_collapsed", "ours_full", "ours_band",
        "ours_band_cached", "teacher_forward",
    }  # fmt: skip
    plain = float(rows["plain"]["loss_rnnt"])
    assert all(
        float(rows[name]["loss_rnnt"]) == pytest.approx(plain, rel=1e-4)
        for name in rows
        if name != "teacher_forward" and "band" not in name
    )
    # Both bands are of the same model, to which an alignment was added.
    banded = [float(rows[name]["loss_rnnt"]) for name in ("ours_band", "ours_band_cached")]
    assert banded[0] == pytest.approx(banded[1], rel=1e-3)
    cached, online = (float(rows[f"ours_{name}"]["loss_kd"]) for name in ("cached", "collapsed"))
    assert cached == pytest.approx(online, rel=1e-2)  # a cache has 16 bits


def test_bench_recursion(repo):
    done = run(repo, "bench_recursion.py", "--repeats", "1", "--batches", "2")
    assert done.returncode == 0, done.stderr
    head, _, row = (line.strip("| ").split(" | ") for line in done.stdout.splitlines())
    found = dict(zip(head, row))
    assert float(found["diagonal, error"]) < 1e-6 and float(found["torchaudio, error"]) < 1e-2


def test_losses_that_differ_are_refused(tools):
    from benchcli import check_losses

    nan = float("nan")
    found = {"plain": {"rnnt": 5.0, "kd": nan}, "naive_full": {"rnnt": 5.0, "kd": 2.0}}
    check_losses({**found, "ours_full": {"rnnt": 5.0001, "kd": 2.0001}})
    with pytest.raises(RuntimeError, match=r"the kd loss: naive_full 2, ours_full 2\.1"):
        check_losses({**found, "ours_full": {"rnnt": 5.0, "kd": 2.1}})
    with pytest.raises(RuntimeError, match="the rnnt loss"):
        check_losses({**found, "ours_full": {"rnnt": nan, "kd": 2.0}})


def test_peak_memory_is_what_a_block_took(tools):
    import benchlib

    from espnet_kd.peak_memory import return_freed_memory

    def measured():
        import torch

        torch.set_num_threads(1)  # a forked process must not ask for its parent's threads
        return_freed_memory()  # or what glibc keeps for the tests before this one counts, too
        torch.ones(2**20)
        with benchlib.PeakMemory("cpu") as peak:
            torch.ones(64 * 2**20)  # 256 MB, freed at once
            torch.ones(24 * 2**20)
        return peak.used, peak.absolute

    used, absolute = benchlib.in_child(measured)
    slack = 48 * benchlib.MB  # a kernel's counters are off by up to 128 pages a core
    assert abs(used - 256 * benchlib.MB) < slack and absolute > used


def test_a_child_that_fails_says_why(tools):
    import benchlib

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        benchlib.in_child(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="ended without a result"):
        benchlib.in_child(lambda: os._exit(3))


def test_a_corpus_that_was_named_is_not_replaced(tools, tmp_path):
    from benchdata import read_lengths

    for corpus in (tmp_path, tmp_path / "no"):
        with pytest.raises(UserError, match=f"--corpus {corpus}: no <speaker>/<chapter>/"):
            read_lengths(corpus, 500)


def test_batches(tools, monkeypatch):
    from benchdata import Length, draw, lattice, read_lengths

    monkeypatch.setenv("ESPNET_KD_SHARED", "missing")
    utterances = read_lengths(None, 500).utterances
    assert min(x.frames for x in utterances) > 0 and max(x.frames for x in utterances) < 500
    batch = draw("sorted", utterances, 16, 1e9, 500, seed=0)
    assert len(batch) == 16 and batch == sorted(batch)
    assert max(x.frames for x in batch) - min(x.frames for x in batch) < 100
    small = draw("unsorted", utterances, 16, 40e6, 500, seed=0)
    assert (
        lattice(small) * 500 <= 40e6 < lattice(draw("unsorted", utterances, 16, 1e9, 500, 0)) * 500
    )
    assert len(set(draw("equal", utterances, 16, 40e6, 500, seed=0))) == 1
    assert Length(100, 9).shorter(5) == Length(20, 1)


def test_lengths_of_real_speech(tools, shared_data):
    from benchdata import read_lengths

    pytest.importorskip("sentencepiece")
    corpus = shared_data / "mini_librispeech" / "LibriSpeech" / "train-clean-5"
    counted, scaled = read_lengths(corpus, 500), read_lengths(corpus, 5000)
    assert len(counted.utterances) == len(scaled.utterances) == 1519
    assert counted.source == "train-clean-5, labels counted"
    assert scaled.source == "train-clean-5, 4.35 characters a label"
    frames = sum(x.frames for x in counted.utterances)
    assert frames / 25 / 3600 == pytest.approx(5.31, abs=0.02)
    assert sum(x.labels for x in scaled.utterances) < sum(x.labels for x in counted.utterances)


def test_bench_decode(tools, tmp_path, capsys):
    """It compares the hypotheses of all ways that give the same."""
    import bench_decode
    import numpy as np
    import soundfile

    from tests.espnet.tiny import tiny_config, write_experiment

    config = tiny_config(non_linguistic_symbols=None, cleaner=None, g2p=None)
    exp = write_experiment(tmp_path / "m", config)
    for k in range(2):
        noise = 0.1 * np.random.default_rng(k).standard_normal(9000 + 3000 * k)
        soundfile.write(tmp_path / f"{k}.wav", noise, 16000)
    lines = "".join(f"u{k} {tmp_path}/{k}.wav\n" for k in range(2))
    (tmp_path / "wav.scp").write_text(lines)
    words = ["--exp", str(exp), "--inference_model", "model.pth", "--data", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        bench_decode.main([*words, "--repeats", "1", "--json", str(tmp_path / "rows.json")])
    assert exit_.value.code == 0
    rows = {row["variant"]: row for row in json.loads((tmp_path / "rows.json").read_text())}
    assert list(rows) == ["stock", "stream", "single", "batched", "greedy"]
    for name in ("stream", "single", "batched"):
        assert rows[name]["same"] == rows[name]["utterances"] == 2 and rows[name]["rtf"] > 0
    assert rows["stock"]["times_stock"] == 1
    assert "| batched |" in capsys.readouterr().out
