"""One tensor against the same tensor of the reference.

numpy does it: polygraphy's comparators print what they find and know neither top-1 nor a scale, and their
names change between the releases that we admit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtkit.tensors import shape_text
from trtkit.verify.pathology import Pathology, as_float64, numeric, pathologies
from trtkit.verify.tolerance import Tolerance

_NEAR_ZERO = 0.01
"""Of the reference's largest magnitude: below it an element's relative difference says nothing."""


@dataclass(frozen=True)
class Comparison:
    """How one tensor compares. A measure is None where it has no meaning, or no finite element to take it of.

    max_abs: the largest difference. max_rel: the largest difference over the reference's element, of those
        above 1 % of the largest. cosine: similarity of the whole tensors.
    top1: the share of samples with the same largest class; of (samples, classes) only. For integers and
        booleans: the share of equal elements.
    pathologies: what is wrong with the subject on its face; shared: those of them that the reference has too.
    why: what is out of tolerance, "" where nothing is.
    """

    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1: float | None
    pathologies: tuple[Pathology, ...]
    shared: tuple[Pathology, ...]
    why: str

    @property
    def within(self) -> bool:
        return not self.why


def compare(
    subject: NDArray[Any], reference: NDArray[Any], tolerance: Tolerance, *, batched: bool = False
) -> Comparison:
    """`subject` against `reference`.

    A NaN is never within tolerance. What else is wrong on its face is, where the reference has it too: then
    it is the model's way, not the conversion's. Args: batched: as `pathologies` has it.
    """
    found = pathologies(subject, batched=batched)
    shared = tuple(one for one in found if one in pathologies(reference, batched=batched))
    if subject.shape != reference.shape:
        why = f"shape {shape_text(subject.shape)}, the reference's is {shape_text(reference.shape)}"
        return Comparison(None, None, None, None, found, shared, why)
    if not numeric(reference) or not numeric(subject):
        return _compare_exact(subject, reference, tolerance)

    ours, theirs = as_float64(subject), as_float64(reference)
    finite = np.isfinite(ours) & np.isfinite(theirs)
    difference = np.abs(ours[finite] - theirs[finite])
    size = np.abs(theirs[finite])
    scale = float(size.max(initial=0.0))
    telling = size > _NEAR_ZERO * scale
    cosine = _cosine(ours[finite], theirs[finite])
    worst = float((difference - tolerance.relative * size).max(initial=0.0))
    bad = [one for one in found if one not in shared or one == "nan"]
    if bad:
        why = ", ".join(bad)
    elif not np.array_equal(ours[~finite], theirs[~finite]):
        why = "infinities elsewhere than the reference's"
    elif worst > tolerance.absolute * (scale or 1.0):
        why = f"differs by up to {difference.max():.3g}, where the reference reaches {scale:.3g}"
    elif cosine is not None and cosine < tolerance.cosine:
        why = f"cosine {cosine:.5f}, below {tolerance.cosine}"
    else:
        why = ""
    return Comparison(
        max_abs=float(difference.max()) if difference.size else None,
        max_rel=float((difference[telling] / size[telling]).max()) if telling.any() else None,
        cosine=cosine,
        top1=_top1(subject, reference),
        pathologies=found,
        shared=shared,
        why=why,
    )


def _compare_exact(subject: NDArray[Any], reference: NDArray[Any], tolerance: Tolerance) -> Comparison:
    agreement = float((subject == reference).mean()) if subject.size else 1.0
    why = f"{agreement:.1%} of its elements agree" if agreement < tolerance.agreement else ""
    return Comparison(None, None, None, agreement, (), (), why)


def _cosine(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float | None:
    # Over the largest first: the squares of float64's own extremes would overflow.
    scales = np.abs(ours).max(initial=0.0), np.abs(theirs).max(initial=0.0)
    if not all(scales):
        return 1.0 if scales == (0.0, 0.0) and ours.size else None
    a, b = ours / scales[0], theirs / scales[1]
    return float(np.clip(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)), -1.0, 1.0))


def _top1(subject: NDArray[Any], reference: NDArray[Any]) -> float | None:
    if reference.ndim != 2 or reference.shape[1] < 2 or not reference.shape[0]:
        return None
    return float((as_float64(subject).argmax(axis=1) == as_float64(reference).argmax(axis=1)).mean())
