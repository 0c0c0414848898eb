"""egs2/mboshi: a made-up corpus of that layout through stages 1 to 5; the arms of evidence.sh."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from mini_run import REPO, copy_recipe, environment

from espnet_kd.data.kaldi_dir import read_data_dir
from espnet_kd.fileio import read_table
from espnet_kd.spec.plan import load_plan

WORDS = ["wáá ngá", "ó báá", "bísi má", "lε", "kaá nò", "tsi", "dí", "pε sa"]


def write_utterance(folder, person, kind, n, text, seconds=0.4, rate=16000):
    name = f"{person}_2015-09-08-11-33-57_samsung-SM-T530_mdw_elicit_{kind}_{n}"
    audio = np.random.default_rng(n).standard_normal(int(seconds * rate)) / 10
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.wav", audio, rate)
    if text is not None:
        (folder / f"{name}.mb.cleaned").write_text(f"{text}\n", encoding="utf-8")
    return folder / f"{name}.wav"


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "checkout/full_corpus_newsplit"
    for n, text in enumerate(WORDS):
        write_utterance(root / "train", "abiayi", "Dico18", n, text)
        write_utterance(root / "train", "kouarata", "part2", n, f"{text} na {text}")
    write_utterance(root / "train", "abiayi", "Dico18", 90, "mwanga", seconds=4.0)
    write_utterance(root / "train", "martial", "Dico19", 1, "mwanga")
    write_utterance(root / "dev", "abiayi", "Dico18", 91, "bísi ngá", seconds=4.0)
    write_utterance(root / "dev", "kouarata", "part2", 92, "tsi")
    return root


@pytest.fixture(scope="module")
def prepare():
    path = REPO / "egs2/mboshi/asr_kd/local/prepare_mboshi.py"
    spec = importlib.util.spec_from_file_location("prepare_mboshi", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_letters_go_through_stages_1_to_5(corpus, tmp_path):
    folder = copy_recipe("mboshi", tmp_path)
    words = ["./run.sh", "--stop_stage", "5", "--nj", "1", "--python", sys.executable]
    words += ["--local_data_opts", "--dev_utts 3"]
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(MBOSHI=str(corpus.parent)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    train, dev, test = (read_data_dir(folder / "dump/raw" / s) for s in ("train", "dev", "test"))
    assert (len(train["text"]), len(dev["text"])) == (13, 3)  # without the long one
    assert not set(train["text"].values()) & set(dev["text"].values())
    assert test["text"] == {
        "abiayi-20150908113357-dico18-91": "b i s i n g a",
        "kouarata-20150908113357-part2-92": "t s i",
    }
    assert set(test["utt2spk"].values()) == {
        "abiayi-20150908113357-dico", "kouarata-20150908113357-part"
    }  # fmt: skip
    assert list(test["utt2condition"].values()) == ["dico", "part"]
    tokens = (folder / "data/mb_token_list/word/tokens.txt").read_text().split()
    assert {"a", "ε", "n"} < set(tokens) and "<space>" not in tokens and "á" not in tokens


@pytest.mark.parametrize(
    "options, words",
    [
        ("--corpus /nowhere", "'/nowhere': no checkout of besacier/mboshi"),
        ("--speakers martian", "nobody is called 'martian'; there are abiayi, kouarata, martial"),
        ("--dev_utts 99", "--dev_utts 99: "),
        ("--dev_utts 0", "argument --dev_utts: '0' is not a whole number of at least 1"),
    ],
)
def test_wrong_options_are_told_in_one_line(options, words, corpus, prepare, tmp_path, capsys):
    run = ["--corpus", str(corpus.parent), "--out", str(tmp_path / "data"), *options.split()]
    with pytest.raises(SystemExit):
        prepare.main(run)
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_used_is_told(corpus, prepare, tmp_path, capsys):
    run = ["--corpus", str(corpus.parent), "--out", str(tmp_path / "data"), "--dev_utts", "3"]

    def refused():
        with pytest.raises(SystemExit):
            prepare.main(run)
        return capsys.readouterr().err.splitlines()[-1]

    path = write_utterance(corpus / "train", "abiayi", "Dico18", 80, None)
    assert "1 sound files without a transcript" in refused()
    with pytest.raises(SystemExit) as end:
        prepare.main([*run, "--max_bad_share", "0.1"])
    assert end.value.code == 0
    assert path.stem in (tmp_path / "data/train/left_out").read_text()
    assert len(read_table(tmp_path / "data/train/text")) == 13
    write_utterance(corpus / "train", "abiayi", "Dico18", 80, "a", rate=8000)
    assert "8000 Hz; the corpus is of 16000 Hz" in refused()
    write_utterance(corpus / "train", "abiayi", "Dico18", 80, "a", seconds=0.3)
    write_utterance(corpus / "dev", "abiayi", "Dico18", 80, "a", seconds=0.3)
    assert (
        "1 utterances of train are in dev, too, which is the test set (e.g. abiayi-" in refused()
    )
    write_utterance(corpus / "train", "abiayi", "dico18", 80, "a", seconds=0.3)
    assert "a second 'abiayi-20150908113357-dico18-80'" in refused()
    for file in corpus.glob("train/*"):
        file.unlink()
    assert "no *.wav in it" in refused()


@pytest.mark.parametrize("recipe", ["mboshi", "noisy_digits", "mini_speech", "librispeech"])
def test_a_word_that_is_no_option_is_refused(recipe, tmp_path):
    # A list without its quotes: two of three people would have been passed over in silence.
    words = ["./local/data.sh", "--corpus", str(tmp_path), "--python", sys.executable, "martial"]
    done = subprocess.run(
        words[:3] + words[5:] if recipe == "mini_speech" else words,
        cwd=copy_recipe(recipe, tmp_path),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr == (
        "data.sh: error: no positional arguments are taken, but 'martial' was given; values with "
        "spaces need quotes\n"
    )


def test_arms_of_the_evidence_are_runs_with_their_options(tmp_path):
    folder = copy_recipe("mboshi", tmp_path)
    # $* would hide where a value ends.
    (folder / "run.sh").write_text("#!/bin/bash\nprintf '<%s>' \"$@\" >>calls\necho >>calls\n")

    def run(*words):
        (folder / "calls").unlink(missing_ok=True)
        done = subprocess.run(
            ["./evidence.sh", *words],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
        )
        made = (folder / "calls").read_text().splitlines() if not done.returncode else []
        return done, made

    done, calls = run("--arms", "double half", "--seeds", "4", "--stock_wer", "false")
    assert done.returncode == 0, done.stderr
    assert len(calls) == 4 and all(call.endswith("<--stock_wer><false>") for call in calls)
    assert "<--stop_stage><13>" in calls[0] and "<--asr_exp><exp/asr_teacher>" in calls[0]
    assert "<--paths_at><stage3 stage4>" in calls[1]
    assert "<--seed><4><--expdir><exp/double/seed4>" in calls[1]
    # The last of two options counts.
    assert "<--asr_exp><exp/asr_half><--asr_args><--max_epoch 5>" in calls[2]
    # Ours may come last, as the recipe's may: they were taken for run.sh's, which refused them.
    assert run("--stock_wer", "false", "--seeds", "4", "--arms", "double half")[1] == calls
    done, _ = run("--arms", "thick")
    assert done.returncode == 1 and done.stderr == (
        "evidence.sh: error: --arms: 'thick' is not in conf/arms.txt; there are thin ample "
        "ample_total double total half scratch mixed_thin mixed_ample curve_117k curve_299k "
        "curve_1255k curve_4800k curriculum\n"
    )
    for words, message in [
        (("--arms", " "), "--arms is empty; name arms of conf/arms.txt, or all"),
        (("--seeds", ""), '--seeds is empty; name one or more, such as "1 2 3"'),
        (("--seeds", "1 b"), "--seeds: whole numbers are needed, not 'b'"),
        (("--seeds", "1 2 1"), "--seeds: 1 twice"),
        (("--report", "yes"), "--report must be true or false, not 'yes'"),
        (
            ("--arms", "thin ample", "--out", "x.md"),
            "--out x.md: each of the arms thin ample would write over it; name one arm, or leave "
            "it out",
        ),
        (("--table", "twice"), "twice: two arms are named 'a'"),
        (("--table", "empty"), "empty: no arm in it; a line is a name and options of run.sh"),
    ]:
        (folder / "twice").write_text("a\na --seed 2\n")
        (folder / "empty").write_text("# nothing\n")
        done, _ = run(*words)
        assert (done.returncode, done.stderr) == (1, f"evidence.sh: error: {message}\n")
    (folder / "table").write_text('a --paths "one_shot\nb --paths "one_shot scratch"')
    done, calls = run("--table", "table", "--arms", "b", "--seeds", "1")
    assert "<--paths><one_shot scratch>" in calls[1], done.stderr  # of a line without an end
    done, _ = run("--table", "table", "--seeds", "1")
    assert done.returncode == 1
    assert (
        done.stderr == 'evidence.sh: error: table: a: a quote is not closed: --paths "one_shot\n'
    )


def test_an_arm_begins_with_a_copy_of_another_arms_student(tmp_path):
    folder = copy_recipe("mboshi", tmp_path)
    (folder / "run.sh").write_text("#!/bin/bash\n")
    (folder / "table").write_text("a --kd_tag kd\nb --after a:half --kd_tag kd\nc --after a")

    def run(*words):
        command = ["./evidence.sh", "--table", "table", "--seeds", "1", "--arms", *words]
        return subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True
        )

    student, copy = folder / "exp/a/seed1/kd_half", folder / "exp/b/seed1/kd_half"
    student.mkdir(parents=True)
    assert run("b").stderr == (
        "evidence.sh: error: table: b: --after: no finished student 'half' in exp/a/seed1; run "
        "arm a first\n"
    )
    (student / ".done.manifest").write_text("{}")
    assert run("b").returncode == 0 and (copy / ".done.manifest").exists()
    (copy / "kept").write_text("")
    assert run("b").returncode == 0 and (copy / "kept").exists()  # it is copied once
    assert run("c").stderr == "evidence.sh: error: table: c: --after ARM:STAGE, not 'a'\n"
    (folder / "table").write_text("a --kd_tag kd\nb --after aa:half --kd_tag kd\nc --after")
    told = "evidence.sh: error: table: b: --after: no arm 'aa' in it or in exp; there are a b c\n"
    assert run("a b").stderr == told  # before a is trained
    assert run("c").stderr == "evidence.sh: error: table: c: --after ARM:STAGE, not ''\n"
    (folder / "table").write_text("d --after a:half --kd_tag kd")  # another list has run it
    assert run("d").returncode == 0 and (folder / "exp/d/seed1/kd_half/.done.manifest").exists()


@pytest.mark.parametrize("way", ["rule", "deep", "sensitivity"])
@pytest.mark.parametrize(
    "recipe, name, hand, stage, params",
    [
        ("mboshi", "{}_92", "family_thin", 3, 103_231),
        ("mboshi", "{}_96", "family_thin", 4, 50_731),
        ("noisy_digits", "{}", "sizes/hand_96", 1, 53_554),
    ],
)
def test_ways_to_sizes_differ_from_the_hand_made_plan_in_sizes_alone(
    way, recipe, name, hand, stage, params
):
    conf, arm = REPO / f"egs2/{recipe}/asr_kd/conf", name.format(way)
    (line,) = re.findall(
        rf"^{arm} +--compression_config (\S+)$", (conf / "sizes.txt").read_text(), re.M
    )
    (student,) = load_plan(str(conf.parent / line)).stages
    by_hand = load_plan(str(conf / f"{hand}.yaml")).stages[stage - 1]
    assert student.target.params(0) == params and student.allocate == way
    for field in ("epochs", "blocks", "units", "kd", "taught_by", "init"):
        assert getattr(student, field) == getattr(by_hand, field), field
    assert student.train.options == by_hand.train.options
