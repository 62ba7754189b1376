"""One tensor against another: measures, pathologies, verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from trtkit.sidecar import Precision
from trtkit.verify.comparison import compare
from trtkit.verify.pathology import MEANING, Pathology, pathologies
from trtkit.verify.tolerance import TOLERANCES

FP32, FP16 = TOLERANCES["fp32"], TOLERANCES["fp16"]
FLOATS = arrays(np.float32, (4, 5), elements=st.floats(-1e6, 1e6, width=32))


@given(FLOATS)
def test_a_tensor_is_within_tolerance_of_itself(values: NDArray[np.float32]) -> None:
    same = compare(values, values.copy(), FP32)
    assert same.within
    assert same.max_abs == 0.0
    assert same.top1 == 1.0
    assert same.cosine == pytest.approx(1.0)


@given(FLOATS, st.floats(0.01, 1e4), st.floats(-0.4, 0.4))
def test_the_verdict_does_not_depend_on_the_scale(
    values: NDArray[np.float32], scale: float, error: float
) -> None:
    wide = values.astype(np.float64)
    wrong = wide.copy()
    wrong.flat[0] += error * np.abs(wide).max()
    here, there = compare(wrong, wide, FP16), compare(wrong * scale, wide * scale, FP16)
    if abs(error) > 0.05 or abs(error) < 0.001:  # nearer to the limit, rounding decides
        assert here.within == there.within


@given(FLOATS)
def test_rounding_to_fp16_is_within_fp16s_tolerance(values: NDArray[np.float32]) -> None:
    values = values / np.float32(100)
    assume(np.abs(values).max() > 1)  # below, FP16 underflows
    assert compare(values.astype(np.float16), values, FP16).within


def test_one_wrong_element_is_not_within_tolerance_even_if_the_direction_is_right() -> None:
    reference = np.ones((1, 10000), np.float32)
    subject = reference.copy()
    subject[0, 77] = 1.5
    found = compare(subject, reference, FP16)
    assert found.cosine is not None
    assert found.cosine > FP16.cosine
    assert "differs by up to 0.5" in found.why
    assert found.max_abs == 0.5
    assert found.max_rel == 0.5


def test_a_turned_vector_is_not_within_tolerance_even_if_each_element_is() -> None:
    random = np.random.default_rng(0)
    reference = random.standard_normal((1, 1000))
    subject = reference + 0.22 * random.standard_normal((1, 1000))
    assert compare(subject, reference, TOLERANCES["int8"]).why.startswith("cosine 0.97")


def test_top1_counts_samples_whose_largest_class_is_the_same() -> None:
    reference = np.eye(4, dtype=np.float32)
    subject = reference.copy()
    subject[3] = reference[0]
    assert compare(subject, reference, FP32).top1 == 0.75
    assert compare(subject[0], reference[0], FP32).top1 is None


def test_relative_difference_leaves_out_what_is_nearly_zero() -> None:
    reference = np.array([1.0, 1e-9])
    assert compare(np.array([1.0, 2e-9]), reference, FP32).max_rel == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[np.nan, 1.0], [2.0, 3.0]], ("nan",)),
        ([[np.inf, np.nan], [2.0, 3.0]], ("nan", "inf")),
        ([[0.0, 0.0], [0.0, 0.0]], ("all-zero",)),
        ([[3.0, 3.0], [3.0, 3.0]], ("constant",)),
        ([[1.0, 2.0], [1.0, 2.0]], ("same-rows",)),
        ([[1.0, 2.0], [2.0, 1.0]], ()),
    ],
)
def test_what_is_wrong_on_its_face(values: list[list[float]], expected: tuple[Pathology, ...]) -> None:
    assert pathologies(np.array(values, np.float32), batched=True) == expected
    assert all(one in MEANING for one in expected)


def test_a_tensor_of_one_element_is_no_constant() -> None:
    assert pathologies(np.zeros(1, np.float32), batched=False) == ()


def test_the_same_rows_are_right_where_the_samples_are_the_same() -> None:
    assert pathologies(np.ones((2, 1)) * [[1.0, 2.0]], batched=False) == ()


def test_nan_is_wrong_even_where_the_reference_has_it_and_infinity_is_not() -> None:
    nan, inf = np.array([np.nan, 1.0]), np.array([-np.inf, 1.0])
    assert not compare(nan, nan, FP16).within
    assert compare(nan, nan, FP16).shared == ("nan",)
    assert compare(inf, inf, FP16).within
    assert not compare(inf, -inf, FP16).within
    assert not compare(inf[::-1], inf, FP16).within


def test_an_output_that_died_is_told_as_what_it_is() -> None:
    reference = np.random.default_rng(0).standard_normal((2, 3))
    dead = compare(np.zeros((2, 3)), reference, TOLERANCES["int8"])
    assert dead.pathologies == ("all-zero",)
    assert dead.why == "all-zero"
    assert dead.cosine is None


def test_integers_are_compared_by_their_share_of_equal_ones() -> None:
    reference = np.arange(100)
    subject = reference.copy()
    subject[:3] = -1
    assert compare(subject, reference, FP16).why == "97.0% of its elements agree"
    assert compare(subject, reference, TOLERANCES["int8"]).within


def test_another_shape_is_told() -> None:
    assert "shape 1x2, the reference's is 2x1" in compare(np.ones((1, 2)), np.ones((2, 1)), FP32).why


def test_lower_precisions_are_given_more() -> None:
    order: list[Precision] = ["fp32", "tf32", "fp16", "bf16", "int8"]
    ordered = [TOLERANCES[one] for one in order]
    assert [one.absolute for one in ordered] == sorted(one.absolute for one in ordered)
    assert [one.cosine for one in ordered] == sorted((one.cosine for one in ordered), reverse=True)
    assert all(one.because for one in ordered)
