"""Statistics against latencies whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.bench.latency import is_settled, noise, summarise

SECONDS = st.lists(st.floats(1e-6, 100), min_size=1, max_size=300)


def test_a_hundred_and_one_runs_are_their_own_percentiles() -> None:
    ms = np.random.default_rng(0).permutation(np.arange(101.0)) + 1
    latency = summarise(ms / 1000)
    assert latency.distribution == pytest.approx(np.arange(101) + 1)
    assert latency.runs == 101
    assert latency.mean == pytest.approx(51)
    assert (latency.p50, latency.p90, latency.p99) == pytest.approx((51, 91, 100))


def test_one_slow_run_in_fifty_is_in_p99_and_not_in_p90() -> None:
    latency = summarise([0.002] * 49 + [0.2])
    assert latency.p90 == pytest.approx(2)
    assert latency.p99 > 50


@given(SECONDS, st.integers(1, 64))
def test_percentiles_ascend_and_throughput_is_batch_over_mean(seconds: list[float], batch: int) -> None:
    latency = summarise(seconds)
    assert len(latency.distribution) == 101
    assert list(latency.distribution) == sorted(latency.distribution)
    assert latency.distribution[0] == pytest.approx(min(seconds) * 1000)
    assert latency.distribution[100] == pytest.approx(max(seconds) * 1000)
    assert latency.distribution[0] <= latency.p50 <= latency.p90 <= latency.p99 <= latency.distribution[100]
    assert latency.throughput(batch) * sum(seconds) == pytest.approx(batch * len(seconds))


@given(SECONDS, st.floats(0.1, 10))
def test_on_a_machine_half_as_fast_all_is_twice_as_long(seconds: list[float], factor: float) -> None:
    one, other = summarise(seconds), summarise([factor * value for value in seconds])
    assert other.p99 == pytest.approx(factor * one.p99)
    assert other.throughput(1) == pytest.approx(one.throughput(1) / factor)


def test_noise_is_the_spread_of_the_rounds() -> None:
    assert noise([5.0]) == 0
    assert noise([4.0, 4.0, 4.0]) == 0
    assert noise([9.0, 10.0, 12.0]) == pytest.approx(0.3)


def test_runs_are_settled_once_two_windows_agree() -> None:
    warming = [0.1 / (run + 1) + 0.01 for run in range(12)]
    assert not is_settled([0.01] * 19)
    assert not is_settled(warming + [0.01] * 8)
    assert is_settled(warming + [0.01] * 20)
    assert is_settled([0.01] * 19 + [5.0])  # one hiccup moves no median
