"""Q/DQ pairs written into a network.

What TensorRT asks of them: symmetric INT8 with zero point 0, scales that are constants, FP32 biases, and a
pair on weights as on activations (TensorRT developer guide, "Explicit Quantization"); it folds the weights'
itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from trtkit.calibrate.graph import Graph
from trtkit.calibrate.placement import Edge, Placement
from trtkit.calibrate.ranges import Range
from trtkit.onnx_graph import names_in

QMAX = 127
"""The range of INT8 is -127 to 127, so that it is symmetric."""

HALF_STEP = np.float32(2.0**-24)
HALF_NORMAL = np.float32(2.0**-14)
"""FP16's step below its smallest normal number, and that number (IEEE 754). Where the build computes the rest
in FP16, scales are FP16 too: a smaller one, such as of a channel that training has left without weights, is
rounded up to what FP16 can hold. TensorRT refuses a layer whose scales are of different types."""


def quantised(graph: Graph, placement: Placement, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """A copy of the network with a Q/DQ pair on every edge of `placement`.

    The same network, placement and ranges give the same bytes. Edges that read the same tensor share a pair.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    edges: dict[str, list[Edge]] = {}
    for edge in placement.edges:
        edges.setdefault(edge.node, []).append(edge)
    pairs: dict[tuple[str, int | None], str] = {}
    used = names_in(graph.model.graph)
    for node in nodes:
        for edge in edges.get(node.name, ()):
            key = edge.tensor, edge.axis
            if key not in pairs:
                pairs[key] = _add_pair(model, edge, _scale(graph, edge, ranges), used)
            node.input[edge.index] = pairs[key]
        model.graph.node.append(node)
    return model


def _scale(graph: Graph, edge: Edge, ranges: Mapping[str, Range]) -> NDArray[np.float32]:
    if not edge.constant:
        low, high = ranges[edge.tensor]
        peak = np.asarray(max(-low, high), np.float32)
    else:
        weight = np.abs(numpy_helper.to_array(graph.constants[edge.tensor]))
        others = tuple(axis for axis in range(weight.ndim) if axis != edge.axis)
        peak = weight.max() if edge.axis is None else weight.max(axis=others)
    # A scale must be above 0; what is 0 throughout is so in any.
    scale: NDArray[np.float32] = np.where(peak > 0, peak, 1).astype(np.float32) / np.float32(QMAX)
    kept = np.maximum(np.ceil(scale / HALF_STEP), 1) * HALF_STEP
    return np.where(scale < HALF_NORMAL, kept, scale).astype(np.float32)


def _add_pair(model: onnx.ModelProto, edge: Edge, scale: NDArray[np.float32], used: set[str]) -> str:
    """Append the pair, and its scale and zero point; the name of what the DQ gives.

    used: the network's names, which the new ones are none of, and are added to.
    """
    base = edge.tensor if edge.axis is None else f"{edge.tensor}_axis{edge.axis}"
    names = _names(base)
    while not used.isdisjoint(names.values()):
        names = _names(base := f"{base}_")
    used.update(names.values())
    zero = np.zeros(scale.shape, np.int8)
    model.graph.initializer.extend(
        [numpy_helper.from_array(scale, names["scale"]), numpy_helper.from_array(zero, names["zero_point"])]
    )
    model.graph.node.extend(
        [
            _node("QuantizeLinear", edge, edge.tensor, names, names["quantised"]),
            _node("DequantizeLinear", edge, names["quantised"], names, names["dequantised"]),
        ]
    )
    return names["dequantised"]


def _names(base: str) -> dict[str, str]:
    return {part: f"{base}_{part}" for part in ("scale", "zero_point", "quantised", "dequantised")}


def _node(kind: str, edge: Edge, tensor: str, names: dict[str, str], out: str) -> NodeProto:
    inputs = [tensor, names["scale"], names["zero_point"]]
    node = onnx.helper.make_node(kind, inputs, [out], name=f"{out}_{kind}")
    if edge.axis is not None:
        node.attribute.append(onnx.helper.make_attribute("axis", edge.axis))
    return node


def is_pair(node: NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")
