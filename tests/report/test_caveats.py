"""Where a WER measures nothing the report says so, and nothing in it says otherwise."""

import json

import pytest
from fake_run import TAG, WORDS, add_model, references
from test_report_cli import run

from espnet_kd.report.comparisons import Comparison
from espnet_kd.report.words import difference
from espnet_kd.scoring.bootstrap import Interval
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.faults import fault
from espnet_kd.scoring.score import score

MODELS = ["--model=teacher=exp/asr_teacher", "--model=s1=exp/asr_s1"]


def silent(text):
    return ""


def babbling(text):
    return " ".join(WORDS * 2)


def one_word_in_fifty(text):
    return text.split()[0] if text.startswith("nine nine") else ""


@pytest.fixture
def exp(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLITE", "none")
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("teacher", "s1")):
        add_model(tmp_path / "exp", name, 40 - 10 * seed, 0.05, seed + 1, test_sets=["seen"])
    return tmp_path / "exp"


def outputs(exp, hypothesis, *names, number=120):
    """Score what `hypothesis` makes of each reference for the models in `names`."""
    refs = references(0, number)
    hyps = {utt: hypothesis(text) for utt, text in refs.items()}
    for name in names:
        for kind in "wer", "cer":
            folder = exp / f"asr_{name}" / TAG / "seen" / f"score_{kind}"
            score(refs, hyps, {utt: utt.split("-")[0] for utt in refs}, folder, kind)


def report(exp):
    """Return RESULTS.md up to ESPnet's tables, and the only comparison."""
    assert run(models=MODELS, sets="seen") == 0
    (comparison,) = json.loads((exp / "results.json").read_text())["comparisons"]
    return (exp / "RESULTS.md").read_text().split("# RESULTS")[0], comparison


@pytest.mark.parametrize("hypothesis", [silent, babbling, one_word_in_fifty])
@pytest.mark.parametrize("names", [("teacher", "s1"), ("teacher",), ("s1",)])
def test_models_that_recognise_nothing_are_named_and_not_compared(exp, hypothesis, names):
    outputs(exp, hypothesis, *names)
    text, comparison = report(exp)
    what = {
        silent: "outputs nothing",
        babbling: "makes at least as many errors as there are words, WER",
        one_word_in_fifty: "outputs hardly anything, ",
    }[hypothesis]
    assert comparison["verdict"].startswith(f"no conclusion: {names[0]} {what}")
    for name in names:
        assert f"> **Warning:** {name} {what}" in text
    assert "significant (" not in text and " †" not in text.split("- *Stage*")[0]
    assert "Nothing can be concluded" in text


def test_models_that_work_need_no_warning(exp):
    text, comparison = report(exp)
    assert comparison["verdict"] == "not significant" and comparison["remark"] is None
    assert "Warning" not in text


def test_the_same_errors_everywhere_are_no_test_result(exp):
    outputs(exp, lambda text: text.replace("one", "nine"), "teacher", "s1")
    text, comparison = report(exp)
    same = "the same number of errors of each kind in every utterance"
    assert comparison["verdict"] == same
    assert f"0.0 points of difference ({same})" in text


@pytest.mark.parametrize("number", [1, 19])
def test_a_handful_of_utterances_allows_no_verdict(exp, number):
    outputs(exp, lambda text: text, "teacher", number=number)
    outputs(exp, lambda text: text + " one", "s1", number=number)
    text, comparison = report(exp)
    assert f"no conclusion: {number} utterance" in comparison["verdict"]
    assert "significant" not in text.split("|")[0] and " †" not in text.split("- *Stage*")[0]


def test_an_utterance_without_words_counts_its_insertions(exp):
    refs = {**references(0, 119), "s0-empty": ""}
    for name, more in (("teacher", ""), ("s1", "one two")):
        hyps = {**refs, "s0-empty": more}
        for kind in "wer", "cer":
            folder = exp / f"asr_{name}" / TAG / "seen" / f"score_{kind}"
            score(refs, hyps, {utt: "s0" for utt in refs}, folder, kind)
    _, comparison = report(exp)
    model = json.loads((exp / "results.json").read_text())["models"][1]
    assert model["errors"]["wer"]["seen"]["insertions"] == 2
    assert comparison["diff"] == pytest.approx(model["wer"]["seen"])


def test_utterances_cut_off_by_the_limit_of_decoding_are_counted(exp):
    for job, number in ((1, 2), (2, 1)):
        path = exp / f"asr_s1/{TAG}/seen/logdir/output.{job}/rtf.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "hit_limit": number}))
    text, _ = report(exp)
    assert "> **Warning:** Decoding with s1 was stopped at its limit in 3 utterances;" in text
    teacher, student = json.loads((exp / "results.json").read_text())["models"]
    assert (teacher["hit_limit"], student["hit_limit"]) == (None, 3)


@pytest.mark.parametrize(
    "low, p, p_holm, dagger",
    [(0.1, 0.01, 0.03, True), (0.1, 0.01, 0.06, False), (0.1, 0.06, 0.06, False)],
)
def test_the_dagger_stands_where_the_verdict_is_significant(low, p, p_holm, dagger):
    c = Comparison("a", "b", "teacher", "s", Interval(0.5, low, 1.0), 2.0, p, p_holm)
    assert difference(c).endswith("†") == dagger == (c.verdict == "significant")


def test_verdict_and_dagger_agree_in_every_row(exp):
    outputs(exp, lambda text: text, "teacher")
    # An interval that excludes 0 narrowly, and a p value that does not follow.
    hyps = {"s0-u0": "", "s1-u5": "", "s2-u10": "", "s3-u15": ""}
    refs = references(0, 120)
    for kind in "wer", "cer":
        folder = exp / f"asr_s1/{TAG}/seen/score_{kind}"
        score(refs, {**refs, **hyps}, {utt: "s" for utt in refs}, folder, kind)
    text, comparison = report(exp)
    assert comparison["low"] > 0 and comparison["p"] >= 0.05
    assert comparison["verdict"] == "not significant"
    assert " †" not in text.split("- *Stage*")[0]


@pytest.mark.parametrize(
    "counts, what",
    [
        (Counts(0, 0, 100, 0), "outputs nothing"),
        (Counts(0, 2, 98, 1), "outputs hardly anything, 3 of 100 words"),
        (Counts(0, 100, 0, 0), "makes at least as many errors as there are words, WER 100.0 %"),
        (Counts(60, 20, 20, 80), "makes at least as many errors as there are words, WER 120.0 %"),
        (Counts(3, 50, 47, 2), None),
    ],
)
def test_faults(counts, what):
    assert fault(counts) == what
