"""Small rewrites of an ONNX graph that a conversion needs before and after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

SHAPE_LIKE = 1024
"""Elements of the largest tensor whose values may matter to shapes: a target of Reshape, axes, scales."""


def with_value_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every tensor has a type, as far as ONNX can infer it.

    Inference works on a copy without large weights, so that it works above protobuf's 2 GiB too.
    """
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if np.prod(tensor.dims) > SHAPE_LIKE:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    inferred = onnx.shape_inference.infer_shapes(light)
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    del typed.graph.value_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}  # those have a type of their own
    typed.graph.value_info.extend(value for value in inferred.graph.value_info if value.name not in weights)
    return typed


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
        node.output[0]: node.input[0] for node in graph.node if node.name in ours and _cast_to(node) != 1
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
        used = {name for node in kept for name in taken(node)} | outputs
        left = [node for node in kept if node.name not in ours or node.output[0] in used]
        if len(left) == len(kept):
            break
        kept = left
    replace_nodes(graph, kept)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it takes, as ONNX asks, in place; else they stay in order."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    before = [{maker[name] for name in taken(node) if name in maker} for node in graph.node]
    order: dict[int, None] = {}
    for index in range(len(before)):
        waiting = [index]
        while waiting:
            missing = sorted(before[waiting[-1]] - order.keys(), reverse=True)
            waiting.extend(missing)
            if not missing:
                order[waiting.pop()] = None
    replace_nodes(graph, [graph.node[index] for index in order])


def taken(node: onnx.NodeProto) -> set[str]:
    """The tensors that `node` takes; those that its subgraphs take from around it too (If, Loop, Scan)."""
    names = set(node.input)
    for inner in subgraphs(node):
        names.update(value.name for value in inner.output)
        for one in inner.node:
            names |= taken(one)
    return names


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs of If, Loop and Scan; none of other nodes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and all graphs in it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def replace_nodes(graph: onnx.GraphProto, kept: Iterable[onnx.NodeProto]) -> None:
    """Give `graph` these nodes, in place."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)


def _cast_to(node: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")
