"""Everything that a teacher cache, and a training that reads one, refuses."""

import shutil
from pathlib import Path

import pytest
import torch

from espnet_kd.fileio import read_table
from tests.espnet.cache.making import STREAMS, cache_words, make, write_student
from tests.espnet.tiny import TOKENS, tiny_config
from tests.recipe.toy import call, train_words


def edit(path, old, new):
    def damage():
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    return damage


def student(**changes):
    return lambda: write_student(**changes)


def drop(utt):
    """Take an utterance out of the cache."""

    def damage():
        scp = Path("cache", utt.split("-")[0], "teacher.scp")
        kept = [line for line in scp.read_text().splitlines() if not line.startswith(utt)]
        scp.write_text("\n".join(kept) + "\n")

    return damage


def other_teacher():
    state = torch.load("teacher/model.pth", weights_only=True)
    state["decoder.embed.weight"][3] += 1
    torch.save(state, "teacher/model.pth")


def swap(a, b):
    """Give an utterance the entry of another."""

    def damage():
        table = read_table("cache/train/teacher.scp")
        table[a], table[b] = table[b], table[a]
        Path("cache/train/teacher.scp").write_text("".join(f"{k} {v}\n" for k, v in table.items()))

    return damage


def new_text():
    lines = Path("dump/train/text").read_text().splitlines()
    changed = [f"{line[:-1]}{'B' if line[-1] != 'B' else 'A'}" for line in lines]
    Path("dump/train/text").write_text("\n".join(changed) + "\n")


def remake(*more):
    def damage():
        shutil.rmtree("cache")
        make("cache", *more)

    return damage


def tokens():
    Path("tokens.txt").write_text("\n".join(TOKENS[:3] + ["B", "A"] + TOKENS[5:]) + "\n")


def part(change):
    """Damage the archive of an utterance of the cache."""

    def damage():
        path = Path(read_table("cache/train/teacher.scp")["train-05"].rpartition(":")[0])
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(bytes(data))

    return damage


def flip(where, bit=2):
    def change(data):
        data[where] ^= 1 << bit

    return part(change)


def half(data):
    del data[len(data) // 2 :]


def old_format():
    path = Path("cache/fingerprint.json")
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))


FRONT = {**tiny_config()["frontend_conf"], "hop_length": 128}
NAMED = {"teacher_config": "teacher/config.yaml", "teacher_model": "teacher/model.pth"}
WARP = {"specaug": "specaug", "specaug_conf": {"time_mask_width_range": [1, 4]}}
TRAIN = STREAMS["train"]
REFUSED = [
    # --- options that a cache cannot serve
    (student(kd_conf={"objective": "full"}), TRAIN, "kd_conf.objective: with a teacher cache"),
    (student(kd_conf={"objective": "top_k"}), TRAIN, "must be 'collapsed' or 'full_sum'; found"),
    (student(kd_conf={"temperature": 2}), TRAIN, "1: it cannot be re-tempered; found '2.0'"),
    (student(kd_conf={"teacher_features": "shared"}), TRAIN, "teacher_features: with a teacher"),
    (student(kd_conf={"teacher_context": "shared"}), TRAIN, "it was made with one chunk size"),
    (student(kd_conf={"teacher_context": "full"}), TRAIN, "chunk_size is 4 in the cache, 0 here"),
    (student(**WARP), TRAIN, "specaug_conf.apply_time_warp: moves frames"),
    (student(train_dtype="float16"), TRAIN, "--train_dtype float16: would round"),
    # --- streams
    (lambda: None, [], "the training does not read it: add --train_data_path_and_name_and_type "),
    (lambda: None, STREAMS["valid"], "the training does not read it"),
    (student(kd_conf={"teacher_cache": "other"}), TRAIN, "other: not a teacher cache, it has no"),
    (student(kd_conf={"teacher_cache": None, **NAMED}), TRAIN, "no objective or no teacher_cache"),
    (student(kd_conf={"objective": "none"}), TRAIN, "no objective or no teacher_cache"),
    (lambda: shutil.copytree("cache", "other"),
     [TRAIN[0], TRAIN[1].replace("cache", "other")], "is other/train/teacher.scp, which is no"),
    # --- made from something else
    (tokens, TRAIN, "cache: tokens is "),
    (student(frontend_conf=FRONT), TRAIN, "features.hop_length is 160 in the cache, 128 here"),
    (student(kd_conf=NAMED, encoder_conf={
        **tiny_config()["encoder_conf"],
        "input_conf": {"vgg_like": False, "subsampling_factor": 2, "conv_size": 8}}), TRAIN,
     "subsampling.factor is 4 in the cache, 2 here"),
    (lambda: (student(kd_conf=NAMED)(), other_teacher()), TRAIN, "teacher_model is "),
    (lambda: (student(kd_conf=NAMED)(), edit("teacher/config.yaml", "heads: 2", "heads: 4")()),
     TRAIN, "the teacher differs; make the cache again"),
    (student(kd_conf={**NAMED, "teacher_model": "gone.pth"}), TRAIN, "gone.pth: no such file"),
    (edit("cache/fingerprint.json", '"band": 0', '"band": 5'), TRAIN, "changed by hand"),
    (lambda: (student(kd_conf={"nodes": "one_best"})(), remake("--band", 2)()), TRAIN,
     "a teacher cache with a band serves objective 'collapsed' with nodes 'all'"),
    # --- damaged
    (old_format, TRAIN, "format is 1 in the cache, 2 here; remove cache and make the cache again"),
    (part(half), TRAIN, "bytes, "),
    (part(lambda data: data.clear()), TRAIN, ".ark: has 0 bytes, "),
    (flip(-5), TRAIN, ": its entry in the teacher cache is damaged: cache/train/parts/"),
    (flip(150, 6), TRAIN, ": its entry in the teacher cache is damaged: cache/train/p"),
    # Kaldi's own header: its kind, its least value, its rows.
    (flip(11), TRAIN, "cache/train/teacher.scp: 'train-0"),
    (flip(17, 7), TRAIN, "again from this data directory: cache/train/parts/"),
    # --- utterances
    (lambda: Path("cache/train/teacher.scp").unlink(), TRAIN, "the cache is not finished"),
    (drop("train-05"), TRAIN, "lacks 1 utterances of stats/train/speech_shape ('train-05'"),
    (drop("dev-02"), TRAIN + STREAMS["valid"], "of stats/dev/speech_shape ('dev-02'"),
    (swap("train-00", "train-01"), TRAIN, "encoder frames, the student "),
    (new_text, TRAIN, "the cache was made for another transcript or with other tokens"),
]  # fmt: skip


@pytest.mark.parametrize("damage, streams, message", REFUSED, ids=[row[2][:40] for row in REFUSED])
def test_a_training_refuses(copy, damage, streams, message):
    damage()
    code, err = call("train", train_words("out", *streams))
    assert code == 1, err
    line = err.splitlines()[-1]
    assert line.startswith("train: error: ") and message in line, line
    assert "Traceback" not in err
    if "the student" in message or "transcript" in message:
        assert ": train-" in line  # names the utterance


CACHE_REFUSED = [
    (other_teacher, [], "cache: teacher_model is "),
    (lambda: None, ["--band", 5], "band is 0 in the cache, 5 here; remove it or choose another"),
    (lambda: None, ["--chunk_size", 0], "chunk_size is 4 in the cache, 0 here"),
    (lambda: None, ["--job", 2], "--job 2: there are 1 (--nj)"),
    (lambda: None, ["--teacher_model", "no.pth"], "teacher/no.pth: no such file"),
    (lambda: None, ["--data", "dump/nowhere"], "dump/nowhere/wav.scp: no such file"),
    (lambda: None, ["--data", "audio/../dump/dev"], "two directories are called 'dev'"),
    (lambda: None, ["--ngpu", 1], "no GPU is available"),
    (edit("dump/train/text", "train-03 ", "train-33 "), [], "dump/train/text: lacks 'train-03'"),
    (edit("dump/train/utt2num_samples", "train-03 ", "train-03 x"), [], "utt2num_samples: inval"),
    (lambda: Path("audio/train-03.wav").write_bytes(b""), ["--out", "new"],
     "train-03: audio cannot be read: "),
    (lambda: Path("audio/train-03.wav").unlink(), ["--out", "new", "--num_workers", 1],
     "error: train-03: audio cannot be read: Error opening"),
    # --- a look at the student before the work begins
    (student(kd_conf={"objective": "full"}), ["--student_config", "train.yaml"],
     "train.yaml: kd_conf.objective: with a teacher cache it must be"),
    (student(**WARP), ["--student_config", "train.yaml"], "train.yaml: specaug_conf.apply_time_w"),
    (lambda: None, ["--student_config", "train.yaml", "--student_args=--kd_conf objective=full"],
     "train.yaml: kd_conf.objective: with a teacher cache it must be"),
    (lambda: None, ["--student_config", "train.yaml", "--student_args=--kd_con"],
     "--student_args: "),
    (lambda: None, ["--student_config", "no.yaml"], "no.yaml: no such file"),
    (student(kd_conf={"objective": "full_sum"}), ["--student_config", "train.yaml", "--band", 3],
     "a teacher cache with a band serves objective 'collapsed'"),
]  # fmt: skip


@pytest.mark.parametrize(
    "damage, more, message", CACHE_REFUSED, ids=[r[2][:40] for r in CACHE_REFUSED]
)
def test_a_cache_refuses(copy, monkeypatch, damage, more, message):
    if "GPU" in message:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    damage()
    code, err = call("cache_teacher", cache_words("cache", *more))
    line = err.splitlines()[-1]
    assert code == 1 and line.startswith("cache_teacher: error: ") and message in line, err
    assert "Traceback" not in err


def test_a_student_that_does_not_distil_needs_no_cache(copy, capsys):
    write_student(kd_conf={"objective": "none"})
    make("unused", "--student_config", "train.yaml")
    assert "train.yaml: does not distil" in capsys.readouterr().out
    assert not Path("unused").exists()
