"""The babble of egs2/noisy_digits: ratios that are what they say, the same samples again."""

import importlib.util
import os

import numpy as np
import pytest
import soundfile

from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir


@pytest.fixture(scope="module")
def noise(request):
    path = request.config.rootpath / "egs2/noisy_digits/asr_kd/local/add_noise.py"
    spec = importlib.util.spec_from_file_location("add_noise", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clean(tmp_path):
    """Four utterances of two speakers: tones in noise, of different length and loudness."""
    random = np.random.default_rng(0)
    tables = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    for n in range(4):
        time = np.arange(4000 + 1000 * n) / 16000
        audio = 0.1 * (n + 1) * np.sin(2 * np.pi * 200 * (n + 1) * time)
        path = tmp_path / f"clean{n}.wav"
        soundfile.write(path, audio + 0.01 * random.standard_normal(len(time)), 16000)
        tables["wav.scp"][f"s{n % 2}-u{n}"] = str(path)
        tables["text"][f"s{n % 2}-u{n}"] = "ONE TWO"
        tables["utt2spk"][f"s{n % 2}-u{n}"] = f"s{n % 2}"
    write_data_dir(tmp_path / "clean", tables)
    return tmp_path / "clean"


def run(noise, clean, name, *options):
    out = clean.parent / name
    words = ["--data", clean, "--babble", clean, "--out", out, "--audio", out / "audio"]
    with pytest.raises(SystemExit) as end:
        noise.main([*map(str, words), *options])
    assert end.value.code == 0
    return read_data_dir(out)


@pytest.mark.parametrize("snr", [-5, 0, 12.5])
def test_the_ratio_is_the_one_asked_for(noise, snr):
    random = np.random.default_rng(1)
    audio, babble = 0.05 * random.standard_normal((2, 8000))
    added = noise.mix(audio, babble, snr) - audio
    found = 20 * np.log10(noise.power(audio) / noise.power(added))
    assert found == pytest.approx(snr, abs=1e-3)


def test_a_loud_mixture_is_scaled_as_a_whole(noise):
    audio, babble = np.full(100, 0.9), np.resize([1.0, -1.0], 100)
    mixed = noise.mix(audio, babble, 0)
    assert np.abs(mixed).max() == pytest.approx(noise.LOUDEST)
    assert mixed[1] == pytest.approx(0, abs=1e-6)  # 0.9 - 0.9: nothing was clipped


def test_every_utterance_at_every_ratio(noise, clean):
    made = run(noise, clean, "test", "--snr", "20", "0")
    assert len(made["wav.scp"]) == 8
    assert made["utt2condition"]["s0-u0-snr20"] == "snr20"
    assert made["text"]["s1-u3-snr0"] == "ONE TWO" and made["utt2spk"]["s1-u3-snr0"] == "s1"
    audio, rate = soundfile.read(made["wav.scp"]["s1-u3-snr0"])
    assert len(audio) == 7000 and rate == 16000
    again = run(noise, clean, "again", "--snr", "20", "0")
    assert np.array_equal(audio, soundfile.read(again["wav.scp"]["s1-u3-snr0"])[0])
    other = run(noise, clean, "other", "--snr", "20", "0", "--seed", "2")
    assert not np.array_equal(audio, soundfile.read(other["wav.scp"]["s1-u3-snr0"])[0])


def test_held_out_utterances_are_left_out(noise, clean):
    dev = run(noise, clean, "dev", "--snr_range", "0", "20", "--utts", "2")
    assert len(dev["wav.scp"]) == 2
    left = ["--snr_range", "0", "20", "--but", str(clean.parent / "dev")]
    train = run(noise, clean, "train", *left)
    assert len(train["wav.scp"]) == 2 and not set(train["wav.scp"]) & set(dev["wav.scp"])
    assert set(train["utt2condition"].values()) == {"snr0to20"}


def test_too_many_are_asked_for(noise, clean, capsys):
    words = ["--data", clean, "--babble", clean, "--out", clean.parent / "x"]
    words += ["--audio", clean.parent / "x", "--snr", "0", "--utts", "9"]
    with pytest.raises(SystemExit) as end:
        noise.main([str(word) for word in words])
    assert end.value.code == 1
    assert "--utts 9" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", [np.nan, np.inf, None], ids=["nan", "inf", "cut"])
def test_audio_that_cannot_be_used_is_one_line(spoil, noise, clean, capsys):
    path = read_data_dir(clean)["wav.scp"]["s1-u1"]
    audio = soundfile.read(path)[0]
    if spoil is None:
        os.truncate(path, 3000)
    else:
        audio[7] = spoil
        soundfile.write(path, audio, 16000, "FLOAT")
    options = ["--out", clean.parent / "x", "--audio", clean.parent / "y", "--snr", "5"]
    with pytest.raises(SystemExit) as end:
        noise.main(["--data", str(clean), "--babble", str(clean), *map(str, options)])
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 1 and len(lines) == 1
    assert f"error: {path}: " in lines[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ("--utts 0", "argument --utts: '0' is not a whole number of at least 1"),  # was: all
        ("--utts -1", "argument --utts: '-1' is not"),
        ("--talkers 0", "argument --talkers: '0' is not"),
        ("--seed -1", "argument --seed: '-1' is not"),
        ("--but {held}", "clean: no utterance is left beside those of {held}; hold out less"),
    ],
)
def test_numbers_that_leave_nothing_are_one_line(options, message, noise, clean, capsys):
    run(noise, clean, "all", "--snr_range", "0", "5")
    held, out = clean.parent / "all", clean.parent / "out"
    words = ["--data", clean, "--babble", clean, "--out", out, "--audio", out / "audio"]
    words += ["--snr_range", "0", "5", *options.format(held=held).split()]
    with pytest.raises(SystemExit):
        noise.main([*map(str, words)])
    assert message.format(held=held) in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
