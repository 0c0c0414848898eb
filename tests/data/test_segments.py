"""Data directories of which something is missing, and utterances that are parts of recordings."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.fileio import read_table

RATE = 16000
FORMATS = {"flac": (None, None), "wav": (None, None), "ogg": ("OGG", "VORBIS"),
           "opus": ("OGG", "OPUS"), "mp3": ("MP3", None)}  # fmt: skip


def write_dir(folder="data/set", **tables):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, lines in tables.items():
        name = name.replace("wav_scp", "wav.scp")
        Path(folder, name).write_text("".join(f"{line}\n" for line in lines))


def record(path, seconds=3.0, channels=1, seed=0):
    kind, subtype = FORMATS[path.rpartition(".")[2]]
    random = np.random.default_rng(seed)
    audio = 0.1 * random.standard_normal((int(seconds * RATE), channels)).clip(-5, 5)
    soundfile.write(path, audio, RATE, format=kind, subtype=subtype)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Return a function that writes `data/set`: two recordings, three utterances."""
    monkeypatch.chdir(tmp_path)

    def make(segments=("u1 r1 0.5 1.25", "u2 r1 1.25 -1", "u3 r2 0 3.2"), extension="flac"):
        for n in (1, 2):
            record(f"r{n}.{extension}", seed=n)
        utts = [f"u{n}" for n in (1, 2, 3)]
        write_dir(
            wav_scp=[f"r{n} r{n}.{extension}" for n in (1, 2)],
            text=[f"{utt} THE TEXT OF {utt}" for utt in utts],
            utt2spk=[f"{utt} s" for utt in utts],
            segments=segments,
        )

    return make


def formatted(ok, *options, data="data/set"):
    ok("format_audio", "--data", data, "--out", "dump/set", "--audio_format", "wav", *options)
    samples = read_table("dump/set/utt2num_samples")
    audio = {}
    for utt, path in read_table("dump/set/wav.scp").items():
        audio[utt], rate = soundfile.read(path)
        assert rate == RATE and len(audio[utt]) == int(samples[utt])
    return audio


@pytest.mark.parametrize("extension", FORMATS)
def test_the_part_is_cut_out_of_the_recording(extension, parts, ok):
    parts(extension=extension)
    audio = formatted(ok)
    whole = {n: soundfile.read(f"r{n}.{extension}")[0] for n in (1, 2)}
    spans = {"u1": (1, 8000, 20000), "u2": (1, 20000, 48000), "u3": (2, 0, 48000)}
    assert audio.keys() == spans.keys()
    for utt, (n, start, end) in spans.items():
        assert len(audio[utt]) == end - start
        assert np.abs(audio[utt] - whole[n][start:end]).max() <= 1e-3, utt
    assert read_table("dump/set/text")["u2"] == "THE TEXT OF u2"
    assert not Path("dump/set/segments").exists()


def test_ids_of_recordings_do_not_hide_the_segments(tmp_path, monkeypatch, ok):
    monkeypatch.chdir(tmp_path)
    record("r.flac")
    write_dir(wav_scp=["r r.flac"], text=["r A"], utt2spk=["r s"], segments=["r r 1 2"])
    assert len(formatted(ok)["r"]) == RATE


def test_parts_at_other_speeds(parts, ok):
    parts()
    ok("perturb_speed", "--data", "data/set", "--factors", "0.9 1", "--out", "data/sp")
    audio = formatted(ok, data="data/sp")
    assert len(audio) == 6
    assert len(audio["u1"]) == 12000 and len(audio["sp0.9-u1"]) == round(12000 / 0.9)
    assert len(audio["sp0.9-u2"]) == round(28000 / 0.9)
    # The speeds are taken off again: the old table of parts must not stay.
    write_dir("data/whole", wav_scp=["u1 r1.flac"], text=["u1 A"], utt2spk=["u1 s"])
    ok("perturb_speed", "--data", "data/whole", "--factors", "0.9", "--out", "data/sp")
    assert not Path("data/sp/segments").exists()


@pytest.mark.parametrize(
    "line, words",
    [
        ("u1 r1 0.5 1.25 B", "data/set/segments: 'u1' names a channel (B)"),
        ("u1 r1 1.25 0.5", "'u1' has 'r1 1.25 0.5'; <recording> <start> <end> are needed"),
        ("u1 r1 -0.5 1", "<recording> <start> <end> are needed"),
        ("u1 r1 0 nan", "<recording> <start> <end> are needed"),
        ("u1 r1 0", "<recording> <start> <end> are needed"),
        ("u1", "<recording> <start> <end> are needed"),
        ("u1 r1 0 3.6", "its segment, 0 to 3.6 s, goes beyond the end of the recording, 3.00 s"),
        ("u1 r1 3 -1", "its segment, 3 to -1 s, goes beyond"),
        ("u1 r9 0 1", "1 of 3 utterances are unusable, more than --max_bad_share 0.02 allows: "
         "1 utterances without audio (e.g. u1)"),
    ],
)  # fmt: skip
def test_wrong_segments_are_refused(line, words, parts, cli):
    parts(segments=[line, "u2 r1 1.25 -1", "u3 r2 0 3"])
    code, err = cli("format_audio", "--data", "data/set", "--out", "dump/set")
    assert code == 1 and words in err.splitlines()[-1], err
    assert not Path("dump/set/wav.scp").exists()


def test_a_channel_is_not_averaged_where_one_is_chosen(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    record("r.wav", channels=2)
    write_dir(wav_scp=["r r.wav"], text=["r A"], utt2spk=["r s"])
    command = ["format_audio", "--data", "data/set", "--out", "dump/set"]
    assert cli(*command)[0] == 0  # averaged, as it is documented
    write_dir(reco2file_and_channel=["r r A"])
    code, err = cli(*command)
    assert code == 1 and "chooses a channel of r.wav ('r'), which has 2" in err
    record("r.wav")
    assert cli(*command)[0] == 0


@pytest.mark.parametrize(
    "path, words",
    [
        ("a.flac\xa0", "'b' has 'a.flac\\xa0': white space at its ends"),
    ],
)
def test_what_is_no_file_is_named(path, words, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    record("a.flac")
    write_dir(wav_scp=["a a.flac", f"b {path}"], text=["a A", "b B"], utt2spk=["a s", "b s"])
    code, err = cli(
        "format_audio", "--data", "data/set", "--out", "dump/set", "--max_bad_share", "1"
    )
    assert code == 1 and words in err.splitlines()[-1], err


@pytest.fixture
def four(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record("a.flac")
    utts = "abcd"
    write_dir(
        wav_scp=[f"{utt} a.flac" for utt in utts],
        text=[f"{utt} A" for utt in utts],
        utt2spk=[f"{utt} s" for utt in utts],
    )


@pytest.mark.parametrize("name", ["utt2condition", "utt2speed", "utt2num_samples"])
@pytest.mark.parametrize("verb", ["format_audio", "perturb_speed", "filter_lengths"])
def test_a_table_of_some_utterances_does_not_shrink_the_set(name, verb, four, cli):
    write_dir(**{name: ["b 1"]})
    code, err = cli(verb, "--data", "data/set", "--out", "dump/set")
    line = f"error: data/set/{name}: lacks 3 of 4 utterances (e.g. a); complete it, or remove it"
    assert code == 1 and line in err


def test_a_table_of_more_utterances_does_no_harm(four, cli):
    write_dir(utt2condition=[f"{utt} x" for utt in "abcdefg"])
    assert cli("format_audio", "--data", "data/set", "--out", "dump/set")[0] == 0
    assert read_table("dump/set/utt2condition") == dict.fromkeys("abcd", "x")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("wav_scp", "without audio"),
        ("text", "without a transcript"),
        ("utt2spk", "without a speaker"),
    ],
)
@pytest.mark.parametrize("verb", ["format_audio", "perturb_speed"])
def test_what_one_table_lacks_counts_as_unusable(name, kind, verb, four, cli, caplog):
    values = {"wav_scp": "a.flac", "text": "A", "utt2spk": "s"}
    write_dir(**{name: [f"{utt} {values[name]}" for utt in "bcd"]})
    command = [verb, "--data", "data/set", "--out", "dump/set"]
    code, err = cli(*command)
    assert code == 1
    told, _, hint = err.splitlines()[-1].partition("; ")
    assert told.endswith(
        "error: data/set: 1 of 4 utterances are unusable, more than --max_bad_share 0.02 allows: "
        f"1 utterances {kind} (e.g. a)"
    )
    assert hint.startswith("a training set needs none where --teacher_exp") == (name == "text")
    caplog.set_level(logging.WARNING)
    assert cli(*command, "--max_bad_share", "0.25")[0] == 0
    assert f"skipped 1 utterances {kind}: a" in caplog.text
    assert Path("dump/set/left_out").read_text() == f"utterances {kind}\ta\n"
    prefixes = ("", "sp0.9-", "sp1.1-") if verb == "perturb_speed" else ("",)
    assert set(read_table("dump/set/text")) == {p + utt for p in prefixes for utt in "bcd"}


def test_later_stages_refuse_what_no_stage_leaves(four, cli):
    write_dir(utt2num_samples=[f"{utt} 48000" for utt in "abcd"], text=["a A", "b B"])
    code, err = cli("filter_lengths", "--data", "data/set", "--out", "dump/set")
    assert code == 1
    assert "of 4 utterances, 2 utterances without a transcript (e.g. c); the stage that" in err


@pytest.mark.parametrize("nj", [1, 2])
def test_a_refusal_counts_all_that_is_bad(nj, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    record("a.flac")
    utts = [f"u{n:02d}" for n in range(12)]
    write_dir(
        wav_scp=[f"{utt} {utt}.flac" for utt in utts],
        text=[f"{utt} A" for utt in utts[1:]] + ["z Z"],
        utt2spk=[f"{utt} s" for utt in utts] + ["z s"],
    )
    code, err = cli("format_audio", "--data", "data/set", "--out", "dump/set", "--nj", nj)
    assert code == 1
    for words in (
        "data/set: 13 of 13 utterances are unusable",
        "1 utterances without a transcript (e.g. u00); 1 utterances without audio (e.g. z); ",
        "11 unusable sound files",
    ):
        assert words in err


def test_counting_ends_in_a_huge_set(four, cli, monkeypatch):
    monkeypatch.setattr("espnet_kd.data.format.PATIENCE", 0.0)
    write_dir(wav_scp=[f"{utt} none.flac" for utt in "abcd"])
    code, err = cli("format_audio", "--data", "data/set", "--out", "dump/set")
    assert code == 1
    assert "1 of 4 utterances are unusable (after a look at 1 of them), more than" in err


@pytest.mark.parametrize("speed", ["fast", "", "0", "nan"])
def test_a_speed_is_a_number(speed, four, cli):
    write_dir(utt2speed=["a 1", f"b {speed}", "c 1", "d 1"])
    code, err = cli("format_audio", "--data", "data/set", "--out", "dump/set")
    assert code == 1 and f"utt2speed: 'b' has '{speed}', which is no speed" in err


@pytest.mark.parametrize("speaker", ["", "the speaker"])
def test_a_speaker_is_a_word(speaker, four, cli):
    write_dir(utt2spk=["a s", f"b {speaker}", "c s", "d s"])
    code, err = cli("format_audio", "--data", "data/set", "--out", "dump/set")
    assert code == 1 and f"data/set/utt2spk: 'b' has '{speaker}'; one word is needed" in err
