"""Our counts and tables are sclite's: against stored output, and live where it is installed."""

import random
import re
from pathlib import Path

import pytest

from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts, read_counts
from espnet_kd.scoring.sclite import find_sclite, run_sclite, sum_row
from espnet_kd.scoring.score import score
from espnet_kd.scoring.summary import alignment, speaker_of, summary
from espnet_kd.scoring.units import as_sclite

FIXTURE = Path(__file__).parent / "fixture"


def read_trn(path):
    table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words, _, trn_id = line.rpartition("\t")
        table[trn_id.strip("()")] = words
    return table


def stored_scores(text):
    """Return {trn id: (C, S, D, I)} from sclite's alignments."""
    found = re.findall(r"id: \((\S+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", text)
    return {trn_id: tuple(map(int, counts)) for trn_id, *counts in found}


def rows(text):
    """Return the rows of sclite's tables without padding and rules."""
    lines = [line.replace("|", " ").split() for line in text.splitlines() if "|" in line]
    return [line for line in lines if line and not set("".join(line)) <= set("-=+")]


def own_scores(refs, hyps):
    ref_keys = [as_sclite(refs[u].split()) for u in refs]
    hyp_keys = [as_sclite(hyps[u].split()) for u in refs]
    return ref_keys, hyp_keys, align(ref_keys, hyp_keys)


def split(c):
    return (c.correct, c.substitutions, c.deletions, c.insertions)


@pytest.fixture(scope="module")
def stored():
    text = (FIXTURE / "sclite.txt").read_text(encoding="utf-8")
    return read_trn(FIXTURE / "ref.trn"), read_trn(FIXTURE / "hyp.trn"), text


def test_counts_equal_stored_sclite(stored):
    refs, hyps, text = stored
    _, _, ops = own_scores(refs, hyps)
    own = {u.lower(): split(Counts.of(o)) for u, o in zip(refs, ops)}
    assert len(own) == 400
    assert own == stored_scores(text)


def test_tables_equal_stored_sclite(stored):
    refs, hyps, text = stored
    _, _, ops = own_scores(refs, hyps)
    by_speaker = {}
    for u, o in zip(refs, ops):
        by_speaker.setdefault(speaker_of(u), []).append(Counts.of(o))
    own = summary("hyp.trn", {s: Counts.total(c) for s, c in by_speaker.items()})
    assert rows(own) == rows(text)
    for label in ("Sum/Avg", "Sum"):
        assert sum_row(own, label) == sum_row(text, label)


def test_own_alignment_reads_as_sclite(stored):
    refs, hyps, text = stored
    ref_keys, hyp_keys, ops = own_scores(refs, hyps)
    own = "".join(alignment(u.lower(), *x) for u, *x in zip(refs, ref_keys, hyp_keys, ops))
    assert stored_scores(own) == stored_scores(text)
    assert alignment("s-u", ["a", "bcd"], ["xy", "a"], "ICD").splitlines() == [
        "id: (s-u)",
        "Scores: (#C #S #D #I) 1 0 1 1",
        "REF:  ** a BCD",
        "HYP:  XY a ***",
        "Eval: I    D  ",
        "",
    ]


@pytest.mark.skipif(find_sclite() is None, reason="sclite is not installed")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("score_type", ["wer", "cer"])
def test_counts_equal_live_sclite(tmp_path, seed, score_type, capsys):
    rng = random.Random(seed)
    words = ["one", "two", "three", "Three", "tree", "oh", "é", "it's"][: rng.randint(2, 8)]

    def sentence(most):
        return " ".join(rng.choice(words) for _ in range(rng.randint(0, most)))

    refs = {f"u-{n}": sentence(9) for n in range(200)}
    hyps = {u: text if rng.random() < 0.3 else sentence(9) for u, text in refs.items()}
    result = score(refs, hyps, dict.fromkeys(refs, "s"), tmp_path, score_type)
    assert not capsys.readouterr().err  # sclite and counts.tsv agree on the sums
    counts = {f"s-{u}": split(c) for u, c in read_counts(tmp_path / "counts.tsv").items()}
    assert counts == stored_scores(result)


@pytest.mark.skipif(find_sclite() is None, reason="sclite is not installed")
def test_fixture_is_what_sclite_says_today():
    result = run_sclite(find_sclite(), FIXTURE / "ref.trn", FIXTURE / "hyp.trn")
    text = (FIXTURE / "sclite.txt").read_text(encoding="utf-8")
    assert stored_scores(result) == stored_scores(text)
    assert rows(result.replace(str(FIXTURE / "hyp.trn"), "hyp.trn")) == rows(text)
