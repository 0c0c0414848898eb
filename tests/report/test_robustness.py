"""Interactions: a planted fault is found, and where there is none hardly ever one."""

import shutil

import numpy as np
import pytest

from espnet_kd.bin.robustness import main
from espnet_kd.common.json_file import read_json
from espnet_kd.common.records import ROBUSTNESS
from espnet_kd.errors import UserError
from espnet_kd.report.comparisons import SIGNIFICANT
from espnet_kd.report.interactions import Heard, interactions, pool
from espnet_kd.report.robustness_page import pooled_page, robustness_page
from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.grouping import Grouping

SPEAKERS, EACH, WORDS = 6, 40, 5


def counts(rng, rate, voices):
    """Draw errors of (speakers x sentences): a condition suits some speakers more than others."""
    rates = (rate * voices * np.exp(rng.normal(0, 0.15, SPEAKERS))).repeat(EACH)
    errors = rng.binomial(WORDS, np.minimum(rates, 0.9))
    return [Counts(WORDS - int(e), int(e), 0, 0, 1, int(e > 0)) for e in errors]


def simulated(seed, models, fault=1.0, conditions=4):
    """Return what models made of conditions; the last model's cost is `fault` times as high."""
    rng = np.random.default_rng(seed)
    grouping = Grouping("speakers", np.arange(SPEAKERS).repeat(EACH), SPEAKERS)
    voices = {m: np.exp(rng.normal(0, 0.25, SPEAKERS)) for m in models}  # that suit each model
    clean = {m: counts(rng, 0.08, voices[m]) for m in models}
    heard = []
    for k in range(conditions):
        made = {
            m: (counts(rng, 0.08 + 0.06 * k * (fault if m == models[-1] else 1), voices[m]), x)
            for m, x in clean.items()
        }
        heard.append(Heard("test", f"c{k}", made, grouping))
    return heard


def found(rows):
    return [r for r in rows if r.interaction and r.interaction.verdict == SIGNIFICANT]


def test_false_alarms():
    """In 200 test sets, of two models that suffer alike, at most 5 % have any alarm."""
    alarms = [found(interactions(simulated(s, ["t", "m"]), 300, 0)) for s in range(200)]
    assert np.mean([bool(a) for a in alarms]) <= 0.05


def test_a_planted_fault_is_found_and_identical_models_differ_nowhere():
    rows = interactions(simulated(1, ["t", "alike", "worse"], fault=3.5), 400, 0)
    assert ("worse", "c3") in {(r.model, r.condition) for r in found(rows)}
    assert {r.model for r in found(rows)} == {"worse"}
    worst = found(rows)[-1]
    assert worst.interaction.interval.diff == pytest.approx(
        worst.degradation - rows[-3].degradation
    )
    one = simulated(2, ["t"])
    same = [Heard(h.test_set, h.condition, {**h.counts, "copy": h.counts["t"]}, h.grouping)
            for h in one]  # fmt: skip
    for row in interactions(same, 100, 0):
        if row.interaction:
            assert row.interaction.p == 1 and row.interaction.interval.diff == 0


def test_several_trainings_are_pooled():
    runs = [simulated(s, ["t", "worse"], fault=4) for s in (1, 2, 3)]
    pooled = pool(runs)
    assert pooled[3].significant and not pooled[0].significant
    assert pooled[3].interval.diff > 10
    with pytest.raises(Exception, match="other conditions or models"):
        pool([runs[0], runs[1][:-1]])
    fewer = Grouping("speakers", np.arange(SPEAKERS - 1).repeat(EACH), SPEAKERS - 1)
    cut = {m: tuple(part[:-EACH] for part in both) for m, both in runs[1][0].counts.items()}
    others = [Heard("test", "c0", cut, fewer), *runs[1][1:]]
    with pytest.raises(UserError, match="test under c0: the runs have other sentences"):
        pool([runs[0], others])
    one = Grouping("speakers", np.zeros(SPEAKERS * EACH, int), 1)
    alone = [[Heard(h.test_set, h.condition, h.counts, one) for h in run] for run in runs]
    told = pool(alone)
    assert not any(p.significant for p in told)
    page = pooled_page(told, alone[0], ["a", "b", "c"])
    assert "; no conclusion: all is of one speaker" in page and "nan" not in page


def test_five_models_have_a_line():
    rows = interactions(simulated(3, list("tabcd"), fault=4), 100, 0)
    beyond = {r.model: r.residual for r in rows if r.condition == "c3"}
    assert sum(beyond.values()) == pytest.approx(0, abs=1e-6)
    assert interactions(simulated(3, list("tab")), 100, 0)[0].residual is None


def score_files(folder, names, errors, labels=()):
    (folder / "score_wer").mkdir(parents=True)
    rows = [f"{u}\t4\t{4 - e}\t{e}\t0\t0\n" for u, e in zip(names, errors)]
    (folder / "score_wer/counts.tsv").write_text("utt\tref_words\tC\tS\tD\tI\n" + "".join(rows))
    spoken = [f"x\t({u[:2]}-{u})\n" for u in names]
    (folder / "score_wer/ref.trn").write_text("".join(spoken))
    if labels:
        (folder / "utt2condition").write_text("".join(f"{u} {c}\n" for u, c in zip(names, labels)))


def run(words, code=0):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == code


def test_the_page_and_its_record(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    clean = [f"s{n % 6}-{n}" for n in range(60)]
    made = [f"{u}-{c}" for c in ("hiss", "phone") for u in clean[6:54]]
    labels = [u.rpartition("-")[2] for u in made]
    for model, hiss in (("t", 1), ("m", 3)):
        score_files(tmp_path / model / "d/test", clean, rng.integers(0, 2, 60))
        errors = [hiss if c == "hiss" else int(rng.integers(0, 2)) for c in labels]
        score_files(tmp_path / model / "d/robustness/test", made, errors, labels)
    words = ["--exp", str(tmp_path), "--inference_tag", "d", "--test_sets", "test"]
    models = [w for m in "tm" for w in ("--model", f"{m}={tmp_path / m}")]
    for ref in (tmp_path / "m/d/robustness/test/score_wer").glob("ref.trn"):
        spoken = ref.read_text()
        ref.write_text(spoken.replace("x\t", "y\t", 1))
        run([*words, *models, "--draws", "200"], code=1)
        assert "scored on other references than test" in capsys.readouterr().err
        ref.write_text(spoken)
    run([*words, *models, "--draws", "200"])
    page = (tmp_path / "ROBUSTNESS.md").read_text()
    assert "- **m**: hiss +" in page and "| hiss | m | 75.00 |" in page
    assert "its 6 speakers" in page and "significant among all 2 of this page" in page
    record = ROBUSTNESS.read(tmp_path)
    assert record["under"][1]["interaction"]["verdict"] == SIGNIFICANT
    shutil.copytree(tmp_path, tmp_path / "again")
    runs = [w for d in (tmp_path, tmp_path / "again") for w in ("--run", str(d))]
    ROBUSTNESS.write(tmp_path / "again", {**record, "relative_dirs": {"t": "../t", "m": "../m"}})
    run(["--exp", str(tmp_path / "both"), *runs], 1)
    assert "both heard " in capsys.readouterr().err
    assert record["relative_dirs"] == {"t": "t", "m": "m"}
    ROBUSTNESS.write(tmp_path / "again", record)
    monkeypatch.chdir(tmp_path / "m")  # folders are those seen from the record's
    run(["--exp", str(tmp_path / "both"), *runs])
    assert read_json(tmp_path / "both/robustness_pooled.json")["pooled"][0]["model"] == "m"
    pooled = (tmp_path / "both/ROBUSTNESS.md").read_text()
    assert "over several trainings" in pooled and "its 6 speakers" in pooled
    for words, told in (
        (["--exp", str(tmp_path), *runs], "holds the ROBUSTNESS.md of a run"),
        (["--exp", str(tmp_path / "both"), *runs[:2]], "--run: name two folders of runs or more"),
        (["--exp", str(tmp_path / "both"), *runs, *runs[:2]], "each once"),
        (["--exp", str(tmp_path / "both"), *runs, "--test_sets", "x"], "--test_sets: is of one"),
        (["--exp", str(tmp_path / "both"), *runs, "--draws", "50"], "--draws: nothing is drawn"),
    ):
        run(words, 1)
        assert told in capsys.readouterr().err
    assert (tmp_path / "ROBUSTNESS.md").read_text() == page


def test_what_allows_no_verdict_is_told_beside_the_table():
    heard = simulated(4, ["t", "m"])
    silent = [Counts(0, 0, WORDS, 0, 1, 1)] * (SPEAKERS * EACH)
    heard = [
        Heard(h.test_set, h.condition, {**h.counts, "m": (silent, silent)}, h.grouping)
        for h in heard
    ]
    page = robustness_page(interactions(heard, 50, 0), heard, "d")
    assert "  c0, c1, c2, c3: no conclusion: m outputs nothing.\n" in page
    assert "significant among all 0 of this page" in page
