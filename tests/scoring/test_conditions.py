"""Labels of utterances: read, copied beside the scores, put in order."""

import pytest

from espnet_kd.errors import UserError
from espnet_kd.scoring.conditions import copy_labels, in_order, read_labels


def test_in_order():
    labels = ["snr10", "snr5", "snr0", "snr-5", "clean", "snr10", "snr2.5"]
    assert in_order(labels) == ["clean", "snr-5", "snr0", "snr2.5", "snr5", "snr10"]
    assert in_order(["10", "9dB", "x", "9"]) == ["9", "9dB", "10", "x"]


def test_copy_and_read(tmp_path):
    (tmp_path / "utt2condition").write_text("b snr5\na clean\nunused far\n")
    out = tmp_path / "out"
    copy_labels(tmp_path, ["a", "b"], out)
    assert (out / "utt2condition").read_text() == "a clean\nb snr5\n"
    assert read_labels(out, ["b", "a"]) == {"b": "snr5", "a": "clean"}


def test_labels_of_an_earlier_scoring_are_removed(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "utt2condition").write_text("a clean\n")
    copy_labels(tmp_path, ["a"], out)
    assert not (out / "utt2condition").exists()
    copy_labels(tmp_path, ["a"], out)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a clean\n", "no label for 'b'"),
        ("a clean\nb\n", "the label of 'b' is ''; one word"),
        ("a clean\nb very far\n", "the label of 'b' is 'very far'; one word"),
        ("a clean\nb x|y\n", "the label of 'b' is 'x|y'; one word"),
    ],
)
def test_bad_labels(tmp_path, text, message):
    (tmp_path / "utt2condition").write_text(text)
    with pytest.raises(UserError, match="utt2condition: ") as e:
        read_labels(tmp_path, ["a", "b"])
    assert message in str(e.value)
