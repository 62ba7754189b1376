"""Which precision an ONNX file already holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import onnx
from onnx import TensorProto

QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def held_precision(model: onnx.ModelProto) -> Literal["fp32", "fp16", "bf16", "int8"]:
    """The lowest precision that weights, inputs or nodes of `model` speak of. Q/DQ nodes are "int8"."""
    if any(node.op_type in QUANTISERS for node in nodes(model.graph)):
        return "int8"
    types = _float_types(model)
    if TensorProto.FLOAT16 in types:
        return "fp16"
    return "bf16" if TensorProto.BFLOAT16 in types else "fp32"


def holds_float32(model: onnx.ModelProto) -> bool:
    """Whether there is something left to convert: a float32 weight, or a Q/DQ network with float32 scales."""
    return TensorProto.FLOAT in {tensor.data_type for tensor in model.graph.initializer if tensor.dims} or (
        held_precision(model) == "fp32"
    )


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of the subgraphs of If, Loop and Scan too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def _float_types(model: onnx.ModelProto) -> set[int]:
    graph = model.graph
    types = {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    for node in nodes(graph):
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                types.add(attribute.i)
            if attribute.HasField("t"):
                types.add(attribute.t.data_type)
    return types
