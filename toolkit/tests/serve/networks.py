"""Small networks to serve, whose right answers are known without running them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
"""Of `classifier`: 3 channels to 4 classes."""


def _write(path: Path, nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto],
           outputs: list[onnx.ValueInfoProto], *initialisers: onnx.TensorProto) -> Path:  # fmt: skip
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initialisers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def _value(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def doubling(path: Path, *, batch: int | str = "batch") -> Path:
    """y = 2 x, of shape batch x anything."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return _write(path, [node], [_value("x", [batch, "size"])], [_value("y", [batch, "size"])])


def sum_and_difference(path: Path) -> Path:
    """sum = a + b, difference = a - b, of shape batch x 3."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    shape: list[int | str] = ["batch", 3]
    inputs, outputs = (
        [_value(name, shape) for name in names] for names in (("a", "b"), ("sum", "difference"))
    )
    return _write(path, nodes, inputs, outputs)


def unchanged(path: Path, kind: int) -> Path:
    """y = x, of shape batch x 2 and the ONNX type `kind`."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _write(path, [node], [_value("x", ["batch", 2], kind)], [_value("y", ["batch", 2], kind)])


def classifier(path: Path) -> Path:
    """scores = the mean of each channel of an image, times WEIGHTS; of shape batch x 4."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
    ]
    return _write(
        path,
        nodes,
        [_value("image", ["batch", 3, 32, 32])],
        [_value("scores", ["batch", 4])],
        numpy_helper.from_array(WEIGHTS, "weights"),
    )


def slow_doubling(path: Path, steps: int) -> Path:
    """y = 2 x, of shape batch x 4, after `steps` steps of work that leaves it as it is (some 10 us each)."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("MatMul", ["state", "identity"], ["next"]),
        ],
        "step",
        [value("i", TensorProto.INT64, []), value("going", TensorProto.BOOL, []), _value("state", ["b", 4])],
        [value("going_on", TensorProto.BOOL, []), _value("next", ["b", 4])],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "", "x"], ["same"], body=body),
        helper.make_node("Add", ["same", "same"], ["y"]),
    ]
    return _write(
        path,
        nodes,
        [_value("x", ["batch", 4])],
        [_value("y", ["batch", 4])],
        numpy_helper.from_array(np.array(steps, np.int64), "steps"),
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "identity"),
    )


def row_sum(path: Path) -> Path:
    """y = the sum over all rows, 1 x 2 but told as dynamic, so that it seems to take batches."""
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    return _write(path, [node], [_value("x", ["batch", 2])], [_value("y", ["one", 2])], axes)
