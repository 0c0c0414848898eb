"""A teacher cache from the teacher to a finished training."""

import dataclasses
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.dataset import ESPnetDataset

from espnet_kd.data.audio import decode, encode, resample
from espnet_kd.data.speed_perturbation import perturb
from espnet_kd.errors import UserError
from espnet_kd.espnet import cache_teacher, task
from espnet_kd.espnet.cache_data import Utterances
from espnet_kd.fileio import read_table, write_table
from espnet_kd.spec.distillation import read_kd_conf
from espnet_kd.teachers import archive
from espnet_kd.teachers.record import CHECKSUM
from tests.espnet.cache.making import SPECAUG, STREAMS, cache_words, make, write_student
from tests.espnet.tiny import build, tiny_config
from tests.recipe.toy import UTTERANCES, call, train_words


def load(*utterances, folder="dump/train", entries="cache/train"):
    """A batch of the training set as ESPnet's loader makes it."""
    data = Utterances([Path(folder)], "sound", Path("teacher/config.yaml"))
    cache = ESPnetDataset([(f"{entries}/teacher.scp", "teacher", "kaldi_ark")])
    pairs = [(utt, {**data[0, utt][1], **cache[utt][1]}) for utt in utterances]
    names, batch = CommonCollateFn(0.0, -1)(pairs)
    return {**batch, "utt_id": names}


KD = {
    "objective": "collapsed",
    "teacher_config": "teacher/config.yaml",
    "teacher_model": "teacher/model.pth",
    "teacher_features": "clean",
}


def students(**kd):
    """One student with the teacher beside it, one with the cache; same weights."""
    online = build(tiny_config(**SPECAUG), {**KD, **kd}, seed=4)
    cached = build(tiny_config(**SPECAUG), {**KD, **kd}, seed=4)
    cached.options = read_kd_conf({**KD, **kd, "teacher_cache": "cache"}).complete()
    object.__setattr__(cached, "teachers", [])
    return online, cached


@pytest.mark.parametrize("kd", [{}, {"divergence": "reverse"}, {"objective": "full_sum"}])
@pytest.mark.parametrize("training", [True, False])
def test_cached_loss_and_gradient_are_those_of_the_teacher(here, monkeypatch, kd, training):
    online, cached = (model.train(training) for model in students(**kd))
    # The cache was made under the teacher's short_chunk_size.
    monkeypatch.setattr("espnet_kd.espnet.model.draw_chunk_size", lambda encoder, n: 4)
    batch = load("train-03")
    found = []
    for model in (online, cached):
        torch.manual_seed(0)  # one draw of SpecAugment
        # The same without the teacher's term, so that no other gradient hides its own.
        loss, stats, _ = model(**batch)
        model.options, options = dataclasses.replace(model.options, weight=0.0), model.options
        torch.manual_seed(0)
        loss = loss - model(**batch)[0]
        model.options = options
        grads = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True)
        grad = torch.cat([g.flatten() for g in grads if g is not None])
        found.append((float(stats["loss_kd"]), grad))
    (a, grad_a), (b, grad_b) = found
    assert a > 1e-3
    # full_sum squares a difference of two sums over the lattice.
    rounding = 5e-3 if kd.get("objective") == "full_sum" else 1e-3
    assert b == pytest.approx(a, rel=rounding)
    assert 0 < (grad_a - grad_b).norm() < 5e-3 * grad_a.norm()


def test_a_batch_gives_the_mean_of_its_utterances(here):
    _, cached = students()
    names = ["train-01", "train-04", "train-07"]
    together = float(cached.eval()(**load(*names))[1]["loss_kd"])
    # Padding of the audio changes the last features a little.
    alone = [float(cached(**load(name))[1]["loss_kd"]) for name in names]
    assert together == pytest.approx(sum(alone) / 3, rel=0.02)


def test_perturbed_speeds_are_utterances_of_their_own(here, tmp_path, monkeypatch):
    """Each with as many frames as its audio has; named as stage 2 of the recipe names them."""
    names = ["train-03", "train-05"]
    tables = {key: read_table(f"dump/train/{key}") for key in ("wav.scp", "text")}
    tables = {key: {utt: table[utt] for utt in names} for key, table in tables.items()}
    perturbed = perturb({**tables, "utt2spk": dict(zip(names, names))}, ["0.9", "1.0"])
    folder = tmp_path / "perturbed"
    folder.mkdir()
    lengths = {}
    for utt, path in perturbed["wav.scp"].items():
        audio, header = decode(path)
        audio = resample(audio, header.rate, float(perturbed["utt2speed"][utt]), 16000)
        perturbed["wav.scp"][utt], lengths[utt] = str(tmp_path / f"{utt}.wav"), str(len(audio))
        encode(perturbed["wav.scp"][utt], audio, 16000, "wav")
    for name in ("wav.scp", "text"):
        write_table(folder / name, perturbed[name])
    write_table(folder / "utt2num_samples", lengths)
    words = ["--teacher_exp", "teacher", "--teacher_model", "model.pth", "--num_workers", "0"]
    words += ["--data", str(folder), "--out", str(tmp_path / "cache"), "--batch_bins", "1"]
    code, err = call("cache_teacher", words)
    assert code == 0, err
    table = tmp_path / "cache/perturbed/teacher.scp"
    assert sorted(read_table(table)) == sorted([*names, *(f"sp0.9-{utt}" for utt in names)])

    monkeypatch.setattr("espnet_kd.espnet.model.draw_chunk_size", lambda encoder, n: 4)
    frames = []
    for utt in ("train-03", "sp0.9-train-03"):
        batch = load(utt, folder=folder, entries=table.parent)
        a, b = (float(model.eval()(**batch)[1]["loss_kd"]) for model in students())
        assert b == pytest.approx(a, rel=1e-3)
        frames.append(int(batch["teacher"][0, 1]))
    assert frames[1] > frames[0]
    # The entry of another speed does not fit, and says so.
    held = read_table(table)
    held["train-03"] = held["sp0.9-train-03"]
    write_table(table, held)
    batch = load("train-03", folder=folder, entries=table.parent)
    with pytest.raises(UserError, match="train-03: the cache has .* encoder frames, the student"):
        students()[1].eval()(**batch)


def entries(cache):
    """All that a cache holds, as ESPnet reads it."""
    found = {}
    for name in UTTERANCES:
        scp = f"{cache}/{name}/teacher.scp"
        data = ESPnetDataset([(scp, "teacher", "kaldi_ark")])
        found.update({utt: data[utt][1]["teacher"].round() for utt in read_table(scp)})
    return found


def assert_same(cache, other="cache"):
    a, b = entries(cache), entries(other)
    assert set(a) == set(b) and len(a) == sum(UTTERANCES.values())
    for utt in a:
        assert (a[utt] == b[utt]).all(), utt


def parts(cache):
    return sorted(Path(cache).glob("*/parts/*.scp"))


def test_an_interrupted_cache_goes_on(here, tmp_path, monkeypatch):
    out = str(tmp_path / "cache")
    monkeypatch.setattr(archive, "PART_SECONDS", 0.0)  # each utterance is a part
    records = cache_teacher._records
    done = []

    def interrupted(*args):
        for item in records(*args):
            yield item
            done.append(item[0])
            if len(done) == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_teacher, "_records", interrupted)
        code, err = call("cache_teacher", cache_words(out, "--batch_bins", 1))
    assert code == 130 and "run the same command to go on" in err.splitlines()[-1]
    assert len(parts(out)) == 5 and not list(Path(out).glob("*/teacher.scp"))
    kept = {path: path.stat().st_mtime_ns for path in parts(out)}
    make(out, "--batch_bins", 1)
    assert len(parts(out)) == 16
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # not done again
    assert_same(out)
    make(out, "--batch_bins", 1)  # finished: nothing to do
    assert len(parts(out)) == 16


def test_jobs_share_the_work(here, tmp_path, capsys):
    out = str(tmp_path / "cache")
    for job in (3, 1):
        make(out, "--batch_bins", 1, "--nj", 3, "--job", job)
        assert not list(Path(out).glob("*/teacher.scp"))
    finished = [archive.Archive(Path(out, name)).finished() for name in UTTERANCES]
    assert sum(map(len, finished)) == 11
    capsys.readouterr()
    make(out, "--batch_bins", 1, "--nj", 3)  # job 2 was lost
    assert "5 of 16 utterances to do" in capsys.readouterr().out
    assert_same(out)


def test_batches_and_processes_that_read(here, tmp_path):
    out = str(tmp_path / "cache")
    make(out, "--batch_bins", 40_000, "--num_workers", 1)
    a, b = entries(out), entries("cache")
    assert {utt: len(x) for utt, x in a.items()} == {utt: len(x) for utt, x in b.items()}
    assert all((a[utt][:CHECKSUM] == b[utt][:CHECKSUM]).all() for utt in a)


def test_the_estimate(here, tmp_path, capsys, monkeypatch):
    for band in (0, 2):
        out = str(tmp_path / f"cache{band}")
        make(out, "--band", band)
        said = capsys.readouterr().out.splitlines()
        about = float(said[0].split("about ")[1].split(" kB")[0])
        size = sum(path.stat().st_size for path in Path(out).glob("*/parts/*.ark")) / 1000
        assert about == pytest.approx(size, rel=0.03)
        assert said[-1].endswith(f"16 utterances, {size:.1f} kB")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**6, 10**6, 1000))
    code, err = call("cache_teacher", cache_words(str(tmp_path / "full")))
    assert code == 1
    line = err.splitlines()[-1]
    assert "the cache needs about" in line and "the disk has 1.0 kB left" in line
    assert "--band 5 needs a fraction" in line
    assert not list((tmp_path / "full").glob("*/parts"))


def test_a_short_chunk_size_and_full_context_differ(here, tmp_path):
    make(str(tmp_path / "full"), "--chunk_size", 0, "--batch_bins", 1)
    assert json.loads(Path("cache/fingerprint.json").read_text())["chunk_size"] == 4
    assert json.loads((tmp_path / "full/fingerprint.json").read_text())["chunk_size"] == 0
    a, b = entries(str(tmp_path / "full")), entries("cache")
    assert any((a[utt] != b[utt]).any() for utt in a)


def test_two_sets_may_share_names_of_utterances(here, tmp_path):
    shutil.copytree("dump/dev", tmp_path / "other")
    lines = (tmp_path / "other/wav.scp").read_text().split("\n")
    # The audio of dev-00 under the name of dev-01, and the other way round.
    lines[:2] = lines[0].replace("dev-00 ", "dev-01 "), lines[1].replace("dev-01 ", "dev-00 ")
    (tmp_path / "other/wav.scp").write_text("\n".join(lines))
    out = tmp_path / "cache"
    make(str(out), "--batch_bins", 1, "--data", str(tmp_path / "other"))
    assert_same(str(out))
    scps = (str(out / name / "teacher.scp") for name in ("dev", "other"))
    dev, other = (ESPnetDataset([(scp, "teacher", "kaldi_ark")]) for scp in scps)
    frames = [[int(x[f"dev-0{i}"][1]["teacher"][1, 0]) for i in range(3)] for x in (dev, other)]
    assert frames[0][0] != frames[0][1]
    assert frames[1] == [frames[0][1], frames[0][0], frames[0][2]]


def history(out):
    return json.loads(Path(out, "history.json").read_text())[0]


@pytest.mark.parametrize("streams", [["train"], ["train", "valid"]], ids="+".join)
def test_a_training_reads_the_cache_and_needs_no_teacher(here, monkeypatch, streams):
    def forbidden(*args):
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr(task, "load_transducer", forbidden)
    out = "out_" + "_".join(streams)
    more = [word for part in streams for word in STREAMS[part]]
    code, err = call("train", train_words(out, *more))
    assert code == 0, err
    epoch = history(out)
    assert epoch["train"]["loss_kd"] > 0
    assert ("loss_kd" in epoch["valid"]) == ("valid" in streams)
    assert Path(out, "1epoch.pth").exists()
    # The config decodes with stock ESPnet: the cache stands under our own key only.
    saved = yaml.safe_load(Path(out, "config.yaml").read_text())
    assert saved["kd_conf"]["teacher_cache"] == "cache" and "teacher" not in saved


def test_a_training_with_a_band(here, tmp_path):
    make(str(tmp_path / "band"), "--band", 2)
    write_student(tmp_path / "band.yaml", kd_conf={"teacher_cache": str(tmp_path / "band")})
    stream = f"{tmp_path}/band/train/teacher.scp,teacher,kaldi_ark"
    words = ["--train_data_path_and_name_and_type", stream]
    words = train_words("out_band", *words, config=str(tmp_path / "band.yaml"))
    code, err = call("train", words)
    assert code == 0, err
    assert history("out_band")["train"]["loss_kd"] > 0
