"""References are the same where their words are, as far as they are there."""

import pytest

from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.references import same_references

COUNTS = {"u1": Counts(2), "u2": Counts(1)}
FIRST = "one two\t(u1)\nthree\t(u2)\n"


@pytest.mark.parametrize(
    "text, same",
    [
        (FIRST, True),
        (FIRST.replace("one", "ONE"), True),  # sclite takes them for one
        (FIRST.replace("one", "won"), False),
        (FIRST + FIRST, False),
        (None, True),
    ],
)
def test_words_are_compared_where_both_are_there(tmp_path, text, same):
    for name, content in ("a", FIRST), ("b", text):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "ref.trn").write_text(content)
    assert same_references(tmp_path / "a", COUNTS, tmp_path / "b", COUNTS) == same
    assert same_references(tmp_path / "b", COUNTS, tmp_path / "a", COUNTS) == same


def test_two_files_of_other_utterances_are_not_the_same(tmp_path):
    for name, content in ("a", FIRST + FIRST), ("b", "four\t(u1)\n"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ref.trn").write_text(content)
    assert not same_references(tmp_path / "a", COUNTS, tmp_path / "b", COUNTS)
