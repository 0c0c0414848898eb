"""The command line `score`: files, warnings, errors."""

import sys

import pytest

from espnet_kd.bin.score import main
from espnet_kd.scoring.counts import read_counts
from espnet_kd.scoring.sclite import find_sclite, sum_row

REF = {"s1-a": "one two three", "s1-b": "four five", "s2-c": "six"}
HYP = {"s1-a": "ONE two", "s1-b": "four five", "s2-c": "six six"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["score"])
    monkeypatch.setenv("SCLITE", "none")
    write(tmp_path, "ref", "text", REF)
    write(tmp_path, "ref", "utt2spk", {u: u[:2] for u in REF})
    write(tmp_path, "hyp", "text", HYP)
    return tmp_path


def write(folder, name, file, table):
    (folder / name).mkdir(exist_ok=True)
    lines = [f"{k} {v}\n" for k, v in table.items()]
    (folder / name / file).write_text("".join(lines), encoding="utf-8")


def run(folder, *more):
    with pytest.raises(SystemExit) as exit_:
        main([f"--ref={folder}/ref/text", f"--hyp={folder}/hyp/text", f"--out={folder}", *more])
    return exit_.value.code


def test_files(folder, capsys):
    assert run(folder) == 0
    wer = folder / "score_wer"
    assert (wer / "ref.trn").read_text() == (
        "one two three\t(s1-s1-a)\nfour five\t(s1-s1-b)\nsix\t(s2-s2-c)\n"
    )
    assert (folder / "score_cer/hyp.trn").read_text().splitlines()[0] == (
        "O N E <space> t w o\t(s1-s1-a)"
    )
    assert (wer / "counts.tsv").read_text().splitlines()[:2] == [
        "utt\tref_words\tC\tS\tD\tI",
        "s1-a\t3\t2\t0\t1\t0",
    ]
    result = (wer / "result.txt").read_text()
    assert sum_row(result) == [3, 6, 83.3, 0, 16.7, 16.7, 33.3, 66.7]
    assert sum_row(result, "Sum") == [3, 6, 5, 0, 1, 1, 2, 2]
    # What asr.sh and show_asr_result.sh grep for.
    lines = [line for line in result.splitlines() if "Avg" in line]
    assert len(lines) == 1 and lines[0].startswith("| Sum/Avg|")
    out = capsys.readouterr()
    assert lines[0] in out.out and not out.err


def test_what_could_not_be_used_is_told(folder, capsys):
    (folder / "ref/left_out").write_text("unusable sound files\ta.flac: cut off\n")
    assert run(folder) == 0
    words = f"1 utterances of this set could not be used and are not scored: {folder}/ref/left_out"
    assert words in capsys.readouterr().err


@pytest.mark.skipif(find_sclite({}) is None, reason="sclite is not installed")
def test_with_and_without_sclite_the_numbers_are_equal(folder, monkeypatch):
    assert run(folder) == 0
    own = (folder / "score_wer/result.txt").read_text()
    monkeypatch.setenv("SCLITE", find_sclite({}))
    assert run(folder) == 0
    real = (folder / "score_wer/result.txt").read_text()
    assert "espnet_kd" in own and "espnet_kd" not in real
    assert sum_row(own) == sum_row(real) and sum_row(own, "Sum") == sum_row(real, "Sum")


@pytest.mark.skipif(find_sclite({}) is None, reason="sclite is not installed")
@pytest.mark.parametrize(
    "ref, warning",
    [("one { two / three }", "counts.tsv differ"), (";; one two", "sclite failed")],
)
def test_markup_is_told(folder, monkeypatch, capsys, ref, warning):
    monkeypatch.setenv("SCLITE", find_sclite({}))
    write(folder, "ref", "text", {**REF, "s1-a": ref})
    assert run(folder) == 0
    assert warning in capsys.readouterr().err


def test_conditions_go_with_the_scores(folder):
    write(folder, "ref", "utt2condition", {u: f"snr{n}" for n, u in enumerate(REF)})
    assert run(folder) == 0
    assert (folder / "utt2condition").read_text() == "s1-a snr0\ns1-b snr1\ns2-c snr2\n"


def test_missing_hypotheses_are_deletions(folder, capsys):
    write(folder, "hyp", "text", {"s1-b": "four five"})
    assert run(folder) == 0
    assert "2 of 3 utterances were not decoded" in capsys.readouterr().err
    counts = read_counts(folder / "score_wer/counts.tsv")
    assert [c.deletions for c in counts.values()] == [3, 0, 1]


@pytest.mark.parametrize(
    "file, table, message",
    [
        ("hyp/text", {}, "hyp/text: no hypotheses in it"),
        ("hyp/text", {"x": "one"}, "1 of 1 utterances are not in"),
        ("hyp/text", {**HYP, "x": "one"}, "1 of 4 utterances are not in"),
        ("ref/text", dict.fromkeys(REF, ""), "ref/text: no reference text in it"),
        ("ref/utt2spk", {"s1-a": "s1"}, "no speaker for 's1-b'"),
        ("ref/utt2condition", {"s1-a": "far"}, "ref/utt2condition: no label for 's1-b'"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, file, table, message):
    write(folder, *file.split("/"), table)
    assert run(folder) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (folder / "score_wer").exists()


def test_missing_files(folder, capsys):
    (folder / "hyp/text").unlink()
    assert run(folder) == 1
    assert "hyp/text: no such file" in capsys.readouterr().err


def test_sclite_that_is_not_there(folder, capsys, monkeypatch):
    monkeypatch.setenv("SCLITE", "/nowhere/sclite")
    assert run(folder) == 1
    assert "SCLITE=/nowhere/sclite" in capsys.readouterr().err
