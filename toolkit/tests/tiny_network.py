"""Small networks, written in ONNX's own language; their weights are the same in every run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.parser import parse_graph

Weight = NDArray[Any] | np.generic | tuple[int, ...]
"""A value, or the shape of one."""


def network(text: str, opset: int = 17, weights: Mapping[str, Weight] | None = None) -> onnx.ModelProto:
    """The network of `text`: "name (float[N,3] x) => (float[N,3] y) { y = Relu(x) }".

    A node without a name is called after its operator and place ("relu0"). A weight that is a shape is filled
    with normal values, so scaled that signals keep their size.
    """
    random = np.random.default_rng(7)
    graph = parse_graph(text)
    for name, weight in (weights or {}).items():
        value = _filled(weight, random) if isinstance(weight, tuple) else np.asarray(weight)
        graph.initializer.append(numpy_helper.from_array(value, name))
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type.lower()}{index}"
    domains = {"", *(node.domain for node in graph.node)}
    imports = [onnx.helper.make_opsetid(domain, 1 if domain else opset) for domain in sorted(domains)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=9)


def _filled(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    return random.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)


def convolutional() -> onnx.ModelProto:
    """Two convolutions with ReLU, pooled, and a classifier of 8; 4x16x16, any batch."""
    return network(
        """convolutional (float[batch,4,16,16] image) => (float[batch,8] scores) {
          a = Conv<pads=[1,1,1,1]>(image, w0, b0)
          ar = Relu(a)
          b = Conv<pads=[1,1,1,1]>(ar, w1, b1)
          br = Relu(b)
          pooled = GlobalAveragePool(br)
          flat = Flatten(pooled)
          scores = Gemm<transB=1>(flat, w2, b2)
        }""",
        weights={
            "w0": (32, 4, 3, 3),
            "b0": (32,),
            "w1": (32, 32, 3, 3),
            "b1": (32,),
            "w2": (8, 32),
            "b2": (8,),
        },
    )


def quantised() -> onnx.ModelProto:
    """A convolution between Q/DQ pairs, per tensor for what flows and per channel for weights; 32x8x8."""
    random = np.random.default_rng(7)
    return network(
        """quantised (float[batch,32,8,8] image) => (float[batch,32,8,8] y) {
          q = QuantizeLinear(image, s_image, zero)
          d = DequantizeLinear(q, s_image, zero)
          dw = DequantizeLinear<axis=0>(w, s_w, zeros)
          [conv] c = Conv<pads=[1,1,1,1]>(d, dw, b)
          r = Relu(c)
          q2 = QuantizeLinear(r, s_y, zero)
          y = DequantizeLinear(q2, s_y, zero)
        }""",
        weights={
            "s_image": np.float32(0.03),
            "s_y": np.float32(0.05),
            "zero": np.int8(0),
            "w": random.integers(-127, 128, (32, 32, 3, 3)).astype(np.int8),
            "s_w": (0.0005 * (1 + random.random(32))).astype(np.float32),
            "zeros": np.zeros(32, np.int8),
            "b": (32,),
        },
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    same = onnx.ModelProto()
    same.CopyFrom(model)
    return same


def feeds(model: onnx.ModelProto, batch: int = 2) -> dict[str, NDArray[Any]]:
    """Normal floats and integers from 0 to 2, the same in every run; a dynamic dimension is `batch`."""
    random = np.random.default_rng(3)
    made: dict[str, NDArray[Any]] = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        floats = np.issubdtype(dtype, np.floating)
        made[value.name] = (random.standard_normal(shape) if floats else random.integers(0, 3, shape)).astype(
            dtype
        )
    return made
