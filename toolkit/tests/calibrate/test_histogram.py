"""Ranges that follow from streamed values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trtkit.calibrate.histogram import BINS, Histogram

Values = NDArray[np.float32]

values = arrays(
    np.float32,
    st.integers(1, 200),
    elements=st.floats(-1e6, 1e6, width=32).filter(lambda value: abs(value) > 1e-20 or value == 0),
)


def histogram(*parts: Values) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(part)
    return made


@given(parts=st.lists(values, min_size=1, max_size=5), seed=st.integers(0, 100))
def test_the_order_and_the_parts_in_which_values_come_do_not_matter(parts: list[Values], seed: int) -> None:
    together = np.random.default_rng(seed).permutation(np.concatenate(parts))
    one, other = histogram(*parts), histogram(together)
    assert (one.low, one.high, one.limit) == (other.low, other.high, other.limit)
    np.testing.assert_array_equal(one.counts[1:], other.counts[1:])
    for method in ("minmax", "entropy"):
        assert getattr(one, method)() == getattr(other, method)()
    assert one.percentile(99) == other.percentile(99)


@given(values)
def test_every_value_is_counted_in_the_bin_of_its_magnitude(given: Values) -> None:
    made = histogram(given)
    if not made.limit:
        assert not given.any()
        return
    edges = np.linspace(0, made.limit, BINS + 1)
    np.testing.assert_array_equal(made.counts, np.histogram(np.abs(given.astype(np.float64)), edges)[0])
    assert np.abs(given).max() < made.limit <= 2 * np.abs(given).max()


@given(parts=st.lists(values, min_size=1, max_size=3))
def test_a_range_lies_within_what_was_seen(parts: list[Values]) -> None:
    made = histogram(*parts)
    everything = np.concatenate(parts)
    assert made.minmax() == (everything.min(), everything.max())
    for low, high in (made.entropy(), made.percentile(99.9)):
        assert everything.min() <= low <= high <= everything.max() or low <= 0 <= high


def test_a_percentile_leaves_out_that_share_of_values() -> None:
    made = histogram(np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32))
    _, high = made.percentile(95)
    assert high == pytest.approx(1.96, abs=0.01)  # of a normal distribution, 95 % lie within 1.96


def test_entropy_cuts_a_few_outliers_and_minmax_does_not() -> None:
    usual = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
    outliers = np.array([60, -60], np.float32)
    made = histogram(usual, outliers)
    assert made.minmax() == (-60, 60)
    low, high = made.entropy()
    assert 3 < high < 15
    assert -low == high


def test_entropy_keeps_all_of_what_has_no_tail() -> None:
    made = histogram(np.random.default_rng(0).uniform(0, 1, 1_000_000).astype(np.float32))
    assert made.entropy()[1] > 0.99


def test_zeros_after_a_relu_do_not_hide_the_rest() -> None:
    positive = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    sparse = np.concatenate([positive, np.zeros(2_000_000, np.float32)])
    assert histogram(sparse).entropy()[1] == pytest.approx(histogram(positive).entropy()[1], rel=0.1)


def test_all_zeros_are_a_range_too() -> None:
    made = histogram(np.zeros(10, np.float32), np.zeros((0,), np.float32))
    assert made.minmax() == made.entropy() == made.percentile(99) == (0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        histogram(np.array([1, bad, 2], np.float32))
