"""How numbers and the answer read."""

from types import SimpleNamespace

import pytest

from espnet_kd.report.comparisons import Comparison
from espnet_kd.report.costs import Cost
from espnet_kd.report.words import answer, duration, interval, number, p_value, signed
from espnet_kd.scoring.bootstrap import Interval


def row(name, params, wer, path="progressive"):
    return SimpleNamespace(
        name=name,
        path=path,
        params=params,
        device_bytes=None,
        also_on=(),
        compression=1 - params / 1000,
        wer={"clean": wer, "other": 9 - wer},
        cost=Cost(params // 10),
        path_cost=Cost(100, teacher_epochs=params / 100),
    )


def comparisons(model, against, clean, p, p_holm, family="teacher"):
    other = Interval(-0.4, -0.9, -0.2)
    return [
        Comparison(model, against, family, "clean", clean, 0.0, p, p_holm),
        Comparison(model, against, family, "other", other, -3.0, 0.001, 0.004),
    ]


ROWS = [row("teacher", 1000, 4.8), row("s1", 700, 4.9), row("s2", 370, 5.2)]
TO_TEACHER = comparisons("s2", "teacher", Interval(0.4, -0.2, 1.1), 0.2, 0.4)
FIRST_TWO = (
    "The smallest student, s2, is 63.0 % smaller than the teacher: 370 parameters instead of "
    "1,000. Its word error rate (WER, the teacher's in brackets) is, on clean, 5.2 % (4.8 %): "
    "0.4 points higher, not significant (95 % interval of the difference −0.2 to +1.1, "
    "p 0.400 corrected); on other, 3.8 % (4.2 %): 0.4 points lower, significant (95 % interval "
    "of the difference −0.9 to −0.2, p 0.004 corrected)."
)


def test_answer():
    assert answer(ROWS, ["clean", "other"], TO_TEACHER) == FIRST_TWO
    assert answer(ROWS[:1], ["clean"], []).startswith("The only model, teacher, has 1,000 param")


def test_answer_of_students_that_are_no_smaller_tells_of_the_last():
    rows = [ROWS[0], row("adapt1", 1000, 4.9), row("adapt2", 1000, 5.2)]
    found = comparisons("adapt2", "teacher", Interval(0.4, -0.2, 1.1), 0.2, 0.4)
    assert answer(rows, ["clean", "other"], found).startswith(
        "No student is smaller than the teacher, which has 1,000 parameters; adapt2 has 1,000. "
        "Its word error rate (WER, the teacher's in brackets) is, on clean, 5.2 % (4.8 %): "
    )


CHANGE = Interval(-0.8, -1.5, -0.1), 0.04, 0.08


def test_answer_compares_paths_at_the_smallest_size():
    rows = [
        *ROWS,
        row("b1", 700, 9.0, "one_shot"),
        row("b2", 370, 6.0, "one_shot"),
        row("c2", 370, 8.0, "scratch"),
    ]
    found = comparisons("s2", "b2", Interval(-0.8, -1.5, -0.1), 0.04, 0.08, "paths")
    found += comparisons("b2", "c2", Interval(-2.0, -3.0, -1.0), 0.0001, 0.0002, "paths")
    text = answer(rows, ["clean", "other"], TO_TEACHER + found)
    assert text.startswith(FIRST_TWO)
    assert (
        "The progressive student s2 against b2, one shot at the same size: on clean, 5.2 % "
        "(6.0 %): 0.8 points lower, significant alone, not among all comparisons (95 % interval"
    ) in text
    assert (
        "Between progressive and one shot the cost was equal in updates (100), teacher-epochs "
        "(3.7) and updates of the last student alone (37)."
    ) in text
    assert "The one shot student b2 against c2, scratch at the same size: on clean" in text
    assert "2.0 points lower, significant (95 % interval of the difference −3.0 to −1.0, " in text


@pytest.mark.parametrize(
    "paths, against",
    [
        (["one_shot_own2", "one_shot_own", "scratch"], "x2, one shot with own epochs at"),
        (["scratch", "one_shot_own4", "one_shot_own2"], "x3, one shot with own epochs and 2 more"),
        (["inherited", "scratch"], "x1, inherited at the same size"),
        (["progressive_first", "one_shot_collapsed"], "x1, progressive first at the same size"),
    ],
)
def test_answer_knows_paths_of_any_length(paths, against):
    others = [row(f"x{k}", 370, 6.0, path) for k, path in enumerate(paths, 1)]
    found = [c for other in others for c in comparisons("s2", other.name, *CHANGE, "paths")]
    text = answer([*ROWS, *others], ["clean", "other"], TO_TEACHER + found)
    assert f"The progressive student s2 against {against}" in text
    assert text.count("The progressive student s2 against") == 1


@pytest.mark.parametrize(
    "low, high, p, p_holm, verdict",
    [
        (0.1, 1.0, 0.01, 0.03, "significant"),
        (0.1, 1.0, 0.01, 0.06, "significant alone, not among all comparisons"),
        (0.1, 1.0, 0.06, 0.06, "not significant"),  # both tests must say so
        (-0.1, 1.0, 0.01, 0.03, "not significant"),
    ],
)
def test_verdict(low, high, p, p_holm, verdict):
    c = Comparison("a", "b", "paths", "s", Interval(0.5, low, high), 2.0, p, p_holm)
    assert c.verdict == verdict and c.to_json()["verdict"] == verdict


@pytest.mark.parametrize("x, text", [(0.44, "+0.4"), (-1.26, "−1.3"), (-0.01, "0.0"), (0, "0.0")])
def test_signed(x, text):
    assert signed(x) == text


def test_interval_shows_on_which_side_of_zero_it_ends():
    assert interval(Interval(0.5, 0.03, 1.2)) == "+0.03 to +1.20"
    assert interval(Interval(0.5, -0.3, 1.2)) == "−0.3 to +1.2"
    assert interval(Interval(0.6, 0.003, 1.2), 2) == "+0.003 to +1.200"
    assert interval(Interval(-0.002, -0.004, -0.0005), 2) == "−0.004 to −0.001"
    assert interval(Interval(0, 0, 0), 2) == "0.00 to 0.00"


def test_a_small_significant_difference_does_not_read_as_none():
    found = comparisons("s2", "teacher", Interval(0.04, 0.004, 0.076), 0.01, 0.03)
    assert "0.04 points higher, significant" in answer(ROWS, ["clean", "other"], found)


def test_numbers():
    assert [number(None), number(1234.5), number(0.25, 3)] == ["–", "1,234.5", "0.250"]
    assert [duration(x) for x in (None, 42, 210, 7560)] == ["–", "42 s", "3.5 min", "2.1 h"]
    assert [p_value(p) for p in (0.0004, 0.031, 1.0)] == ["< 0.001", "0.031", "1.000"]
    assert [p_value(p) for p in (0.0496, 0.0504)] == ["0.0496", "0.0504"]
