from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.tiny_network import convolutional, network, quantised
from trtkit.precision import convert, held_precision

RELU = "{ y = Relu(x) }"


@pytest.mark.parametrize(
    ("model", "held"),
    [
        (convolutional(), "fp32"),
        (convert(convolutional(), "fp16"), "fp16"),
        (convert(convolutional(), "bf16"), "bf16"),
        (quantised(), "int8"),
        (convert(quantised(), "fp16"), "int8"),
        (network(f"n (float16[batch,4] x) => (float16[batch,4] y) {RELU}"), "fp16"),
        (network("n (float[4] x) => (float[4] y) { h = Cast<to=10>(x) y = Cast<to=1>(h) }"), "fp16"),
        (network("n (float[4] x) => (float[4] y) { h = Cast<to=16>(x) y = Cast<to=1>(h) }"), "bf16"),
        (network(f"n (int64[batch,4] x) => (int64[batch,4] y) {RELU}"), "fp32"),
        (network("n (float[4] x) => (float[4] y) { y = Add(x, w) }", weights={"w": np.float32(1)}), "fp32"),
    ],
)
def test_it_is_the_lowest_that_the_file_speaks_of(model: onnx.ModelProto, held: str) -> None:
    assert held_precision(model) == held


def test_it_looks_into_branches() -> None:
    model = network(
        """n (float[4] x, bool c) => (float[4] y) {
          y = If (c) <
            then_branch = yes () => (float[4] t) { h = Cast<to=10>(x) t = Cast<to=1>(h) },
            else_branch = no () => (float[4] e) { e = Neg(x) }
          >
        }"""
    )
    assert held_precision(model) == "fp16"
