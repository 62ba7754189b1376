"""What a tensor's values are like, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.tensors import Shape
from trtkit.verify.pathology import as_float64


@dataclass(frozen=True)
class Statistics:
    """low, high, mean: of the finite elements, None where there is none; nan, inf: how many are."""

    dtype: str
    shape: Shape
    low: float | None
    high: float | None
    mean: float | None
    nan: int
    inf: int

    @property
    def reach(self) -> float:
        """The largest magnitude, infinity included."""
        return float("inf") if self.inf else max(abs(self.low or 0.0), abs(self.high or 0.0))

    @property
    def finite(self) -> bool:
        return not self.nan and not self.inf


def statistics(values: NDArray[Any]) -> Statistics:
    """Of a tensor of numbers or booleans."""
    wide = as_float64(values)
    finite = wide[np.isfinite(wide)]
    return Statistics(
        dtype=values.dtype.name,
        shape=values.shape,
        low=float(finite.min()) if finite.size else None,
        high=float(finite.max()) if finite.size else None,
        mean=float(finite.mean()) if finite.size else None,
        nan=int(np.isnan(wide).sum()),
        inf=int(np.isinf(wide).sum()),
    )
