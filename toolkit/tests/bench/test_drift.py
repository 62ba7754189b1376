"""Memory that grows, memory that fills once, and memory that is noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.bench.drift import NOISE, drift_of

MIB = 1 << 20


def test_a_leak_is_told_with_its_rate() -> None:
    drift = drift_of([500 * MIB + 20 * MIB * number for number in range(5)], [200 * n for n in range(1, 6)])
    assert drift.grows
    assert drift.total == 80 * MIB
    assert drift.per_thousand_runs == pytest.approx(100 * MIB)


def test_a_pool_that_fills_in_the_first_round_is_no_leak() -> None:
    readings = [500 * MIB, 900 * MIB, 900 * MIB, 900 * MIB, 900 * MIB]
    assert not drift_of(readings, range(1, 6)).grows


def test_memory_that_is_given_back_is_no_leak() -> None:
    assert not drift_of([900 * MIB, 700 * MIB, 500 * MIB], [1, 2, 3]).grows


@pytest.mark.parametrize("readings", [[7], [7, 7 + 100 * MIB]])
def test_one_or_two_readings_are_no_trend(readings: list[int]) -> None:
    assert not drift_of(readings, range(1, len(readings) + 1)).grows


@given(st.integers(3, 20), st.integers(0, 2**32), st.integers(2 * MIB, 64 * MIB))
def test_a_steady_leak_is_always_seen_above_any_noise(rounds: int, seed: int, step: int) -> None:
    noise = np.random.default_rng(seed).integers(-NOISE // 8, NOISE // 8, rounds)
    steady = [1000 * MIB + step * number for number in range(rounds)]
    assert drift_of(
        [int(one + other) for one, other in zip(steady, noise, strict=True)], range(1, rounds + 1)
    ).grows
    flat = [int(1000 * MIB + other) for other in noise]
    assert not drift_of(flat, range(1, rounds + 1)).grows
