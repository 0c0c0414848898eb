"""How numbers and the answer read."""

from types import SimpleNamespace

import pytest

from espnet_kd.report.words import answer, duration, interval, number, signed
from espnet_kd.scoring.bootstrap import Interval


def row(name, params, wer, diff=None):
    return SimpleNamespace(
        name=name,
        params=params,
        compression=1 - params / 1000,
        wer={"clean": wer, "other": 9 - wer},
        wer_diff=diff and {"clean": diff, "other": Interval(-0.4, -0.9, -0.2)},
    )


def test_answer():
    rows = [
        row("teacher", 1000, 4.8),
        row("s1", 700, 4.9, Interval(0.1, -0.1, 0.3)),
        row("s2", 370, 5.2, Interval(0.4, -0.2, 1.1)),
    ]
    assert answer(rows, ["clean", "other"]) == (
        "The smallest student, s2, is 63.0 % smaller than the teacher: 370 parameters instead of "
        "1,000. Its word error rate (WER, the teacher's in brackets) is, on clean, 5.2 % (4.8 %): "
        "0.4 points higher, not significant (95 % interval of the difference −0.2 to +1.1); on "
        "other, 3.8 % (4.2 %): 0.4 points lower, significant (95 % interval of the difference "
        "−0.9 to −0.2)."
    )
    assert answer(rows[:1], ["clean"]).startswith("The only model, teacher, has 1,000 parameters")


@pytest.mark.parametrize("x, text", [(0.44, "+0.4"), (-1.26, "−1.3"), (-0.01, "0.0"), (0, "0.0")])
def test_signed(x, text):
    assert signed(x) == text


def test_interval_shows_on_which_side_of_zero_it_ends():
    assert interval(Interval(0.5, 0.03, 1.2)) == "+0.03 to +1.20"
    assert interval(Interval(0.5, -0.3, 1.2)) == "−0.3 to +1.2"


def test_numbers():
    assert [number(None), number(1234.5), number(0.25, 3)] == ["–", "1,234.5", "0.250"]
    assert [duration(x) for x in (None, 42, 210, 7560)] == ["–", "42 s", "3.5 min", "2.1 h"]
