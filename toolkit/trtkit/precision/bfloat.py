"""A graph that was converted to FP16, as BF16."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from trtkit.onnx_graph import graphs

LARGEST = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)  # type: ignore[no-untyped-call]


def retype_as_bfloat16(converted: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Make BF16 of what is FP16 in `converted`, in place; values come from `original`, which was all FP32.

    FP16 keeps 10 bits of the fraction and a narrow range, BF16 keeps 7 and FP32's range: to round twice would
    lose both.
    """
    before = list(graphs(original.graph))
    weights = {tensor.name: tensor for graph in before for tensor in graph.initializer}
    attributes = {
        (node.name, attribute.name): attribute.t
        for graph in before
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("t")
    }
    for graph in graphs(converted.graph):
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                tensor.CopyFrom(_rounded(weights[tensor.name]))
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.BFLOAT16
                if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
                    attribute.t.CopyFrom(_rounded(attributes.get((node.name, attribute.name), attribute.t)))
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.BFLOAT16


def _rounded(tensor: TensorProto) -> TensorProto:
    """To the nearest BF16; what is finite stays finite."""
    values = numpy_helper.to_array(tensor).astype(np.float32)
    finite = np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), values)
    return numpy_helper.from_array(finite.astype(ml_dtypes.bfloat16), tensor.name)
