"""What a layer that went wrong looks like, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from trtkit.verify.comparison import Comparison
from trtkit.verify.statistics import Statistics

FP16_MAX = float(np.finfo(np.float16).max)
FP16_LEAST = float(np.finfo(np.float16).smallest_subnormal)

DOMAINS = {
    "Log": "the logarithm of a negative number",
    "Sqrt": "the square root of a negative number",
    "Pow": "a negative base with a fractional exponent",
    "Asin": "an arc sine outside -1 to 1",
    "Acos": "an arc cosine outside -1 to 1",
    "Div": "a division of zero by zero",
    "Mod": "a division by zero",
}
"""Operators that give NaN for finite inputs, and for which."""

IN_FP32 = "Keep this layer in FP32 (trtkit build --keep-fp32)"
UNQUANTISED = "Or leave this layer unquantised (trtkit calibrate --keep-fp16)"


class Fed(Protocol):
    """An input or output of the layer, as far as a hint needs it. why: how it differs from the reference."""

    @property
    def tensor(self) -> str: ...
    @property
    def weight(self) -> bool: ...
    @property
    def subject(self) -> Statistics: ...
    @property
    def reference(self) -> Statistics | None: ...
    @property
    def why(self) -> str: ...


def hint(op: str, output: Fed, inputs: Sequence[Fed], comparison: Comparison) -> str:
    """The likeliest cause that its numbers speak for, and what to try."""
    both = "; the reference does so too: it is the model (or its inputs), not the conversion"
    shared = both if set(comparison.pathologies) & set(comparison.shared) else ""
    theirs = output.reference
    clean = all(one.subject.finite for one in inputs)
    half = output.subject.dtype == "float16"

    if half and not output.subject.finite and theirs is not None and theirs.reach > FP16_MAX:
        return (
            f"overflow in FP16: the reference reaches {theirs.reach:.3g} here, FP16 ends at {FP16_MAX:.0f}. "
            f"{IN_FP32}, with what it feeds; or scale its input down, or use BF16"
        )
    if output.subject.nan and clean and op in DOMAINS:
        low = min((one.subject.low for one in inputs if one.subject.low is not None), default=None)
        fed = f" (its smallest input is {low:.3g})" if low is not None else ""
        return f"NaN from {DOMAINS[op]}{fed}{shared}. Clamp its input before the export"
    if not output.subject.finite:
        return f"not finite from {'finite' if clean else 'infinite'} inputs{shared}. {IN_FP32}"
    if op == "DequantizeLinear":
        return _range_hint(output, inputs)
    if half and theirs is not None and 0 < theirs.reach < FP16_LEAST * 2**10:
        return (
            f"underflow in FP16: the reference reaches no more than {theirs.reach:.3g} here, and FP16's "
            f"steps there are {FP16_LEAST:.2g}. {IN_FP32}, or scale it up"
        )
    wrong = next((one for one in inputs if one.weight and one.why), None)
    if wrong is not None and not wrong.subject.dtype.startswith(("int", "uint")):
        return (
            f"its weight {wrong.tensor} is not the reference's ({wrong.why}): converted from another "
            "checkpoint, or beyond the range of its type. Convert the same file again"
        )
    if set(comparison.pathologies) & {"all-zero", "constant"}:
        kind = "all zero" if "all-zero" in comparison.pathologies else "one number everywhere"
        zeros = next((one.tensor for one in inputs if one.weight and one.subject.reach == 0.0), None)
        cause = (
            f": its weight {zeros} is all zero" if zeros else f", from inputs that are not{_ranges(inputs)}"
        )
        return f"{kind}{cause}{shared}. Look at its weights, and at what saturates it"
    if wrong is not None:
        return f"its quantised weight {wrong.tensor} is off ({wrong.why}). Quantise it per channel"
    return (
        f"its inputs are within tolerance, its output is not{_ranges(inputs)}: this layer's own arithmetic. "
        "Keep it in a higher precision"
    )


def _range_hint(output: Fed, inputs: Sequence[Fed]) -> str:
    """A tensor that was quantised: was its range too narrow, or too wide?"""
    advice = f"Calibrate on more, and more representative, samples. {UNQUANTISED}"
    quantised, scale = inputs[0].subject, inputs[1].subject if len(inputs) > 1 else None
    theirs = output.reference
    if (
        theirs is None
        or scale is None
        or scale.high is None
        or not quantised.dtype.startswith(("int", "uint"))
    ):
        return f"quantisation changed it beyond tolerance. {advice}"
    zero = (inputs[2].subject.mean or 0.0) if len(inputs) > 2 else 0.0
    type_range = np.iinfo(quantised.dtype)
    low, high = (float(end) - zero for end in (type_range.min, type_range.max))
    covers = f"{quantised.dtype} covers {low * scale.high:.3g} to {high * scale.high:.3g}"
    reaches = f"the reference lies in {theirs.low or 0.0:.3g} to {theirs.high or 0.0:.3g}"
    beyond = (theirs.high or 0.0) > high * scale.high * 1.05 or (
        theirs.low or 0.0
    ) < low * scale.high * 1.05 - 1e-12
    verdict = "range too narrow" if beyond else f"steps of {scale.high:.3g} are too coarse"
    return f"quantisation: {verdict}: {covers}, {reaches}. {advice}"


def _ranges(inputs: Sequence[Fed]) -> str:
    told = [
        f"{one.tensor} {one.subject.low:.3g} to {one.subject.high:.3g}"
        for one in inputs
        if not one.weight and one.subject.low is not None and one.subject.high is not None
    ]
    return f" ({', '.join(told)})" if told else ""
