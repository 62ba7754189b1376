"""Outputs that are wrong on their face, what that usually means, and what to try."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Pathology = Literal["nan", "inf", "all-zero", "constant", "same-rows"]

MEANING: dict[Pathology, tuple[str, str]] = {
    "nan": (
        "NaN: an overflow to infinity upstream that met another (inf - inf, 0 x inf), or a logarithm, root "
        "or division outside its domain",
        "--bisect names the layer; keep it in FP32 (trtkit build --keep-fp32), or use BF16",
    ),
    "inf": (
        "infinity: a value beyond the type's range; FP16 ends at 65504",
        "--bisect names the layer; keep it in FP32 (trtkit build --keep-fp32), or use BF16",
    ),
    "all-zero": (
        "all zero: the output was never written (a shape outside the profile, a buffer read before its "
        "stream ended), an underflow in FP16, or an INT8 range so wide that all rounds to 0",
        "build once with a fixed batch (min = opt = max); then --bisect; for INT8, calibrate on "
        "representative samples",
    ),
    "constant": (
        "the same number everywhere: a saturated layer (INT8 range too narrow, a softmax of infinities), or "
        "weights that were not loaded",
        "--bisect names the layer; for INT8, calibrate on representative samples; look at the weights with "
        "trtkit inspect",
    ),
    "same-rows": (
        "every sample of the batch has the same answer: the batch was fixed at export and one sample is "
        "repeated, or the input does not reach the output",
        "export again with a dynamic batch axis; build once with a fixed batch (min = opt = max)",
    ),
}
"""A pathology -> what it usually means, and what to try next."""


def pathologies(values: NDArray[Any], *, batched: bool) -> tuple[Pathology, ...]:
    """What is wrong with these values on their face.

    Args:
        batched: the first axis counts samples, and they were not all the same.
    """
    if values.size == 0 or not numeric(values):
        return ()
    found: list[Pathology] = []
    wide = as_float64(values)
    if np.isnan(wide).any():
        found.append("nan")
    if np.isinf(wide).any():
        found.append("inf")
    if not found and values.size > 1:
        if not wide.any():
            found.append("all-zero")
        elif (wide == wide.flat[0]).all():
            found.append("constant")
        elif batched and wide.ndim > 1 and len(wide) > 1 and (wide == wide[:1]).all():
            found.append("same-rows")
    return tuple(found)


def numeric(values: NDArray[Any]) -> bool:
    """Whether these are floats, and not integers, booleans or text. bfloat16 is ml_dtypes' own kind."""
    return values.dtype.kind == "f" or values.dtype.name in {"bfloat16", "float8_e4m3fn", "float8_e5m2"}


def as_float64(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(np.float64)
