"""A cache on disk: whole parts, going on after a kill, refusals."""

import dataclasses
import json

import kaldiio
import numpy as np
import pytest

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.teachers import FORMAT, Archive, Fingerprint
from espnet_kd.teachers import archive as module
from espnet_kd.teachers.archive import check_keys, check_space, size

FINGERPRINT = Fingerprint(
    teacher_model="a" * 64,
    teacher_config="b" * 64,
    tokens="c" * 64,
    features={"n_fft": 640, "fmax": 8000.0, "window": None},
    subsampling={"factor": 4, "vgg_like": False},
    chunk_size=20,
    band=0,
    made_from="exp/asr/model.pth",
)


@pytest.fixture
def cache(tmp_path):
    FINGERPRINT.claim(tmp_path / "with space/cache")
    return Archive(tmp_path / "with space/cache/set")


@pytest.fixture
def folder(tmp_path):
    FINGERPRINT.claim(tmp_path / "cache")
    return tmp_path / "cache"


def record(n):
    """Any numbers, the smallest and the largest among them."""
    return np.linspace(-(2**15), 2**15 - 1, n).astype(np.int16)


def test_what_is_added_is_read_back(cache, monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 50)  # 25 numbers
    for i in range(7):
        cache.add("1of2", f"utt{i}", record(10 + i))
    cache.flush("1of2")
    cache.flush("1of2")  # nothing waits: no empty part
    other = Archive(cache.folder)
    other.add("2of2", "a-utt", record(3))
    other.flush("2of2")
    assert len(list((cache.folder / "parts").glob("*.ark"))) == 4
    keys = [f"utt{i}" for i in range(7)] + ["a-utt"]
    total = cache.close(keys)
    assert total == sum(p.stat().st_size for p in (cache.folder / "parts").glob("*.ark"))
    assert list(read_table(cache.scp)) == sorted(keys)
    read = kaldiio.load_scp(str(cache.scp))
    for i in range(7):
        assert read[f"utt{i}"].shape == (10 + i, 1)
        assert np.array_equal(read[f"utt{i}"].round()[:, 0], record(10 + i))


def test_what_a_kill_leaves_is_not_taken_for_finished(cache):
    cache.add("rest", "a", record(4))
    cache.flush("rest")
    cache.add("rest", "b", record(4))  # waits: the process is killed now
    parts = cache.folder / "parts"
    (parts / "rest.1.0.ark").write_bytes(b"b half")  # ... or between ark and scp
    (parts / ".rest.1.1.ark.123.tmp").write_bytes(b"half")  # ... or while writing
    again = Archive(cache.folder)
    assert list(again.finished()) == ["a"]
    with pytest.raises(UserError, match="1 utterances are missing .'b' is the first"):
        again.close(["a", "b"])
    assert not cache.scp.exists()
    again.add("rest", "b", record(4))
    again.flush("rest")
    again.close(["a", "b"])
    assert not list(parts.glob(".*"))
    assert np.array_equal(kaldiio.load_scp(str(again.scp))["b"].round()[:, 0], record(4))


def test_a_write_that_fails_leaves_no_part(cache, monkeypatch):
    cache.add("rest", "a", record(4))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kaldiio, "save_ark", full)
    with pytest.raises(OSError, match="No space left"):
        cache.flush("rest")
    assert list((cache.folder / "parts").iterdir()) == []


CHANGES = [
    ({"teacher_model": "d" * 64}, "teacher_model is aaaaaaaa in the cache, dddddddd here"),
    ({"teacher_config": "d" * 64}, "teacher_config is"),
    ({"tokens": "d" * 64}, "tokens is"),
    ({"features": {"n_fft": 512, "fmax": 8000.0}}, "features.n_fft is 640 in the cache, 512"),
    ({"features": {**FINGERPRINT.features, "sr": 8000}}, "features.sr is None in the cache, 8000"),
    ({"subsampling": {"factor": 2, "vgg_like": False}}, "subsampling.factor is 4"),
    ({"chunk_size": 0}, "chunk_size is 20 in the cache, 0 here"),
    ({"band": 5}, "band is 0 in the cache, 5 here"),
    ({"temperature": 2.0}, "temperature is 1.0"),
    ({"format": FORMAT + 1}, f"format is {FORMAT}"),
]


@pytest.mark.parametrize("change, message", CHANGES)
def test_another_fingerprint_is_refused(folder, change, message):
    other = dataclasses.replace(FINGERPRINT, **change)
    assert other.digest() != FINGERPRINT.digest()
    with pytest.raises(UserError, match=message) as e:
        other.claim(folder)
    assert "\n" not in str(e.value) and str(folder) in str(e.value)
    assert "remove it or choose another --out" in str(e.value)
    assert Fingerprint.load(folder) == FINGERPRINT  # still the old one


def test_every_field_counts_but_where_it_came_from(folder):
    assert {name for change, _ in CHANGES for name in change} == set(FINGERPRINT.fields())
    dataclasses.replace(FINGERPRINT, made_from="elsewhere").claim(folder)
    found = Fingerprint.load(folder)
    found.check(folder, {"tokens": "c" * 64}, "")  # only what is asked is compared
    assert found.made_from == "exp/asr/model.pth" and found.digest() == FINGERPRINT.digest()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda text: "", "fingerprint.json: the file is empty; make the cache again"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "[]", "expected fields by name, found '\\[\\]'"),
        (lambda text: text.replace('"band"', '"bands"'), "unknown field 'bands'"),
        (lambda text: text.replace('"band": 0', '"band": 3'), "changed by hand"),
        (lambda text: text.replace(f'"format": {FORMAT}', '"format": 99'), "format is 99"),
        (None, "not a teacher cache, it has no fingerprint.json"),
    ],
)
def test_a_damaged_fingerprint_is_refused(folder, damage, message):
    path = folder / "fingerprint.json"
    if damage is None:
        path.unlink()
    else:
        assert damage(path.read_text()) != path.read_text()
        path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=message) as e:
        Fingerprint.load(folder)
    assert "\n" not in str(e.value)


def test_the_fingerprint_is_readable(folder):
    found = json.loads((folder / "fingerprint.json").read_text())
    assert found["features"]["n_fft"] == 640 and found["sha256"] == FINGERPRINT.digest()


def test_utterances_are_compared(cache):
    with pytest.raises(UserError, match="the cache is not finished"):
        check_keys(cache.scp, ["a"], "shape")
    cache.add("rest", "a", record(4))
    cache.flush("rest")
    cache.close(["a"])
    check_keys(cache.scp, ["a"], "shape")
    with pytest.raises(UserError, match="lacks 2 utterances of shape .'b' is the first"):
        check_keys(cache.scp, ["a", "b", "c"], "shape")


def test_space(tmp_path):
    free = check_space(tmp_path / "not/there/yet", 1)
    with pytest.raises(UserError, match=r"needs about .* TB, the disk has .*; free .*; hint"):
        check_space(tmp_path, free * 10**6, "; hint")
    assert [size(n) for n in (12, 1500, 25.7e9, 3.2e13)] == [
        "12 bytes", "1.5 kB", "25.7 GB", "32.0 TB"
    ]  # fmt: skip
