"""Pauses and pairs of sentences in egs2/mini_speech: as long, as loud, as said."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir

pytest.importorskip("soxr", reason="part of the extra `demo`, as espeak-ng is")

LOCAL = Path(__file__).resolve().parents[2] / "egs2/mini_speech/asr_kd/local"
RATE = 16000
SNR = (20.0, 20.0)


@pytest.fixture(scope="module")
def local():
    """The recipe's modules `pauses`, `sound` and `add_pauses`, whose folder is on no path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LOCAL))
        names = ("pauses", "sound", "add_pauses")
        yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def recorded(local, seconds, fill, seed=0):
    """Record tones of 1 s with these pauses. (S,) in full scales"""
    sentence = np.sin(np.arange(RATE) * 0.3)
    babble = np.random.default_rng(9).standard_normal(RATE)
    pauses = local["pauses"].Pauses(seconds, fill)
    sentences = [sentence] * (len(seconds) - 1)
    record = local["sound"].record
    return record(sentences, np.random.default_rng(seed), babble, SNR, pauses) / 32768


def level_db(samples):
    return 10 * np.log10(np.mean(samples**2))


@pytest.mark.parametrize("fill", ["noise", "faint_noise", "silence"])
def test_pauses_are_as_long_as_they_say_and_change_nothing_else(local, fill):
    pauses = (0.5, 1.0, 0.25)
    plain, long = recorded(local, (0.0, 0.0, 0.0), "noise"), recorded(local, pauses, fill)
    assert len(long) - len(plain) == sum(pauses) * RATE
    # At what is loud it is the same recording, moved.
    loud = np.abs(plain) > 0.5 * np.abs(plain).max()
    first = np.flatnonzero(loud)[0]
    assert np.flatnonzero(np.abs(long) > 0.5 * np.abs(plain).max())[0] - first == pytest.approx(
        RATE / 2, abs=2
    )


@pytest.mark.parametrize("fill", ["noise", "faint_noise", "silence"])
def test_what_is_heard_in_a_pause(local, fill):
    low, high = local["pauses"].FAINT_DB
    for seed in range(5):
        samples = recorded(local, (0.5, 1.0, 0.25), fill, seed)
        before, behind = samples[: RATE // 2], samples[-RATE // 4 :]
        for pause in (before, behind):
            if fill == "silence":
                assert not pause.any()
            elif fill == "faint_noise":  # 16 bits round the faintest to nothing
                assert np.abs(pause).max() > 0 or seed
                assert level_db(pause + 1e-9) < high + 1
            else:  # 20 dB below speech of -30 to -20 dB
                assert -52 < level_db(pause) < -38
    assert -90 <= low < high < -58  # below the faintest noise of a recording


def test_two_sentences_are_two(local):
    samples = recorded(local, (0.0, 1.5, 0.0), "silence")
    loud = np.abs(samples) > 0.5 * np.abs(samples).max()
    starts = np.flatnonzero(np.diff(np.flatnonzero(loud)) > RATE // 2)
    assert len(starts) == 1 and len(samples) > 3.5 * RATE


def test_conditions_come_in_their_shares_with_their_pauses(local):
    pauses, rng = local["pauses"], np.random.default_rng(3)
    drawn = [pauses.condition(rng) for _ in range(4000)]
    for name, share in pauses.SHARES.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.02)
        made = [pauses.draw(name, rng) for _ in range(200)]
        lengths = np.array([p.seconds for p in made])
        assert lengths.shape[1] == pauses.sentence_count(name) + 1
        assert lengths.min() >= 0 and lengths.max() <= pauses.LONGEST
        fills = {p.fill for p in made}
        if name == "plain":
            assert not lengths.any()
        elif name == "two_sentences":
            assert not lengths[:, [0, 2]].any() and lengths[:, 1].max() > 1.5
            assert fills == set(pauses.FILLS)
        else:
            assert fills == {name} and lengths.max() > 1.5 and np.median(lengths) < 1
    assert sum(pauses.SHARES.values()) == pytest.approx(1)


@pytest.fixture
def plain(tmp_path):
    """Five utterances of two speakers."""
    random = np.random.default_rng(0)
    tables = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    for n in range(5):
        path = tmp_path / f"plain{n}.flac"
        soundfile.write(path, 0.1 * random.standard_normal(4000 + 100 * n), RATE)
        utt = f"s{n % 2}-u{n}"
        tables["wav.scp"][utt], tables["text"][utt] = str(path), f"WORD{n}"
        tables["utt2spk"][utt] = f"s{n % 2}"
    write_data_dir(tmp_path / "plain", tables)
    return tmp_path / "plain"


def add_pauses(local, plain, name, *words):
    """Run the command line: exit code, and the folder."""
    out = plain.parent / name
    where = ["--data", plain, "--out", out, "--audio", out / "audio"]
    with pytest.raises(SystemExit) as end:
        local["add_pauses"].main([*map(str, where), *words])
    return end.value.code, out


def test_pauses_are_added_to_recordings(local, plain):
    conditions = ["plain", "silence_before_0.5", "silence_around_1", "faint_behind_2", "two_0.25"]
    code, out = add_pauses(local, plain, "out", "--conditions", *conditions)
    assert code == 0
    made = read_data_dir(out)
    assert len(made["text"]) == 25
    assert set(made["utt2condition"].values()) == set(conditions)

    def samples(condition, utt="s1-u1"):
        return soundfile.read(made["wav.scp"][f"{utt}-{condition}"])[0]

    speech = samples("plain")
    assert len(speech) == 4100
    zeros = np.zeros(RATE)
    np.testing.assert_array_equal(
        samples("silence_before_0.5"), np.concatenate([zeros[: RATE // 2], speech])
    )
    np.testing.assert_array_equal(
        samples("silence_around_1"), np.concatenate([zeros, speech, zeros])
    )
    faint = samples("faint_behind_2")
    assert len(faint) == 4100 + 2 * RATE and level_db(faint[4100:] + 1e-9) < -59
    np.testing.assert_array_equal(faint[:4100], speech)
    two = samples("two_0.25")
    assert len(two) == 4100 + RATE // 4 + 4300
    np.testing.assert_array_equal(two[-4300:], samples("plain", "s1-u3"))
    assert made["text"]["s1-u1-two_0.25"] == "WORD1 WORD3"
    assert made["text"]["s1-u3-two_0.25"] == "WORD3 WORD1"  # after the last comes the first
    assert made["text"]["s0-u0-silence_around_1"] == "WORD0"
    assert made["utt2spk"]["s0-u2-two_0.25"] == "s0"


def test_the_same_samples_again_and_others_of_another_seed(local, plain):
    heard = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ["--conditions", "faint_before_1", "--utts", "2", "--seed", seed]
        code, out = add_pauses(local, plain, name, *words)
        scp = read_data_dir(out)["wav.scp"]
        assert code == 0 and len(scp) == 2
        heard.append([soundfile.read(path)[0].tolist() for path in scp.values()])
    assert heard[0] == heard[1] != heard[2]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--conditions", "silence_0.3"], "--conditions: 'silence_0.3' is none; plain, two_"),
        (["--conditions", "two_x"], "'two_x' is none"),
        (["--utts", "0"], "--utts 0: at least 1"),
    ],
)
def test_bad_options_of_add_pauses(local, plain, words, message, capsys):
    code, out = add_pauses(local, plain, "bad", *words)
    assert code == 1 and message in capsys.readouterr().err
    assert not out.exists()
