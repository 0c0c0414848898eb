"""Sounds under other conditions: what is promised of them, and that they come out again."""

import hashlib
import tracemalloc

import numpy as np
import pytest
import soundfile

from espnet_kd.bin.perturb import main, voices_of
from espnet_kd.data.audio import BadAudio, decode, resample
from espnet_kd.data.perturbation import (
    check_sounds,
    generator,
    in_room,
    level,
    perturb,
    stretched,
)
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table
from espnet_kd.spec.conditions_file import Condition, Lost, Reverb, load_robustness

RATE = 8000


def tone(seconds=1.0, hertz=440.0):
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def made(condition, audio=None, sounds=None, utt="u"):
    return perturb(tone() if audio is None else audio, RATE, condition, utt, sounds, None)


@pytest.mark.parametrize("snr", [20.0, 0.0])
def test_the_ratio_is_met(snr):
    rng = np.random.default_rng(0)
    others = [rng.standard_normal(5000) for _ in range(3)]
    for kind in ("white", "babble"):
        condition = Condition("n", noise=kind, snr=snr)
        audio = tone() * 0.1  # so that nothing has to be made softer
        noise = made(condition, audio, lambda random, most: others) - audio
        assert 20 * np.log10(level(audio) / level(noise)) == pytest.approx(snr, abs=0.1)


def test_tempo_keeps_the_pitch():
    for tempo in (0.8, 1.25):
        out = stretched(tone(2.0), RATE, tempo)
        assert len(out) == round(2 * RATE / tempo)
        peak = np.argmax(np.abs(np.fft.rfft(out * np.hanning(len(out)))))
        assert peak * RATE / len(out) == pytest.approx(440, abs=2)


def test_gain_band_losses_room():
    assert level(made(Condition("q", gain=-30))) == pytest.approx(level(tone()) * 10**-1.5, 1e-3)
    clipped = made(Condition("l", gain=20, clip=True))
    assert np.abs(clipped).max() == 1 and np.mean(np.abs(clipped) == 1) > 0.3
    assert np.abs(made(Condition("l", gain=20))).max() == pytest.approx(0.99)
    low = made(Condition("p", band=[300, 3400]), tone(hertz=50))
    assert level(low) < 0.05 * level(made(Condition("p", band=[300, 3400])))
    lost = made(Condition("d", lost=Lost(share=0.25, ms=20)))
    assert np.mean(lost == 0) == pytest.approx(0.25, abs=0.01)
    room = made(Condition("r", reverb=Reverb(rt60=0.5)), np.eye(1, RATE)[0].astype("f4"))
    fall = [level(room[int(s * RATE) : int((s + 0.05) * RATE)]) for s in (0.05, 0.3)]
    assert 20 * np.log10(fall[0] / fall[1]) == pytest.approx(30, abs=4)  # half of 60 dB
    with pytest.raises(BadAudio):
        made(Condition("n", noise="white", snr=5), np.zeros(100, np.float32))


CONDITIONS = """utterances: 2
only: clean
conditions:
  - {name: hiss, noise: white, snr: 10}
  - {name: talk, noise: babble, snr: 5}
  - {name: fast, tempo: 1.25}
"""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    tables = {name: "" for name in ("wav.scp", "text", "utt2spk", "utt2condition", "utt2source")}
    for n in range(4):
        utt = f"s{n % 2}-{n}"
        soundfile.write(tmp_path / f"{utt}.wav", tone(0.3, 300 + 50 * n), RATE)
        for name, value in zip(
            tables, (tmp_path / f"{utt}.wav", "A B", f"s{n % 2}", "clean" if n else "x", f"r{n}")
        ):
            tables[name] += f"{utt} {value}\n"
    for name, text in tables.items():
        (folder / name).write_text(text)
    (tmp_path / "c.yaml").write_text(CONDITIONS)
    return folder


def run(data, out="out", code=0):
    words = ["--data", str(data), "--conditions", str(data.parent / "c.yaml")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--out", str(data.parent / out)])
    assert end.value.code == code
    return data.parent / out


def refused(data, capsys):
    run(data, code=1)
    return capsys.readouterr().err.strip()


def test_the_same_sounds_are_made_again(data):
    digests = []
    for out in (run(data, "a"), run(data, "b")):
        files = sorted((out / "data").iterdir())
        assert len(files) == 6
        digests.append([hashlib.sha256(f.read_bytes()).hexdigest() for f in files])
    assert digests[0] == digests[1] and len(set(digests[0])) == 6
    labels = read_table(out / "utt2condition")
    assert {u: labels[u] for u in labels if u.startswith("s1-1")} == {
        "s1-1-hiss": "hiss", "s1-1-talk": "talk", "s1-1-fast": "fast",
    }  # fmt: skip
    assert read_table(out / "utt2source")["s1-1-hiss"] == "r1"
    assert read_table(out / "text")["s1-1-talk"] == "A B"


def test_others_are_all_of_other_people_and_hardly_take_memory():
    """A list of them for each person would take people x utterances."""
    speakers = {f"u{n:05d}": f"s{n * 7 % 1000}" for n in range(4000)}
    tables = {"wav.scp": {utt: f"{utt}.wav" for utt in speakers}, "utt2spk": speakers}
    tracemalloc.start()
    voices = voices_of(tables)
    counts = {utt: voices.others(utt) for utt in speakers}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(counts.values()) == {3996} and peak < 2e6  # bytes; lists of them: 32 MB
    for utt in ("u00000", "u01234", "u03999"):
        others = [f"{other}.wav" for other in sorted(speakers) if speakers[other] != speakers[utt]]
        assert [voices.other(utt, k) for k in range(counts[utt])] == others


def test_a_babble_needs_other_speakers_and_labels_are_known(data, capsys):
    (data / "utt2spk").write_text("".join(f"{u} s\n" for u in read_table(data / "utt2spk")))
    assert "'talk' needs other speakers for its babble" in refused(data, capsys)
    (data.parent / "c.yaml").write_text(CONDITIONS.replace("clean", "cleen"))
    assert "no utterance has 'only: cleen'; there is clean, x" in refused(data, capsys)


@pytest.mark.parametrize(
    "line, said",
    [
        ("{name: a, tempo: 3}", ":2: conditions[0].tempo: expected a number from 0.5 to 2"),
        ("{name: a, snr: 3}", ":2: conditions[0]: 'snr' without 'noise'"),
        ("{name: a, nois: white}", "unknown key 'nois' (did you mean 'noise'?)"),
        ("{name: a}", "'a' changes nothing"),
        ("{name: a, tempo: 1, gain: 0}", "'a' changes nothing"),
        ("{name: a, lost: {ms: 20}}", "no 'share', the share of the packets that are lost"),
        ("{name: a, lost: {share: 0}}", "share: expected a number from 0.001 to 0.9, found 0"),
        ("{gain: 3}", "no 'name'"),
        ("{name: a b, gain: 3}", "expected a name of letters"),
        ("{name: a, band: [400, 300]}", "400 Hz is not below 300 Hz"),
        ("{name: a, reverb: {rt: 1}}", "unknown key 'rt'"),
        ("{name: a, reverb: {}}", "needs either 'rt60', the seconds in which"),
        ("{name: a, reverb: {rt60: 1, folder: x}}", "of recorded impulse responses, found both"),
        ("{name: a, reverb: {folder: 3}}", ":2: conditions[0].reverb.folder: expected"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path, line, said):
    (tmp_path / "c.yaml").write_text(f"conditions:\n  - {line}\n")
    with pytest.raises(Exception, match=".") as e:
        load_robustness(str(tmp_path / "c.yaml"))
    assert said in str(e.value)


def test_a_folder_of_noise(data, capsys):
    text = "conditions:\n  - {name: cafe, noise: FOLDER, snr: 5}\n".replace(
        "FOLDER", str(data.parent / "noise")
    )
    (data.parent / "c.yaml").write_text(text)
    assert "no such folder; name white, babble or a folder" in refused(data, capsys)
    (data.parent / "noise").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(data.parent / "noise/n.wav", noise, 16000)
    assert "n.wav: 16000 Hz, where the set has 8000 Hz" in refused(data, capsys)
    soundfile.write(data.parent / "noise/n.wav", noise, RATE)
    assert len(read_table(run(data) / "wav.scp")) == 4


def test_a_band_beyond_half_the_rate_is_told_of_its_condition(data, capsys):
    (data.parent / "c.yaml").write_text(CONDITIONS.replace("tempo: 1.25", "band: [300, 4000]"))
    told = "a band up to 4000 Hz needs more than 8000 samples a second; end it below 4000 Hz"
    assert f"condition 'fast', utterance 's1-1': {told}" in refused(data, capsys)


def test_two_utterances_of_one_name_are_refused(data, capsys):
    for name in ("wav.scp", "text", "utt2spk", "utt2condition", "utt2source"):
        table = read_table(data / name)
        lines = [f"{utt} {value}\n" for utt, value in table.items()]
        lines.append(f"s0-2-slow {table['s0-2']}\n")
        (data / name).write_text("".join(sorted(lines)))
    conditions = ["{name: hiss, gain: 3}", "{name: slow-hiss, gain: -3}"]
    text = "".join(f"  - {c}\n" for c in conditions)
    (data.parent / "c.yaml").write_text(f"conditions:\n{text}")
    assert "would be named 's0-2-slow-hiss'; name the condition" in refused(data, capsys)


def rooms(data, line="{name: room, reverb: {folder: FOLDER}}"):
    folder = data.parent / "rirs"
    (folder / "hall").mkdir(parents=True, exist_ok=True)
    text = "conditions:\n  - " + line.replace("FOLDER", str(folder))
    (data.parent / "c.yaml").write_text(text + "\n")
    return folder


def response(delay, rate=RATE, echo=0.5):
    """A room: direct sound after some samples, one echo 25 ms later."""
    out = np.zeros(delay + rate // 20)
    out[delay], out[delay + rate // 40] = 0.8, 0.8 * echo
    return out


def test_recorded_rooms_keep_times_and_level_and_are_drawn_by_name(data):
    folder = rooms(data)
    for n, echo in enumerate((0.0, 0.3, 0.6)):
        soundfile.write(folder / f"hall/{n}.wav", response(300 * (n + 1), echo=echo), RATE)
    names = read_table(data / "utt2spk")
    out = run(data)
    files = sorted((folder / "hall").iterdir())
    drawn = set()
    for utt in names:
        clean, _ = decode(data.parent / f"{utt}.wav")
        made_of = files[generator(utt, "room").integers(3)]
        drawn.add(made_of.name)
        heard, _ = decode(out / f"data/{utt}-room.flac")
        expected = in_room(clean.astype(float), decode(made_of)[0])
        assert len(heard) == len(clean) and np.abs(heard - expected).max() < 1e-4
        assert level(heard) == pytest.approx(level(clean), rel=1e-3)
        shifts = [np.dot(heard[k : k + 1500], clean[:1500]) for k in range(9)]
        assert made_of.name != "0.wav" or int(np.argmax(shifts)) == 0  # of 900 samples of delay
    assert len(drawn) > 1


def test_a_click_stays_where_it_was():
    click = np.zeros(4000)
    click[1000] = 0.5
    for rate in (RATE, 16000):
        h = response(777, rate)
        h = h if rate == RATE else resample(h, rate, 1.0, RATE)
        assert np.abs(in_room(click, h)).argmax() == 1000


def test_responses_are_resampled_downwards_and_of_one_microphone(data):
    folder = rooms(data)
    first = response(400, 16000)
    both = np.stack([first, -np.roll(first, 30)], axis=1)
    soundfile.write(folder / "array.flac", both, 16000)
    out = run(data)
    clean, _ = decode(data.parent / "s0-0.wav")
    expected = in_room(clean.astype(float), resample(response(400, 16000), 16000, 1.0, RATE))
    assert np.abs(decode(out / "data/s0-0-room.flac")[0] - expected).max() < 1e-3


@pytest.mark.parametrize(
    "name, said",
    [
        ("low.wav", "low.wav: 4000 Hz, where the set has 8000 Hz: it would take away all above"),
        ("silent.wav", "silent.wav: silent, every sample is 0; remove it from the folder"),
        ("none.wav", "none.wav: zero-length; remove it"),
        ("text.flac", "text.flac: unreadable ("),
        ("song.wav", "song.wav: 31 s, and no room's impulse response is longer than 30 s"),
        ("", "rirs': no .wav or .flac in it; name a folder of impulse responses"),
    ],
)
def test_a_response_that_is_none_is_named_before_a_sound_is_made(data, capsys, name, said):
    folder = rooms(data)
    if name:
        soundfile.write(folder / "good.wav", response(10), RATE)
    sounds = {
        "low.wav": (response(10, 4000), 4000),
        "silent.wav": (np.zeros(100), RATE),
        "song.wav": (np.ones(31 * RATE) * 0.1, RATE),
    }
    if name in sounds:
        soundfile.write(folder / name, *sounds[name])
    elif name:
        (folder / name).write_text("no sound" if name == "text.flac" else "")
    assert said in refused(data, capsys)
    assert not (data.parent / "out").exists()


def test_responses_are_looked_at_as_they_are_where_no_rate_is_known(data, monkeypatch):
    """Resampled to a rate that nothing has, each would take ten seconds before a run."""
    folder = rooms(data)
    soundfile.write(folder / "a.wav", response(10, 48000), 48000)
    monkeypatch.setattr("espnet_kd.data.perturbation.resample", None)
    check_sounds("reverb", str(folder))
    (folder / "b.wav").write_text("no sound")
    with pytest.raises(UserError, match="b.wav: unreadable"):
        check_sounds("reverb", str(folder))


def test_damaged_noise_is_named_before_a_sound_is_made(data, capsys):
    folder = rooms(data, "{name: cafe, noise: FOLDER, snr: 5}")
    soundfile.write(folder / "a.wav", tone(), RATE)
    for n in range(40):  # each of them is rarely drawn
        soundfile.write(folder / f"b{n}.wav", tone(), RATE)
    (folder / "zz.wav").write_text("no sound")
    assert "zz.wav: unreadable (" in refused(data, capsys)
    assert not (data.parent / "out").exists()
