"""Which precision an ONNX file already holds."""

from __future__ import annotations

from typing import Literal

import onnx
from onnx import TensorProto

from trtkit.onnx_graph import graphs

QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def held_precision(model: onnx.ModelProto) -> Literal["fp32", "fp16", "bf16", "int8"]:
    """The lowest precision that weights, inputs or nodes of `model` speak of. Q/DQ nodes are "int8"."""
    if any(node.op_type in QUANTISERS for graph in graphs(model.graph) for node in graph.node):
        return "int8"
    types = element_types(model)
    if TensorProto.FLOAT16 in types:
        return "fp16"
    return "bf16" if TensorProto.BFLOAT16 in types else "fp32"


def is_converted(model: onnx.ModelProto) -> bool:
    """Whether somebody has chosen what is FP16 or BF16 in `model`: any of it is."""
    return bool(element_types(model) & {TensorProto.FLOAT16, TensorProto.BFLOAT16})


def element_types(model: onnx.ModelProto) -> set[int]:
    """The onnx.TensorProto.DataType of its weights, inputs and outputs, and of what it casts to."""
    types: set[int] = set()
    for graph in graphs(model.graph):
        types.update(tensor.data_type for tensor in graph.initializer)
        types.update(value.type.tensor_type.elem_type for value in (*graph.input, *graph.output))
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to":
                    types.add(attribute.i)
                if attribute.HasField("t"):
                    types.add(attribute.t.data_type)
    return types
