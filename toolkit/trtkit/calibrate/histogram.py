"""How large the values of a tensor are, counted as they stream by, and the range that follows.

onnxruntime.quantization has this too, but keeps every activation of every sample until it counts, and with
its defaults its entropy method compares one single threshold. Here a tensor costs 16 KiB, whatever streams
by.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 2048
"""As TensorRT's and NVIDIA's pytorch-quantization calibrators."""

LEVELS = 128
"""The magnitudes that a symmetric INT8 has, zero among them."""

STRIDE = 4
"""Every which threshold the entropy method tries."""

SMALLEST = 1e-30
"""Smaller magnitudes are zero: a bin's width must be a float32."""

BLOCK = 1 << 16
"""Values counted at once: what stays in a core's cache."""


class Histogram:
    """Counts of magnitudes in bins from 0 to `limit`, a power of two that doubles when a larger value comes.

    low, high: the smallest and largest value so far. Doubling joins bins in pairs, so no count is ever
    estimated, and the result does not depend on the order of the values.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.low = math.inf
        self.high = -math.inf
        self._zeros = 0

    def add(self, values: NDArray[Any]) -> None:
        """Count `values`.

        Raises:
            ValueError: one of them is NaN or infinite.
        """
        flat = values.reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not math.isfinite(high - low):
            raise ValueError("a value is NaN or infinite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        peak = max(-low, high)
        if peak < SMALLEST:
            self._zeros += flat.size
            return
        self._reach(peak)
        scale = np.float32(BINS / self.limit)
        for start in range(0, flat.size, BLOCK):
            magnitudes = np.abs(flat[start : start + BLOCK])
            magnitudes *= scale
            self.counts += np.bincount(magnitudes.astype(np.int64), minlength=BINS)[:BINS]

    def _reach(self, peak: float) -> None:
        limit = math.ldexp(1.0, math.frexp(peak)[1])  # above the peak, at most twice as large
        if not self.limit:
            self.limit = limit
            return
        while self.limit < limit:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([joined, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2

    def minmax(self) -> tuple[float, float]:
        """All values are inside."""
        return self.low, self.high

    def percentile(self, percent: float) -> tuple[float, float]:
        """`percent` of all values are inside."""
        counts = self.counts.copy()
        counts[0] += self._zeros
        inside = np.searchsorted(np.cumsum(counts), counts.sum() * percent / 100)
        return self._cut(int(inside) + 1)

    def entropy(self) -> tuple[float, float]:
        """Where the magnitudes, in 128 levels and cut there, differ least from the original.

        Source: S. Migacz, "8-bit Inference with TensorRT" (GTC 2017); the count of zeros is replaced as in
        NVIDIA's pytorch-quantization, since after a ReLU they would hide all else.
        """
        counts = self.counts.astype(np.float64)
        counts[0] = counts[1]
        if not counts.any():
            return self.minmax()
        last = int(np.flatnonzero(counts)[-1]) + 1
        sizes = [*range(LEVELS, last, STRIDE), max(last, LEVELS)]
        losses = [_divergence(counts, size) for size in sizes]
        best = len(losses) - 1 - int(np.argmin(losses[::-1]))
        return self._cut(sizes[best])

    def _cut(self, bins: int) -> tuple[float, float]:
        reach = bins * self.limit / BINS
        return max(self.low, -reach), min(self.high, reach)


def _divergence(counts: NDArray[np.float64], size: int) -> float:
    """The Kullback-Leibler divergence of the first `size` bins, told in LEVELS levels, from the original."""
    reference = counts[:size].copy()
    filled = reference > 0
    level = np.arange(size) * LEVELS // size
    sums = np.bincount(level, reference, LEVELS)
    numbers = np.bincount(level, filled, LEVELS)
    told = np.where(filled, (sums / np.maximum(numbers, 1))[level], 0)
    reference[-1] += counts[size:].sum()
    if reference[-1] and not told[-1]:
        return math.inf
    seen = reference > 0
    reference, told = reference[seen] / reference.sum(), told[seen] / told.sum()
    return float(np.sum(reference * np.log(reference / told)))
