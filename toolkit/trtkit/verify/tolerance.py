"""How far a lower precision may be from FP32, and why."""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.sidecar import Precision


@dataclass(frozen=True)
class Tolerance:
    """What a subject's tensor may differ from the reference's by.

    absolute: of the reference's largest magnitude; relative: of each element. An element is within if its
        difference is no more than the sum of both, as numpy.allclose has it.
    cosine: the least cosine similarity of the whole tensor.
    agreement: the least share of equal elements where the tensor is of integers or booleans.
    because: where these numbers come from.
    """

    absolute: float
    relative: float
    cosine: float
    agreement: float
    because: str


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(
        absolute=1e-4, relative=1e-3, cosine=0.99999, agreement=1.0,
        because="the same 24-bit arithmetic in another order: about 1e-7 x the root of the terms of a sum, "
        "over some hundred layers",
    ),
    "tf32": Tolerance(
        absolute=5e-3, relative=1e-2, cosine=0.9999, agreement=0.99,
        because="products of 11-bit mantissas (half a step is 4.9e-4) summed in FP32; each layer adds some",
    ),
    "fp16": Tolerance(
        absolute=1e-2, relative=2e-2, cosine=0.999, agreement=0.99,
        because="11-bit mantissas (half a step is 4.9e-4), and every layer's result is rounded to them again",
    ),
    "bf16": Tolerance(
        absolute=5e-2, relative=1e-1, cosine=0.99, agreement=0.98,
        because="8-bit mantissas (half a step is 3.9e-3), and every layer's result is rounded to them again",
    ),
    "int8": Tolerance(
        absolute=0.25, relative=0.25, cosine=0.98, agreement=0.95,
        because="255 steps over each tensor's calibrated range, and what lies outside is cut off: single "
        "elements may be far off, so the direction of the whole tensor decides",
    ),
}  # fmt: skip
"""By the subject's precision; the reference is FP32."""
