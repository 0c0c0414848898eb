"""Groups of utterances: speakers, recordings, utterances."""

import numpy as np
import pytest

from espnet_kd.errors import UserError
from espnet_kd.scoring.grouping import group, read_grouping
from espnet_kd.scoring.score import score


def names(speakers, versions, of_each=3):
    """Return utterances and their speakers: each recording at some noise levels."""
    utts = {
        f"s{s}-r{r}-snr{v}": f"s{s}"
        for s in range(speakers)
        for r in range(of_each)
        for v in range(versions)
    }
    return list(utts), utts


def test_speakers_are_drawn_where_there_are_enough():
    utts, speakers = names(5, 1)
    grouping = group(utts, speakers, {})
    assert (grouping.by, grouping.count, grouping.speakers) == ("speakers", 5, 5)
    assert grouping.sums(np.arange(15)).tolist() == [3, 12, 21, 30, 39]
    assert grouping.sums(np.ones((2, 15))).shape == (2, 5)
    assert grouping.describe() == "its 5 speakers, each with all utterances"


def test_few_speakers_leave_recordings_with_all_their_versions():
    utts, speakers = names(4, 2)
    sources = {utt: utt.rpartition("-")[0] for utt in utts}
    grouping = group(utts, speakers, sources)
    assert (grouping.by, grouping.count) == ("recordings", 12)
    assert "12 recordings, each with all versions" in grouping.describe()
    assert "4 speakers would be too few" in grouping.describe()
    assert "not for other people" in grouping.describe()
    assert (group(utts, speakers, {}).by, group(utts, speakers, {}).count) == ("utterances", 24)


def test_what_was_asked_for():
    utts, speakers = names(4, 2)
    asked = group(utts, speakers, {}, "speakers")
    assert (asked.by, asked.count, asked.chosen) == ("speakers", 4, "speakers")
    assert group(utts, speakers, {}, "utterances").count == 24
    none = group(utts, speakers, {}, "recordings").describe()
    assert "24 utterances (recordings were asked for, and no two are known to be of one)" in none


def test_chapters_of_librispeech_are_of_one_reader():
    utts = [f"{reader}-{chapter}-{n}" for reader in range(6) for chapter in (1, 2) for n in "ab"]
    speakers = {utt: utt.rpartition("-")[0] for utt in utts}
    assert group(utts, speakers, {}).count == 6
    speakers[utts[0]] = "x-1"  # then the others' hyphens, too, may be part of a name
    assert group(utts, speakers, {}).count == 13


def test_utterances_without_a_speaker_are_each_of_their_own():
    utts = [f"u{n}" for n in range(30)]
    grouping = group(utts, dict(zip(utts, utts)), {})
    assert (grouping.by, grouping.count) == ("utterances", 30)
    assert (
        grouping.describe() == "its 30 utterances (each utterance has a speaker label of its own)"
    )


def test_versions_of_a_recording_belong_together_where_no_speakers_were_named():
    utts = [f"u{n}-{snr}" for n in range(15) for snr in ("snr0", "snr5")]
    sources = {utt: utt.partition("-")[0] for utt in utts}
    grouping = group(utts, dict(zip(utts, utts)), sources)
    assert (grouping.by, grouping.count) == ("recordings", 15)
    assert "each with all versions (each utterance has a speaker label" in grouping.describe()


def scored(folder, utts, speakers):
    score(
        dict.fromkeys(utts, "a"), dict.fromkeys(utts, "a"), speakers, folder / "score_wer", "wer"
    )


def test_read_from_what_lies_beside_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLITE", "none")
    utts, speakers = names(3, 2)
    scored(tmp_path, utts, speakers)
    assert read_grouping(tmp_path, utts).by == "utterances"
    labels = [f"{utt} {utt.rpartition('-')[2]}\n" for utt in utts]
    (tmp_path / "utt2condition").write_text("".join(labels))
    assert read_grouping(tmp_path, utts).count == 9  # made before there was utt2source
    (tmp_path / "utt2source").write_text("".join(f"{utt} {utt[:2]}\n" for utt in utts))
    assert read_grouping(tmp_path, utts).count == 3
    assert read_grouping(tmp_path, utts, "speakers").count == 3


def test_scores_of_other_utterances_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SCLITE", "none")
    utts, speakers = names(3, 2)
    with pytest.raises(UserError, match="ref.trn: no such file"):
        read_grouping(tmp_path, utts)
    scored(tmp_path, utts, speakers)
    with pytest.raises(UserError, match="18 utterances, not 17"):
        read_grouping(tmp_path, utts[1:])
    with pytest.raises(UserError, match="ref.trn:18: 's2-s2-r2-snr1' is not of 'x'"):
        read_grouping(tmp_path, [*utts[:-1], "x"])
