"""What progress lines say."""

import pytest

from espnet_kd.progress import clock, pace


@pytest.mark.parametrize(
    "speed, said",
    [(2.5, "2.5 utt/s"), (0.2, "0.2 utt/s"), (0.025, "40 s/utt"), (0.0, "0.0 utt/s")],
)
def test_slow_items_are_told_in_seconds(speed, said):
    assert pace(speed, "utt") == said


def test_clock():
    assert [clock(s) for s in (5.4, 65, 3600)] == ["0:05", "1:05", "1:00:00"]
