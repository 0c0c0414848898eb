"""Families of sizes: which are compared, and what is said of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import pytest

from espnet_kd.report.costs import Cost
from espnet_kd.report.paths import pairs, spoken
from espnet_kd.report.size_family import (
    Family,
    Margin,
    compare_family,
    families,
    trainings_of,
    verdict,
)
from espnet_kd.scoring.bootstrap import Interval, interval_of_seeds, paired_interval


@dataclass
class Model:
    name: str
    path: str
    params: int
    steps: int = 1
    device_bytes: Optional[float] = None
    also_on: Sequence[str] = ()
    cost: Cost = Cost()
    stepwise: bool = False


CHAIN = [Model(f"s{k}", "progressive", 100 - k, k) for k in (1, 2, 3)]


def test_families_have_two_sizes_or_more():
    others = [
        Model(f"{path}{k}", path, 100 - k) for path in ("one_shot", "scratch") for k in (2, 3)
    ]
    found = families([*CHAIN, *others, Model("alone", "inherited", 97)])
    assert [f.against for f in found] == ["one_shot", "scratch"]
    # s1 is no size of one shot: nobody has asked for it (--paths_at 's2 s3').
    assert found[0].sizes == [("s2", "one_shot2"), ("s3", "one_shot3")] == found[0].compared
    assert families(CHAIN) == [] == families([*CHAIN, others[0]])


def test_the_first_step_that_is_made_once_is_of_all_ways_that_begin_with_it():
    first = replace(CHAIN[0], also_on=("one_shot", "progressive_first"))
    others = [Model("one_shot2", "one_shot", 98), Model("first2", "progressive_first", 98, 2)]
    found = families([first, *CHAIN[1:], *others, Model("scratch2", "scratch", 98)])
    assert [(f.against, f.sizes, f.shared) for f in found] == [
        ("one_shot", [("s1", "s1"), ("s2", "one_shot2")], [("s1", "s1")]),
        ("progressive_first", [("s1", "s1"), ("s2", "first2")], [("s1", "s1")]),
    ]
    # A gate has split the first step: its second try has the size of what one shot has, too.
    again = Model("s1_again", "progressive", 99, 2)
    (family,) = families([first, again, *CHAIN[1:], others[0]])
    assert family.sizes == [("s1_again", "s1"), ("s2", "one_shot2")] == family.compared


def test_the_first_step_is_the_same_training_in_one_shot():
    others = [
        Model(f"{p}{k}", p, 100 - k) for p in ("one_shot_own", "scratch_own") for k in (1, 2)
    ]
    one_shot, scratch = families([*CHAIN, *others])
    assert one_shot.shared == [("s1", "one_shot_own1")]
    assert one_shot.compared == [("s2", "one_shot_own2")]
    # Not where a gate had it trained on, or it began a schedule of several stages.
    one_shot, _ = families([replace(CHAIN[0], stepwise=True), *CHAIN[1:], *others])
    assert one_shot.shared == [] and len(one_shot.compared) == 2
    assert scratch.shared == [] and len(scratch.compared) == 2
    # And one shot is compared with scratch of as many epochs.
    assert [(a.name, b.name) for a, b in pairs([*CHAIN, *others])][-2:] == [
        ("one_shot_own1", "scratch_own1"),
        ("one_shot_own2", "scratch_own2"),
    ]
    assert spoken("one_shot_own") == "one shot with own epochs"
    assert spoken("scratch_own2") == "scratch with own epochs and 2 more"


def test_the_largest_of_several_that_are_trained_in_one_is_not_trained_alone():
    (largest, alone), rest = [
        [Model(name, path, 99, 1, cost=Cost(teacher_epochs=cost)) for name, path, cost in both]
        for both in (
            (("family", "progressive", 14.0), ("one_shot_family", "one_shot", 7.2)),
            (("family", "progressive", 7.21), ("one_shot_family", "one_shot", 7.2)),
        )
    ]
    smaller = [Model("family_2", "progressive", 98, 2), Model("one_shot_family_2", "one_shot", 98)]
    (family,) = families([largest, alone, *smaller])
    assert family.shared == [] and len(family.compared) == 2
    (family,) = families([*rest, *smaller])  # seconds that are rounded move what is counted
    assert family.shared == [("family", "one_shot_family")]


@pytest.mark.parametrize("path", ["one_shot_own2", "one_shot_collapsed", "one_shot_random"])
def test_other_epochs_or_objectives_share_no_step(path):
    (family,) = families([*CHAIN, *(Model(f"{path}{k}", path, 100 - k) for k in (1, 2))])
    assert family.shared == [] and len(family.compared) == 2


def test_a_stage_that_keeps_the_sizes_is_no_further_size():
    few_bits = [Model(f"bits{n}", "progressive", 97, 4, 10 * n) for n in (4, 3)]
    other = Model("one_shot", "one_shot", 97, 1, 31)  # the bits of the last
    assert [(a.name, b.name) for a, b in pairs([*CHAIN, *few_bits, other])] == [
        ("bits3", "one_shot")
    ]
    tuned = Model("tuned", "progressive", 97, 4)
    others = [Model(f"one_shot{k}", "one_shot", 100 - k) for k in (2, 3)]
    (family,) = families([*CHAIN, tuned, *others])
    assert family.compared == [("s2", "one_shot2"), ("tuned", "one_shot3")]


def test_the_mean_over_sizes():
    rng = np.random.default_rng(1)
    words = rng.integers(50, 90, 12)
    errors = {name: rng.poisson(5, (3, 12)) for name in "abcd"}
    family = Family("one_shot", [("a", "b"), ("c", "d")], [])
    result = compare_family(family, "test", errors, words, True)
    assert result.by_size[0] == interval_of_seeds(errors["a"], errors["b"], words)
    mean = (result.by_size[0].diff + result.by_size[1].diff) / 2
    assert result.mean.diff == pytest.approx(mean)
    widths = [i.high - i.low for i in (result.mean, *result.by_size)]
    assert widths[0] < max(widths[1:])


def test_one_run_is_compared_as_in_all_of_its_report():
    rng = np.random.default_rng(2)
    words = rng.integers(50, 90, 12)
    errors = {name: rng.poisson(5, (1, 12)) for name in "abcd"}
    result = compare_family(
        Family("scratch", [("a", "b"), ("c", "d")], []), "test", errors, words, True, 300, 7
    )
    assert result.by_size[0] == paired_interval(errors["a"][0], errors["b"][0], words, 300, 7)
    assert result.mean.low < result.mean.diff < result.mean.high


@pytest.mark.parametrize(
    "low, high, says",
    [
        (-2.0, -0.1, "better"),
        (-2.0, 0.4, "non-inferior at margin 0.5"),
        (0.1, 0.4, "worse, but non-inferior at margin 0.5"),
        (0.0, 0.0, "no conclusion"),
        (-0.2, -0.2, "no conclusion"),
        (-0.1, 0.6, "not shown"),
        (0.1, 0.9, "worse"),
        (0.6, 0.9, "worse by more than 0.5"),
    ],
)
def test_verdict_goes_by_the_interval(low, high, says):
    assert verdict(Interval((low + high) / 2, low, high), Margin()) == says
    assert verdict(Interval(0, low, high), Margin(), False) == "no conclusion"


def test_a_margin_says_who_set_it():
    assert (
        Margin(1.0, "margin in plan.yaml").says() == "1 points, set before (margin in plan.yaml)"
    )
    assert Margin().says() == "0.5 points, set before (the default)"


def test_trainings_of_a_family_count_once():
    ancestors = {"s2": [Path("s2"), Path("s1")], "s3": [Path("s3"), Path("s2"), Path("s1")]}
    assert trainings_of(ancestors, ["s2", "s3"]) == [Path("s2"), Path("s1"), Path("s3")]
    # What is not known of one of them is not known of the family.
    assert trainings_of({**ancestors, "x": ()}, ["s2", "x"]) == []
