"""Does memory grow while a model runs? Read after each round, told as a trend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

NOISE = 1 << 20
"""Bytes that come and go by themselves: less growth than this is none."""


class Drift(BaseModel):
    """What memory did over the rounds, in bytes.

    readings: after each round. per_thousand_runs: the least-squares slope. grows: it rose by more than
    `NOISE`, and the second half of the rounds still adds a fourth or more of all growth; so a pool that fills
    once and stays is not taken for a leak.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    readings: tuple[int, ...]
    per_thousand_runs: float
    grows: bool

    @property
    def total(self) -> int:
        """Last reading minus the first."""
        return self.readings[-1] - self.readings[0]


def drift_of(readings: Sequence[int], runs: Sequence[int]) -> Drift:
    """The drift of `readings`, each taken when so many `runs` were done in all; `runs` ascends."""
    total = readings[-1] - readings[0]
    slope, grows = 0.0, False
    if len(readings) > 1:
        slope = float(np.polyfit(runs, readings, 1)[0]) * 1000
    if len(readings) > 2:
        late = readings[-1] - readings[len(readings) // 2]
        grows = total > NOISE and 4 * late >= total
    return Drift(readings=tuple(readings), per_thousand_runs=slope, grows=grows)
