"""What a conversion gives, TensorRT takes: operators that it refuses in FP16 or BF16 stay in FP32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_network import network, save
from trtkit.build import BuildOptions, build_engine
from trtkit.precision.convert import REFUSED, Half
from trtkit.sidecar import Precision

OPERATORS = {
    "Celu": "Celu(x)",
    "ConvTranspose": "ConvTranspose(x, w)",
    "HardSwish": "HardSwish(x)",
    "LpNormalization": "LpNormalization(x)",
    "MeanVarianceNormalization": "MeanVarianceNormalization(x)",
    "Mish": "Mish(x)",
    "Shrink": "Shrink(x)",
    # Taken in all types: what everybody uses.
    "AveragePool": "AveragePool<kernel_shape=[2,2]>(x)",
    "BatchNormalization": "BatchNormalization(x, s, b, b, s)",
    "Clip": "Clip(x, low, high)",
    "Gelu": "Gelu(x)",
    "HardSigmoid": "HardSigmoid(x)",
    "InstanceNormalization": "InstanceNormalization(x, s, b)",
    "MaxPool": "MaxPool<kernel_shape=[2,2]>(x)",
    "ReduceL2": "ReduceL2(x)",
    "ReduceMean": "ReduceMean(x)",
    "Resize": 'Resize<mode="linear">(x, , scales)',
    "Sigmoid": "Sigmoid(x)",
    "Softmax": "Softmax(x)",
}
WITHOUT_A_BUILD = {"GRU"}
"""Refused in BF16 as well; in FP32 among BF16, TensorRT-RTX 1.7.1 makes no engine of it either."""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_network_of_it_builds(operator: str, precision: Precision, tmp_path: Path) -> None:
    model = network(
        f"n (float[batch,4,8,8] x) => (float[batch,4,h,v] y) {{ y = {OPERATORS[operator]} }}",
        opset=20 if operator == "Gelu" else 18,
        weights={
            "w": (4, 4, 3, 3), "s": np.ones(4, np.float32), "b": np.zeros(4, np.float32),
            "low": np.float32(0), "high": np.float32(6), "scales": np.array([1, 1, 2, 2], np.float32),
        },
    )  # fmt: skip
    taken = {name for node in model.graph.node for name in node.input}
    for unused in [tensor for tensor in model.graph.initializer if tensor.name not in taken]:
        model.graph.initializer.remove(unused)
    save(model, tmp_path / "n.onnx")
    sidecar = build_engine(
        tmp_path / "n.onnx", tmp_path / "n.engine", BuildOptions(precision=precision, sms=("86",))
    )
    assert sidecar.precision == precision


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_every_operator_that_is_excepted_was_built_here(to: Half) -> None:
    assert REFUSED[to] - WITHOUT_A_BUILD <= OPERATORS.keys()
