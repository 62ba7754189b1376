"""Small networks whose first bad layer is known by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

Weights = Mapping[str, NDArray[Any] | np.generic]


def network(
    nodes: Sequence[onnx.NodeProto],
    weights: Weights,
    *,
    width: int = 8,
    outputs: Sequence[str] = ("y",),
    batch: int | str = "batch",
) -> onnx.ModelProto:
    """x (batch, width) -> the outputs (batch, width), float32."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]) for name in ("x", *outputs)
    ]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        values[:1],
        values[1:],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named as its operator and output: `node("MatMul", "x w1", "h1")` is MatMul_h1."""
    return helper.make_node(op, inputs.split(), [output], name=f"{op}_{output}", **attributes)


def matrix(seed: int, width: int = 8) -> NDArray[np.float32]:
    """Weights that keep a signal's size."""
    scale = np.float32(1 / np.sqrt(width))
    return np.random.default_rng(seed).standard_normal((width, width), np.float32) * scale


def healthy() -> onnx.ModelProto:
    """x -> MatMul -> Relu -> MatMul -> Add(x) -> y: nothing is wrong with it."""
    return network(
        [
            node("MatMul", "x w1", "h1"),
            node("Relu", "h1", "h2"),
            node("MatMul", "h2 w2", "h3"),
            node("Add", "h3 x", "y"),
        ],
        {"w1": matrix(1), "w2": matrix(2)},
    )


def overflowing() -> onnx.ModelProto:
    """Its Mul_big reaches some 1e5 in FP32, and the layer after it is ordinary again."""
    return network(
        [
            node("MatMul", "x w1", "h1"),
            node("Mul", "h1 large", "big"),
            node("Mul", "big small", "h2"),
            node("Tanh", "h2", "y"),
        ],
        {"w1": matrix(1), "large": np.float32(60000), "small": np.float32(1 / 60000)},
    )


def in_fp16(model: onnx.ModelProto, *, keep_io: bool = True) -> onnx.ModelProto:
    converted: onnx.ModelProto = convert_float_to_float16(copy(model), keep_io_types=keep_io)
    return converted


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    same = onnx.ModelProto()
    same.CopyFrom(model)
    return same


def with_weight(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> onnx.ModelProto:
    """A copy with another value in place of a weight."""
    changed = copy(model)
    weight = next(one for one in changed.graph.initializer if one.name == name)
    weight.CopyFrom(numpy_helper.from_array(value, name))
    return changed


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save_model(model, str(path))
    return path
