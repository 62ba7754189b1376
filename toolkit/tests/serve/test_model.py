"""Requests held against the model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trtkit.serve.model import Model, batch_limit, check_feeds
from trtkit.serve.refusal import Refusal
from trtkit.tensors import ShapeRange, TensorSpec

IMAGE, LENGTH = TensorSpec("image", "float32", (-1, 3, -1)), TensorSpec("length", "int64", (-1,))
PROFILE = {"image": ShapeRange((1, 3, 2), (4, 3, 4), (8, 3, 6)), "length": ShapeRange((1,), (4,), (8,))}
MODEL = Model("m", "test", (IMAGE, LENGTH), (), PROFILE, max_batch=8)


def feeds(rows: int = 2, size: int = 4, **changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    right: dict[str, NDArray[Any]] = {
        "image": np.zeros((rows, 3, size), np.float32),
        "length": np.zeros(rows, np.int64),
    }
    return {**right, **changes}


def test_what_the_model_takes_passes() -> None:
    check_feeds(MODEL, feeds())
    assert (MODEL.rows(feeds()), MODEL.group(feeds())) == (2, ((3, 4), ()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"image": feeds()["image"]}, "missing"),
        (feeds(mask=np.zeros(2)), "unknown"),
        (feeds(image=np.zeros((2, 4, 4), np.float32)), "not ?x3x?"),
        (feeds(image=np.zeros((2, 3), np.float32)), "not ?x3x?"),
        (feeds(image=np.zeros((2, 3, 4))), "float64, not float32"),
        (feeds(size=7), "optimisation profile"),
        (feeds(length=np.zeros(3, np.int64)), "different numbers of rows"),
        (feeds(rows=9), "profile"),
        (feeds(rows=0), "profile"),
        (feeds(image=np.full((2, 3, 4), np.nan, np.float32)), "NaN or infinite"),
        (feeds(image=np.full((2, 3, 4), -np.inf, np.float32)), "NaN or infinite"),
    ],
)
def test_what_it_does_not_take_is_refused_before_it_meets_others(
    wrong: dict[str, NDArray[Any]], told: str
) -> None:
    with pytest.raises(Refusal) as caught:
        check_feeds(MODEL, wrong)
    assert caught.value.status == 400
    assert told in caught.value.text()


def test_nan_passes_if_it_is_allowed() -> None:
    check_feeds(MODEL, feeds(image=np.full((2, 3, 4), np.nan, np.float32)), finite=False)


def test_without_a_profile_the_batch_limit_still_holds() -> None:
    model = Model("m", "test", (LENGTH,), (), {}, max_batch=4)
    with pytest.raises(Refusal, match="5 rows are more than the 4"):
        check_feeds(model, {"length": np.zeros(5, np.int64)})
    with pytest.raises(Refusal, match="no rows"):
        check_feeds(model, {"length": np.zeros(0, np.int64)})


def test_the_batch_ends_where_the_profile_ends_or_the_first_dimension_is_fixed() -> None:
    output = TensorSpec("y", "float32", (-1, 4))
    assert batch_limit((IMAGE, LENGTH), (output,), PROFILE, 32) == 8
    assert batch_limit((IMAGE,), (output,), {}, 32) == 32
    assert batch_limit((IMAGE,), (TensorSpec("y", "float32", (1, 4)),), {}, 32) == 1
    assert batch_limit((TensorSpec("x", "float32", (2, 3)),), (output,), {}, 32) == 1
    assert batch_limit((TensorSpec("x", "float32", ()),), (output,), {}, 32) == 1


def test_bfloat16_is_known_without_help_from_other_modules() -> None:
    code = """
import numpy as np
from trtkit.serve.model import Model, check_feeds
from trtkit.serve.refusal import Refusal
from trtkit.tensors import TensorSpec
model = Model("m", "test", (TensorSpec("x", "bfloat16", (-1,)),), (), {}, max_batch=8)
try:
    check_feeds(model, {"x": np.zeros(2, np.float32)})
except Refusal as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "the input x is float32, not bfloat16", ended.stderr
