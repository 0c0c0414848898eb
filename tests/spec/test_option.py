"""A new option is one field: it is read, checked, told in tables, and kept from old records."""

import dataclasses
from pathlib import Path

import pytest

from espnet_kd.errors import UserError
from espnet_kd.plan.student import Student
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.option import FromCache, option, published
from espnet_kd.spec.option_tables import in_words, rows, updated
from espnet_kd.spec.reader import read
from espnet_kd.spec.stage import read_stage


@dataclasses.dataclass(frozen=True)
class Wider(Student):
    dropout: float = option(0.1, "share of the units left out", least=0, most=0.5)


@dataclasses.dataclass(frozen=True)
class Louder(Distillation):
    loudness: str = option(
        "as_is",
        "how loud the teacher hears",
        choices=("as_is", "twice"),
        published=True,
        cache=FromCache(("as_is",), "'as_is': it was made so"),
    )


def stage(cls=Wider, **entry):
    return read_stage("plan: stages[0]", 1, {"target": 0.5, **entry}, None, {}, cls)


def test_it_is_read_and_checked():
    assert stage().dropout == 0.1 and stage(dropout=0).dropout == 0
    for entry, message in (
        ({"dropout": 0.6}, r"stages\[0\].dropout: expected a number from 0 to 0.5, found 0.6"),
        ({"dropout": "much"}, "dropout: expected a number, found 'much'"),
        ({"dropuot": 0.2}, r"unknown key 'dropuot' \(did you mean 'dropout'\?\)"),
    ):
        with pytest.raises(UserError, match=message):
            stage(**entry)


def test_it_stands_in_the_tables():
    row = ("dropout", "a number from 0 to 0.5", "`0.1`", "share of the units left out")
    assert row in rows(Wider)
    assert "  dropout          share of the units left out (a number" in in_words(Wider)


def test_students_made_before_stay_what_they_are():
    assert stage().fingerprint() == stage(Student).fingerprint()
    assert stage(dropout=0.2).fingerprint() != stage().fingerprint()


def test_what_a_card_may_tell_and_a_cache_needs():
    assert "loudness" in published(Louder) and "teacher_model" not in published(Louder)
    kd = read(Louder, {"objective": "collapsed", "teacher_cache": "c", "loudness": "twice"}, "kd")
    with pytest.raises(UserError, match="kd.loudness: with a teacher cache it must be 'as_is'"):
        kd.complete("kd")


def test_what_is_written_goes_over_what_is_below():
    below = read(Distillation, {"weight": 2, "top_k": 4}, "train")
    over = read(Distillation, {"weight": 1}, "stage").over(below)  # 1 is the default, too
    assert (over.weight, over.top_k) == (1, 4) and over.written == {"weight": 1, "top_k": 4}


def test_docs_hold_the_tables_of_today():
    text = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    assert text == updated(text), "run python tools/write_option_tables.py"
