"""Intervals are those of Student's t, worked out by hand."""

import math

import pytest

from experiments.report.intervals import interval


def test_the_interval_is_the_one_worked_out_by_hand():
    # 1..5: mean 3, s = sqrt(2.5), t(4, 0.975) = 2.776445 (printed tables: 2.776)
    mean, low, high, n = interval([1, 2, 3, 4, 5])
    assert (mean, n) == (3, 5)
    assert high - mean == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    # two values: t(1, 0.975) = 12.7062, s / sqrt(2) = half their distance
    assert interval([0, 2]).high == pytest.approx(1 + 12.7062, rel=1e-5)
    assert interval([0, 2], 0.5).high == pytest.approx(1 + 1)  # t(1, 0.75) = tan(pi / 4)


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = interval([0.25]), interval([])
    assert one.mean == 0.25 and math.isnan(one.low) and math.isnan(one.high) and one.n == 1
    assert math.isnan(none.mean) and none.n == 0


@pytest.mark.parametrize('level', [0, 1, 95, math.nan])
def test_a_level_outside_0_to_1_is_refused(level):
    with pytest.raises(ValueError, match='between 0 and 1'):
        interval([1, 2], level)
