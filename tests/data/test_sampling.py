"""What is measured on a part of a set: the same in every run, and of all conditions."""

import collections

import pytest
import soundfile

from espnet_kd.bin.perturb import chosen
from espnet_kd.data.kaldi_dir import read_data_dir
from espnet_kd.data.sampling import by_name
from espnet_kd.deploy import delay, speed
from espnet_kd.spec.conditions_file import load_robustness

LEVELS = ("snr0", "snr10", "snr20", "snr5")  # as they stand in a sorted list of names
STRINGS = 96


@pytest.fixture
def data(tmp_path):
    """Strings that are there at each of four levels, as the digits' test set."""
    folder = tmp_path / "d"
    folder.mkdir()
    sound = tmp_path / "s.wav"
    soundfile.write(sound, [0.1] * 1600, 16000)
    names = [f"george-{string:03d}-{level}" for string in range(STRINGS) for level in LEVELS]
    for table, value in ("wav.scp", sound), ("text", "ONE"), ("utt2spk", "george"):
        (folder / table).write_text("".join(f"{name} {value}\n" for name in names))
    for name in names:  # a file each: what is measured on is told by it
        (tmp_path / f"{name}.wav").symlink_to(sound)
    (folder / "wav.scp").write_text("".join(f"{n} {tmp_path}/{n}.wav\n" for n in names))
    return folder


def levels(names):
    return collections.Counter(name.rpartition("-")[2] for name in names)


def test_all_conditions_are_heard(data, tmp_path):
    """Each of these once took every k-th utterance: 40 and 48 of 384 are all at one level."""
    (tmp_path / "c.yaml").write_text("utterances: 48\nconditions: [{name: p, gain: -6}]\n")
    wanted = load_robustness(tmp_path / "c.yaml")
    for names in (
        [file.stem for file in speed.choose([data])],
        [u.file.stem for u in delay.choose([data], 4.81)],
        chosen(data, read_data_dir(data), wanted),
    ):
        assert len(names) in (speed.UTTERANCES, 48)
        assert set(levels(names)) == set(LEVELS)
        assert min(levels(names).values()) >= 5


def test_more_of_a_set_holds_less_of_it_in_the_order_of_the_names():
    names = [f"u{n}" for n in range(50)]
    few, more = by_name(names, 7), by_name(names, 20)
    assert len(few) == 7 and set(few) < set(more) and more == sorted(more, key=names.index)
    assert by_name(names, 50) == by_name(names, 99) == names and by_name(names, 0) == []
