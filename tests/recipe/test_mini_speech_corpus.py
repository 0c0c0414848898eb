"""The synthetic corpus: the same samples again, nothing half made, voices apart."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("espeakng_loader")

REPO = Path(__file__).resolve().parents[2]
EGS = REPO / "egs2"
LOCAL = EGS / "mini_speech/asr_kd/local"
MAKE = LOCAL / "make_corpus.py"
TINY = {"train_utts": 24, "dev_utts": 16, "test_utts": 10, "voices": 6, "new_voices": 5}
SETS = ["train", "dev", "test_seen", "test_new"]


def environment(*folders):
    paths = [str(f) for f in folders] + [str(REPO)]
    # Several such processes run at once; BLAS threads would only get into their way.
    return {**os.environ, "PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}


def command(out, *more, **changed):
    options = [f"--{k}={v}" for k, v in {**TINY, **changed}.items()]
    return [sys.executable, str(MAKE), "--out", str(out), *options, *more]


def make(out, *more, env=None, **changed):
    return subprocess.run(
        command(out, *more, **changed), env=env or environment(), capture_output=True, text=True
    )


def in_recipe(code):
    """Run code that imports the recipe's modules, in a process of its own (it forks)."""
    p = subprocess.run(
        [sys.executable, "-c", code], env=environment(LOCAL), capture_output=True, text=True
    )
    assert p.returncode == 0, p.stderr
    return p.stdout


def tree(folder):
    """Return relative path -> md5 of every file."""
    return {
        str(f.relative_to(folder)): hashlib.md5(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def transcripts(corpus, name):
    """Return utterance -> (sentence, path of its audio)."""
    result = {}
    for path in (corpus / name).glob("*/*/*.trans.txt"):
        for line in path.read_text().splitlines():
            utt, text = line.split(" ", 1)
            result[utt] = (text, path.with_name(f"{utt}.flac"))
    return result


def voices(corpus):
    """Return set -> voices, from SPEAKERS.TXT."""
    result = {name: set() for name in SETS}
    for line in (corpus / "SPEAKERS.TXT").read_text().splitlines():
        if not line.startswith(";"):
            _, sets, voice = line.split(" | ")[:3]
            for name in sets.split(","):
                result[name].add(voice)
    return result


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("mini") / "MiniSpeech"
    p = make(out, "--nj=1")
    assert p.returncode == 0, p.stderr
    return out


@pytest.fixture
def own(corpus, tmp_path):
    return Path(shutil.copytree(corpus, tmp_path / "MiniSpeech"))


def test_same_samples_again_for_any_nj(corpus, tmp_path):
    assert make(tmp_path / "b", "--nj=2").returncode == 0
    assert tree(tmp_path / "b") == tree(corpus)


def test_another_seed_is_another_corpus(corpus, tmp_path):
    assert make(tmp_path / "b", seed=2).returncode == 0
    a, b = tree(corpus), tree(tmp_path / "b")
    flac = [f for f in a if f.endswith(".flac")]
    assert flac and all(a[f] != b.get(f) for f in flac)


def test_layout_is_that_of_librispeech(corpus):
    counts = {"train": 24, "dev": 16, "test_seen": 10, "test_new": 10}
    for name in SETS:
        utts = transcripts(corpus, name)
        assert len(utts) == counts[name]
        assert {path for _, path in utts.values()} == set((corpus / name).rglob("*.flac"))
        for utt, (text, path) in utts.items():
            speaker, chapter, number = utt.split("-")
            assert path.parent == corpus / name / speaker / chapter and number.isdecimal()
            assert text == text.upper()
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 0.3 < info.duration < (5 if name.startswith("test") else 10)
    readme = (corpus / "README.TXT").read_text()
    assert "SYNTHETIC" in readme and "GPL-3" in readme
    assert str(corpus.parent) not in readme + (corpus / "corpus.json").read_text()


def test_only_training_and_validation_have_pauses_and_pairs(corpus):
    for name in SETS:
        long = 0
        for text, path in transcripts(corpus, name).values():
            samples = soundfile.read(path, dtype="int16")[0]
            # Sentences have 2 to 9 words, and no recording is all silence.
            assert 2 <= len(text.split()) <= 18 and samples.any()
            long += len(samples) / 16000 > 0.55 * len(text.split()) + 1.0
        assert (long > 0) == (name in ("train", "dev"))


def test_new_voices_are_new_and_seen_ones_seen(corpus):
    found = voices(corpus)
    assert len(found["train"]) == 6 and len(found["test_new"]) == 5
    assert found["test_seen"] <= found["train"]
    assert found["dev"] & found["train"] and found["dev"] - found["train"]
    assert not found["test_new"] & (found["train"] | found["dev"])
    for name in SETS:
        folders = {f.name for f in (corpus / name).iterdir()}
        assert len(folders) == len(found[name])


def test_groups_share_no_variant_and_every_voice_exists():
    out = in_recipe(
        "import itertools, voices\n"
        "from espeak import Espeak, data_folder\n"
        "groups = list(map(set, voices.VARIANTS.values()))\n"
        "assert all(not a & b for a, b in itertools.combinations(groups, 2))\n"
        "with data_folder() as data:\n"
        "    espeak = Espeak(data)\n"
        "    for accent in [*voices.ACCENTS, voices.NEW_ACCENT]:\n"
        "        for variant in set().union(*groups) - {'plain'}:\n"
        "            espeak.set_voice(f'{accent}+{variant}')\n"
        "many = voices.speakers('train', 120, 1)\n"
        "assert len({s.voice for s in many}) == 120\n"
        "assert voices.speakers('train', 60, 1) == many[:60]\n"
        "print('fine')\n"
    )
    assert out == "fine\n"


def test_no_sentence_of_a_test_is_said_in_training():
    out = in_recipe(
        "import itertools, grammar, numpy as np\n"
        "def said(train):\n"
        "    texts = grammar.sentences(np.random.default_rng(0), train)\n"
        "    return set(itertools.islice(texts, 3000))\n"
        "a, b = said(True), said(False)\n"
        "assert not a & b\n"
        "words = [{w for s in x for w in s.split()} for x in (a, b)]\n"
        "assert words[0] == words[1]\n"
        "print(len(words[0]))\n"
    )
    assert out == "32\n"


def test_finished_corpus_is_left_alone(own):
    before = {f: f.stat().st_mtime_ns for f in own.rglob("*")}
    p = make(own, "--nj=2")
    assert p.returncode == 0 and "nothing to do" in p.stdout
    assert {f: f.stat().st_mtime_ns for f in own.rglob("*")} == before


def test_other_options_need_force(own, corpus):
    p = make(own, train_utts=25)
    assert p.returncode == 1 and p.stderr.count("\n") == 1
    assert "train_utts 24 -> 25" in p.stderr and "--force" in p.stderr
    assert tree(own) == tree(corpus)

    assert make(own, "--force", train_utts=25).returncode == 0
    assert len(transcripts(own, "train")) == 25
    assert os.listdir(own.parent) == ["MiniSpeech"]


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "corpus.json").write_text("[]")
    p = make(tmp_path, "--force")
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "another --out" in p.stderr
    assert os.listdir(tmp_path) == ["corpus.json"]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_corpus_is_not_taken_as_finished(sig, corpus, tmp_path):
    out = tmp_path / "MiniSpeech"
    with open(tmp_path / "err", "w") as err:
        p = subprocess.Popen(command(out, train_utts=9999), env=environment(), stderr=err)
    while not list(tmp_path.glob(".MiniSpeech.*.making/train/*")):
        assert p.poll() is None
        time.sleep(0.005)
    p.send_signal(sig)
    assert p.wait() != 0
    assert not out.exists()
    assert "Traceback" not in (tmp_path / "err").read_text()
    if sig != signal.SIGKILL:
        assert os.listdir(tmp_path) == ["err"]
        return
    assert list(tmp_path.glob(".MiniSpeech.*"))  # nobody could clean up
    assert make(out).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["MiniSpeech", "err"]
    assert tree(out) == tree(corpus)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"test_utts": 0}, "--test_utts 0: at least 1"),
        ({"voices": 9999}, "9999 voices asked for train; there are 1 to"),
        ({"snr_low": 40}, "the low one first"),
        ({"seed": -1}, "--seed -1: at least 0"),
    ],
)
def test_options_that_make_no_corpus(changed, message, tmp_path):
    p = make(tmp_path / "a", **changed)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and message in p.stderr
    assert not os.listdir(tmp_path)


def test_without_the_wheel_one_line_says_what_to_install(tmp_path):
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError\n")
    p = make(tmp_path / "a", env=environment(tmp_path))
    assert p.returncode == 1 and p.stderr.count("\n") == 1
    assert "pip install espnet_kd[demo]" in p.stderr


def test_espeak_trouble_is_an_error():
    out = in_recipe(
        "import os, espeak, processes\n"
        "from espnet_kd.errors import UserError\n"
        "espeak.LONGEST_PATH = 0  # as deep in a home directory\n"
        "def attempt(voice):\n"
        "    espeak.Espeak(data).set_voice(voice)\n"
        "    return 'ok'\n"
        "with espeak.data_folder() as data:\n"
        "    for voice in ['en-us+f2', 'xx', 'en-us+nosuch', '+f2']:\n"
        "        try:\n"
        "            print(*processes.run_each(attempt, [voice], 1))\n"
        "        except UserError as e:\n"
        "            print(e)\n"
        "    try:\n"
        "        print(*processes.run_each(espeak.Espeak, ['/nowhere'], 1))\n"
        "    except UserError as e:\n"
        "        print(e)\n"
        "try:\n"
        "    print(*processes.run_each(os._exit, [3], 1))\n"
        "except RuntimeError as e:\n"
        "    print(e)\n"
        "print(os.path.exists(data))\n"
    ).splitlines()
    assert out[0] == "ok"
    for line, voice in zip(out[1:4], ["xx", "en-us+nosuch", "+f2"]):
        assert f"no voice '{voice}'" in line
    assert "no usable data in /nowhere" in out[4]
    assert out[5:] == ["a process died without an answer", "False"]


def test_data_sh_makes_kaldi_directories(tmp_path):
    for name, target in {
        "path.sh": EGS / "TEMPLATE/asr_kd/path.sh",
        "scripts": EGS / "TEMPLATE/asr_kd/scripts",
        "local": LOCAL,
    }.items():
        (tmp_path / name).symlink_to(target)
    options = [f"--{k}={v}" for k, v in TINY.items()]
    run = ["local/data.sh", *options, "--python", sys.executable]
    p = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    corpus = tmp_path / "downloads/MiniSpeech"
    assert json.loads((corpus / "corpus.json").read_text())["options"]["train_utts"] == 24
    labels = (tmp_path / "data/test_pauses/utt2condition").read_text().splitlines()
    assert len(labels) == 4 * 10 and len({line.split()[1] for line in labels}) == 4
    for name in SETS:
        lines = (tmp_path / "data" / name / "text").read_text().splitlines()
        assert {k: v for k, v in (line.split(" ", 1) for line in lines)} == {
            utt: text for utt, (text, _) in transcripts(corpus, name).items()
        }

    p = subprocess.run(
        [*run, "--voices=7"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert p.returncode == 1 and "voices 6 -> 7" in p.stderr
