"""Where Q/DQ pairs go: on the inputs of the nodes that TensorRT computes in INT8.

Source: TensorRT developer guide, "Explicit Quantization", "Q/DQ Placement Recommendations": quantise the
inputs of weighted operations, not their outputs; weights per channel; the residual input of a skip
connection, so that the addition fuses with the convolution; not what fuses into a convolution (bias, batch
norm, activation). Max pooling needs no pair of its own: TensorRT moves the Q of the convolution after it to
before it.

A pair belongs to an edge, a node's one input, and not to a tensor: another node that reads the same tensor,
and stays in FP16, reads it unquantised. onnxruntime.quantization's QDQQuantizer marks tensors, and cannot
do so.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnx import NodeProto

from trtkit.calibrate.graph import Graph
from trtkit.errors import RequestError


@dataclass(frozen=True)
class Edge:
    """Input `index` of the node called `node`, which reads `tensor`.

    constant: the tensor is a weight. axis: of its channels, None where one scale serves all of it.
    """

    node: str
    index: int
    tensor: str
    constant: bool = False
    axis: int | None = None


@dataclass(frozen=True)
class Placement:
    """The edges that get Q/DQ pairs, in the network's order. kept: nodes left alone because of a pattern."""

    edges: tuple[Edge, ...]
    kept: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that are quantised."""
        return tuple(dict.fromkeys(edge.node for edge in self.edges))

    @property
    def activations(self) -> tuple[str, ...]:
        """The tensors whose ranges are to be measured."""
        return tuple(dict.fromkeys(edge.tensor for edge in self.edges if not edge.constant))


def place(graph: Graph) -> Placement:
    """All the edges that can be quantised."""
    nodes = graph.model.graph.node
    readers = Counter(tensor for node in nodes for tensor in node.input)
    readers.update(output.name for output in graph.model.graph.output)
    producers = {tensor: node for node in nodes for tensor in node.output}
    return Placement(tuple(edge for node in nodes for edge in _edges(node, graph, producers, readers)))


def keep(placement: Placement, graph: Graph, patterns: tuple[str, ...]) -> Placement:
    """`placement` without the nodes that a pattern names.

    Raises:
        RequestError: a pattern names no node that would be quantised.
    """
    quantised = set(placement.nodes)
    names = {node.name: _names(node) for node in graph.model.graph.node}
    kept: set[str] = set()
    for pattern in patterns:
        matching = {node for node, known in names.items() if any(_matches(one, pattern) for one in known)}
        if not matching & quantised:
            raise _matches_nothing(pattern, sorted(matching), {n: names[n] for n in placement.nodes})
        kept |= matching & quantised
    return Placement(
        tuple(edge for edge in placement.edges if edge.node not in kept),
        tuple(node for node in placement.nodes if node in kept),
    )


def _edges(
    node: NodeProto, graph: Graph, producers: dict[str, NodeProto], readers: Counter[str]
) -> tuple[Edge, ...]:
    if node.domain not in ("", "ai.onnx") or not all(map(graph.is_float, node.input[:2])):
        return ()
    if node.op_type in ("AveragePool", "GlobalAveragePool"):
        return _activations(node, graph, 0)
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        weight = node.input[1]
        if weight not in graph.constants or _attribute(node, "transA", 0):
            return ()
        edge = Edge(node.name, 1, weight, constant=True, axis=_channels(node))
        return (*_activations(node, graph, 0), edge)
    if node.op_type == "MatMul":
        return tuple(
            Edge(node.name, index, tensor, constant=True, axis=_matmul_channels(graph, index, tensor))
            if tensor in graph.constants
            else Edge(node.name, index, tensor)
            for index, tensor in enumerate(node.input)
        )
    if node.op_type == "Add":
        return _residual(node, graph, producers, readers)
    return ()


def _activations(node: NodeProto, graph: Graph, index: int) -> tuple[Edge, ...]:
    tensor = node.input[index]
    return () if tensor in graph.constants else (Edge(node.name, index, tensor),)


def _channels(node: NodeProto) -> int | None:
    """The axis of output channels of a weight."""
    if node.op_type == "Gemm":
        return 0 if _attribute(node, "transB", 0) else 1
    if node.op_type == "ConvTranspose":
        # Its weight is (in, out / groups, ...): with groups, no axis is that of the output channels.
        return 1 if _attribute(node, "group", 1) == 1 else None
    return 0


def _matmul_channels(graph: Graph, index: int, tensor: str) -> int | None:
    return 1 if index == 1 and len(graph.constants[tensor].dims) == 2 else None


def _residual(
    node: NodeProto, graph: Graph, producers: dict[str, NodeProto], readers: Counter[str]
) -> tuple[Edge, ...]:
    """The skip input of an addition that fuses with the convolution on its other side."""
    if len(set(node.input)) < 2 or any(tensor in graph.constants for tensor in node.input):
        return ()
    fused = [
        index
        for index, tensor in enumerate(node.input)
        if tensor in producers and producers[tensor].op_type == "Conv" and readers[tensor] == 1
    ]
    return (Edge(node.name, 1 - fused[0], node.input[1 - fused[0]]),) if fused else ()


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # names may hold brackets


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(one.i) for one in node.attribute if one.name == name), default)


def _names(node: NodeProto) -> tuple[str, ...]:
    """What a person may call a node."""
    return tuple(one for one in (node.name, *node.output, node.op_type, *_modules(node)) if one)


def _modules(node: NodeProto) -> list[str]:
    """The PyTorch modules it came from, outermost first; torch.onnx's exporter writes them."""
    text = next((one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"), "[]")
    try:
        return [str(one) for one in ast.literal_eval(text)]
    except (ValueError, SyntaxError):
        return []


def _matches_nothing(pattern: str, others: list[str], names: dict[str, tuple[str, ...]]) -> RequestError:
    known = sorted({one for several in names.values() for one in several})
    near = difflib.get_close_matches(pattern, known, n=5, cutoff=0.4) or list(names)[:5]
    because = (
        f"it names only nodes that are not quantised anyway: {', '.join(others[:5])}"
        if others
        else "no node, output, type or PyTorch module is called that"
    )
    return RequestError(
        f"--keep-fp16 {pattern!r} keeps nothing",
        ("because", because),
        ("near", ", ".join(near) or "none: nothing of this network can be quantised"),
        ("next", "use one of these, or a pattern such as '*head*'"),
    )
