"""Small rewrites of an ONNX graph that a conversion needs before and after."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from trtkit.onnx_graph import in_order, inputs_of, subgraphs


def lift_constants(graph: onnx.GraphProto) -> None:
    """Make initializers of Constant nodes, in place: a converter knows not all spellings of those."""
    kept = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" else None
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.add().CopyFrom(tensor)
    if len(kept) < len(graph.node):
        replace_nodes(graph, kept)
    for node in graph.node:
        for inner in subgraphs(node):
            lift_constants(inner)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        return tensor
    types = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in types:
        return None
    return numpy_helper.from_array(np.array(value, types[attribute.name]), node.output[0])


def join_casts(graph: onnx.GraphProto, casts: Iterable[str]) -> None:
    """Where two nodes that stayed in FP32 follow each other, take out the two casts between them, in place.

    A value that is beyond FP16 would be lost between them, which is what they stayed in FP32 for.

    Args:
        casts: names of the Cast nodes that the conversion put in.
    """
    ours = set(casts)
    narrowed = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.name in ours and _cast_to(node) != TensorProto.FLOAT
    }
    wide: dict[str, str] = {
        node.output[0]: narrowed[node.input[0]]
        for node in graph.node
        if node.name in ours and _cast_to(node) == TensorProto.FLOAT and node.input[0] in narrowed
    }
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in wide:
            continue
        for index, name in enumerate(node.input):
            if name in wide:
                node.input[index] = wide[name]
    kept = list(graph.node)
    while True:
        used = {name for node in kept for name in inputs_of(node)} | outputs
        left = [node for node in kept if node.name not in ours or node.output[0] in used]
        if len(left) == len(kept):
            break
        kept = left
    replace_nodes(graph, kept)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it takes, as ONNX asks, in place."""
    replace_nodes(graph, in_order(graph))


def replace_nodes(graph: onnx.GraphProto, kept: Iterable[onnx.NodeProto]) -> None:
    """Give `graph` these nodes, in place."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _cast_to(node: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")
