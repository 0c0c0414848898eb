"""Labels of several teachers: the median, agreement, confidence, labelled utterances beside."""

import itertools

import pytest
import soundfile

from espnet_kd.bin.hard_labels import main
from espnet_kd.data.label_selection import (
    best_share,
    confidences,
    first_difference,
    median_labels,
    source_count,
    voted_labels,
)
from espnet_kd.fileio import read_table, write_table
from espnet_kd.spec.plan import parse_plan

A = {"u1": "ONE TWO", "u2": "SIX", "u3": "NINE"}
B = {"u1": "ONE TWO", "u2": "SIX SIX", "u3": "FIVE"}
C = {"u1": "ONE TOO", "u2": "SIX", "u3": "FIVE NINE"}
NAMES = ["a", "b", "c"]


def test_the_hypothesis_nearest_to_all_others_is_taken_in_any_order():
    labels = median_labels([A, B, C], NAMES)
    assert {u: label.text for u, label in labels.items()} == {
        "u1": "ONE TWO", "u2": "SIX", "u3": "NINE",
    }  # fmt: skip
    # Pairs: u1 differs by 0, 1, 1 of 7 characters.
    assert labels["u1"].agreement == pytest.approx(1 - (0 + 1 / 7 + 1 / 7) / 3)
    turned = median_labels([C, B, A], NAMES)
    for utt in ("u1", "u2"):
        assert turned[utt].text == labels[utt].text
        assert turned[utt].agreement == pytest.approx(labels[utt].agreement)
    one = median_labels([A], NAMES)
    assert [(x.text, x.agreement) for x in one.values()] == [(t, 1.0) for t in A.values()]


def vote(*hyps):
    """What hypotheses of an utterance make together; a second one keeps blank teachers in."""
    tables = [{"u": hyp, **{f"v{n}": "X" for n in range(3)}} for hyp in hyps]
    return voted_labels(tables, median_labels(tables, list(map(str, hyps))))["u"].text


def test_words_are_voted_on():
    assert vote("A B C", "A X C", "Y B C") == "A B C"  # substitutions
    assert vote("A B", "A B C", "A B C") == "A B C"  # the end
    assert vote("A B C", "B C", "B C") == "B C" == vote("B C", "A B C", "B C")  # the beginning
    assert vote("A C", "A B C", "A B C", "A C") == "A C"  # a tie: the first one's
    assert vote("A B C", "A C", "A B C", "A C") == "A B C"
    assert vote("A X", "B X", "C X", "C Y", "D Y") == "C X"  # which no teacher needs to have said
    assert vote("", "", "A") == "" and vote("", "A", "A B") == "A" and vote("", "", "") == ""
    assert vote("one", "  one ", "two") == "one"


def test_a_majority_wins_in_any_order_and_the_first_one_where_there_is_none():
    """All triples of strings of at most two words out of two, and none."""
    texts = [" ".join(words) for n in range(3) for words in itertools.product("AB", repeat=n)]
    for triple in itertools.product(texts, repeat=3):
        voted = vote(*triple)
        assert set(voted.split()) <= set(" ".join(triple).split())
        common = [text for text in triple if triple.count(text) > 1]
        if common:
            assert voted == common[0]
    for one, other in itertools.product(texts, repeat=2):
        assert vote(one, other, one, other) == one  # ties throughout


def test_a_teacher_that_labels_nothing_is_refused():
    with pytest.raises(Exception, match="b: is blank on 2 of 3 utterances"):
        median_labels([A, {"u1": "ONE", "u2": "", "u3": ""}], NAMES)
    with pytest.raises(Exception, match="b: 'u3' is in one of the decoded sets only"):
        median_labels([A, {"u1": "ONE", "u2": "TWO"}], NAMES)
    assert first_difference(["a", "b"], ["a", "c"]) == "token 1 is 'c', not 'b'"
    assert first_difference(["a"], ["a", "c"]) and not first_difference(["a"], ["a"])


def test_confidence_and_shares():
    labels = median_labels([A], NAMES)
    scores = confidences(labels, [{"u1": "-7.0", "u2": "tensor(-0.3)"}], {"u1": 7, "u2": 3}, NAMES)
    assert scores["u1"] == pytest.approx(0.3679, abs=1e-4) and scores["u2"] > 0.9
    with pytest.raises(Exception, match="a: the score of 'u3' is nothing"):
        confidences(labels, [{}], {"u3": 4}, NAMES)
    assert best_share({"x": 0.5, "y": 0.9, "z": 0.5}, 0.6) == ["x", "y"]
    for keep, count, kept in ((0.07, 100, 7), (0.55, 100, 55), (0.071, 100, 8), (0.01, 50, 1)):
        assert len(best_share({f"u{n}": 0.0 for n in range(count)}, keep)) == kept
    assert source_count(30, 0.25) == 10


@pytest.fixture
def labelled(tmp_path):
    """A set without transcripts, decoded by three, and a labelled one."""
    soundfile.write(tmp_path / "a.wav", [0.1] * 16000, 16000)
    for name, utts, text in (("target", list(A), ""), ("source", ["s1", "s2", "s3"], "TWO")):
        folder = tmp_path / name
        write_table(folder / "wav.scp", {u: str(tmp_path / "a.wav") for u in utts})
        write_table(folder / "text", {u: text for u in utts})
        write_table(folder / "utt2spk", {u: u for u in utts})
        write_table(folder / "utt2num_samples", {u: 16000 for u in utts})
    write_table(tmp_path / "source/speech_shape", {u: 16000 for u in ("s1", "s2", "s3")})
    write_table(tmp_path / "source/text_shape.char", {u: "3,8" for u in ("s1", "s2", "s3")})
    for name, hyps in zip(NAMES, (A, B, C)):
        write_table(tmp_path / name, hyps)
    (tmp_path / "tokens.txt").write_text("x\n" * 8)
    (tmp_path / "c.yaml").write_text("frontend_conf: {hop_length: 160}\nencoder_conf: {}\n")
    return tmp_path


def run(folder, *words, hyps=NAMES, code=0):
    line = [w for name in hyps for w in ("--hyp", str(folder / name))]
    line += ["--data", str(folder / "target"), "--config", str(folder / "c.yaml")]
    line += ["--speech_shape", str(folder / "target/utt2num_samples"), "--out", str(folder / "o")]
    line += ["--token_list", str(folder / "tokens.txt"), "--token_type", "char", *words]
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == code


def test_a_set_is_labelled_chosen_from_and_mixed(labelled, capsys):
    source = ["--source", str(labelled / "source"), "--source_shapes", str(labelled / "source")]
    run(labelled, "--select", "agreement", "--keep", "0.6", *source, "--keep_source", "0.5")
    assert read_table(labelled / "o/text") == {
        "s2": "TWO", "s3": "TWO", "u1": "ONE TWO", "u2": "SIX",
    }  # fmt: skip
    assert read_table(labelled / "o/text_shape.char")["u1"] == "7,8"
    assert set(read_table(labelled / "o/speech_shape")) == {"s2", "s3", "u1", "u2"}
    rows = (labelled / "o/selection.tsv").read_text().splitlines()
    assert rows[0] == "utt\tteacher\tscore\tkept" and rows[3].startswith("u3\t0\t0.")
    run(labelled, "--combine", "vote")
    assert read_table(labelled / "o/text") == {"u1": "ONE TWO", "u2": "SIX", "u3": "NINE"}
    run(labelled, "--combine", "vote", hyps=["c", "b", "a"])
    assert read_table(labelled / "o/text")["u3"] == "FIVE"
    run(labelled, "--select", "agreement", "--keep", "0.3", "--least", "2", code=1)
    assert "1 utterances are left to train on, and 2 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, told",
    [
        (["--keep", "0.5"], "--keep: needs --select"),
        (["--combine", "vote", "--select", "confidence"], "--combine vote: needs three --hyp"),
        (["--score", "x"], "--score: needs --select confidence"),
        (["--select", "confidence", "--score", "x"], "--score: 1 for 3 --hyp; name one each"),
        (["--keep_source", "1"], "--keep_source 1: leaves no room"),
        (["--keep_source", "0.5"], "give all of them, or none"),
        (["--source", "x"], "give all of them, or none"),
    ],
)
def test_options_that_belong_together(labelled, capsys, words, told):
    run(labelled, *words, code=1)
    assert told in capsys.readouterr().err


def test_a_source_that_is_too_small_is_told(labelled, capsys):
    source = ["--source", str(labelled / "source"), "--source_shapes", str(labelled / "source")]
    run(labelled, *source, "--keep_source", "0.9")
    told = capsys.readouterr().out
    assert "with their transcripts, " in told and "has no more; --keep_source 0.9 asks" in told


def test_one_teacher_and_no_choice_is_what_it_was(labelled):
    made = []
    for words in ([], ["--select", "none"]):
        run(labelled, *words, hyps=["a"])
        names = ("text", "wav.scp", "utt2spk", "speech_shape", "text_shape.char")
        made.append([(labelled / "o" / name).read_bytes() for name in names])
    assert made[0] == made[1]


STAGE = "stages:\n- {name: a, method: retrain, objective: none, "


@pytest.mark.parametrize(
    "words, told",
    [
        ("select: {by: agreement}", "select: needs 'labels: teacher'"),
        ("labels: teacher, select: {by: agreement}", "'agreement' needs two teachers or more"),
        ("labels: teacher, select: {by: agreemnt}", "agreemnt"),
        (
            "labels: teacher, select: {by: none, keep: 0.5}",
            "'by: none' keeps all labels, found 0.5",
        ),
        ("labels: teacher, label_teachers: [previous, later]", "label_teachers: "),
        ("labels: teacher, label_teachers: [first, first]", "'first' is named twice"),
        (
            "labels: teacher, label_teachers: [previous, first, exp/b]",
            "label_teachers: 'previous' and 'first' are one model in this stage",
        ),
        ("labels: teacher, label_teachers: previous", "expected a list of teachers"),
        ("combine: vote", "combine: needs 'labels: teacher'"),
        ("labels: teacher, combine: vote, label_teachers: [first, exp/b]", "needs three teachers"),
        (
            "labels: teacher, combine: vote, label_teachers: [first, exp/b, exp/c], "
            "select: {by: confidence}",
            "what 'combine: vote' makes of several has none",
        ),
        ("keep_source: 0.5", "there is none"),
        ("label_set: a b", "expected the name of a set"),
    ],
)
def test_a_mistake_in_the_plan_is_one_line(words, told):
    with pytest.raises(Exception, match="p.yaml:2: ") as e:
        parse_plan(f"{STAGE}{words}}}\n", "p.yaml")
    assert told in str(e.value) and "\n" not in str(e.value)


def test_a_plan_of_adaptation_is_read():
    words = "labels: teacher, label_set: t, label_teachers: [first, exp/b], keep_source: 0.5"
    stage = parse_plan(f"{STAGE}{words}, select: {{keep: 0.8}}}}\n", "p.yaml").stages[0]
    assert (stage.select.by, stage.select.keep, stage.label_set) == ("agreement", 0.8, "t")
