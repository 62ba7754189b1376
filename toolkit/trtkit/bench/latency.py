"""Latencies told in numbers: pure functions of the times that were measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict


class Latency(BaseModel):
    """How long one run takes, in milliseconds.

    runs: how many were timed. distribution: the percentiles 0 to 100 (101 numbers; the first is the fastest
    run, the last the slowest).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int
    mean: float
    p50: float
    p90: float
    p99: float
    distribution: tuple[float, ...]

    def throughput(self, batch: int) -> float:
        """Samples a second when one run of `batch` samples follows the other."""
        return batch * 1000 / self.mean


def summarise(seconds: ArrayLike) -> Latency:
    """What the latencies `seconds` come to. There is at least one, and all are above 0."""
    ms = np.asarray(seconds, np.float64) * 1000
    distribution = tuple(float(value) for value in np.percentile(ms, range(101)))
    return Latency(
        runs=ms.size,
        mean=float(ms.mean()),
        p50=distribution[50],
        p90=distribution[90],
        p99=distribution[99],
        distribution=distribution,
    )


def noise(round_medians: Sequence[float]) -> float:
    """How far the rounds are apart: slowest minus fastest, over the middle one. 0 for a single round."""
    return float(np.ptp(round_medians) / np.median(round_medians))


def is_settled(seconds: Sequence[float], window: int = 10, tolerance: float = 0.03) -> bool:
    """Whether the runs have become as fast as they get: the medians of the last two windows are within
    `tolerance` of each other."""
    if len(seconds) < 2 * window:
        return False
    before, now = np.median(seconds[-2 * window : -window]), np.median(seconds[-window:])
    return bool(abs(now - before) <= tolerance * now)
