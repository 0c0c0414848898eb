"""Targets of a plan: fractions, parameters, sizes of checkpoints."""

import subprocess
import sys

import pytest

from espnet_kd.data.bad_items import BadItems
from espnet_kd.errors import UserError
from espnet_kd.spec.target import parse_target


@pytest.mark.parametrize(
    "value, params",
    [
        (0.5, 500),
        (0.999, 999),
        (400, 400),
        (1.2e6, 1_200_000),
        ("1.8 MB", 450_000),
        ("1.1MB", 275_000),
        ("900 kB", 225_000),
    ],
)
def test_targets(value, params):
    target = parse_target(value, "plan")
    assert target.params(1000) == params
    assert parse_target(target, "plan") is target


@pytest.mark.parametrize(
    "value", [0, 1, 1.0, -3, 2.5, True, None, "big", "1 MB!", "0 MB", float("inf"), float("nan")]
)
def test_what_is_no_target_is_refused(value):
    with pytest.raises(UserError, match="plan: stages.0..target: expected a fraction .* found"):
        parse_target(value, "plan: stages[0].target")


def test_the_nearest_unit_is_named():
    with pytest.raises(UserError, match=r"did you mean 'MB'\?"):
        parse_target("2 Mb", "plan")


def test_which_of_two_is_smaller():
    half, third, big, small = (parse_target(x, "plan") for x in (0.5, 0.3, "2 MB", 400_000))
    assert third.below(half) and not half.below(half)
    assert small.below(big) and not big.below(small)
    assert half.below(big) is None


def test_a_plan_is_read_without_torch():
    code = "import sys, espnet_kd.spec.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_share_is_that_of_its_decimals():
    """In binary 0.29 of 100 is less than 29, and 0.07 of 100 more than 7."""
    assert [parse_target(share, "plan").params(100) for share in (0.29, 0.57, 0.07)] == [29, 57, 7]
    bad = BadItems("data", 0.29)
    for n in range(29):
        bad.add("damaged", f"u{n}")
    assert not bad.exceed(100)
    bad.add("damaged", "u29")
    assert bad.exceed(100)
