"""Statistics of features are numbers, and of all the data."""

import sys
from pathlib import Path

import numpy as np
import pytest

from espnet_kd.bin import check_stats

MEAN, VARIANCE = np.linspace(-9, -3, 20), np.linspace(1, 4, 20)


def write(part, samples, frames=None, **changes):
    folder = Path("stats") / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speech_shape").write_text("".join(f"u{i} {n}\n" for i, n in enumerate(samples)))
    count = frames or sum(n // 160 + 1 for n in samples)
    stats = {"count": count, "sum": count * MEAN, "sum_square": count * (VARIANCE + MEAN**2)}
    np.savez(folder / "feats_stats.npz", **{**stats, **changes})


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check_stats.py", "--stats_dir", "stats"])

    def run():
        with pytest.raises(SystemExit) as e:
            check_stats.main()
        err = capsys.readouterr().err
        assert (err == "") == (e.value.code == 0) and len(err.splitlines()) <= 1
        return err

    write("train", [16000, 30000, 200000])
    write("valid", [9000, 8000])
    return run


def test_sound_statistics(check):
    assert check() == ""


def one(value, k=7):
    sums = 1255 * MEAN
    sums[k] = value
    return sums


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sum": one(np.nan)}, "train/feats_stats.npz: 'sum' holds NaN or infinity"),
        ({"sum_square": one(np.inf)}, "'sum_square' holds NaN or infinity"),
        ({"count": np.nan}, "'count' holds NaN"),
        ({"count": 0}, "'count' is 0 frames"),
        ({"frames": 2}, "'count' is 2 frames, of 3 utterances"),
        ({"frames": 300_000}, "'count' is 300,000 frames"),
        ({"frames": 900}, "samples a frame in train, "),  # a job's part is missing
        ({"sum_square": one(0.0)}, "'sum_square' is less than it can be"),
        ({"sum": MEAN, "sum_square": MEAN**2, "count": 1}, "no feature ever changes"),
        ({"sum": MEAN[:3]}, "not the statistics of features: shapes are"),
        ({"count": np.array(["x"])}, "not the statistics of features"),
    ],
)
def test_unsound_statistics(check, changes, message):
    write("train", [16000, 30000, 200000], **changes)
    err = check()
    assert err.startswith("check_stats: error: stats") and message in err, err


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04"])
def test_files_that_are_none(check, content):
    path = Path("stats/valid/feats_stats.npz")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    err = check()
    assert "stats/valid/feats_stats.npz: no" in err and "stage 10" in err
