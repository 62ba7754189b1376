"""An ONNX graph as its readers need it: from its file, nodes in order, tensors' types and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from trtkit.errors import RequestError
from trtkit.tensors import Shape, TensorSpec

_SHAPE_ELEMENTS = 1024
"""Of the largest weight whose values may matter to shapes: a target of Reshape, axes, scales."""


def load_onnx(path: Path) -> onnx.ModelProto:
    """The model in `path`, without the weights that it keeps in other files.

    The file may be called anything: onnx.load would take one called .json or .txt for another format.

    Raises:
        RequestError: there is no such file, or it is not an ONNX model.
    """
    if not path.is_file():
        raise RequestError(f"there is no ONNX file {path}", ("next", "name one, or make one: trtkit export"))
    try:
        return onnx.load(str(path), "protobuf", load_external_data=False)
    except DecodeError as error:
        raise RequestError(
            f"{path.name} is not an ONNX file, or a damaged one",
            ("because", str(error)),
            ("next", "export it again (trtkit export), or copy the whole file"),
        ) from error


def outputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors it makes; an optional one that it leaves out has no name."""
    return (name for name in node.output if name)


def inputs_of(node: onnx.NodeProto) -> set[str]:
    """The tensors it takes; those that its subgraphs capture from around it too (If, Loop, Scan)."""
    names = {name for name in node.input if name}
    for inner in subgraphs(node):
        names |= _captured(inner)
    return names


def _captured(graph: onnx.GraphProto) -> set[str]:
    own = {one.name for one in (*graph.input, *graph.initializer)}
    own.update(name for node in graph.node for name in outputs_of(node))
    used = {one.name for one in graph.output}.union(*map(inputs_of, graph.node))
    return used - own


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


def names_in(graph: onnx.GraphProto) -> set[str]:
    """The names of all tensors and nodes, those of subgraphs too."""
    names: set[str] = set()
    for one in graphs(graph):
        names.update(value.name for value in (*one.input, *one.output, *one.value_info, *one.initializer))
        for node in one.node:
            names.update((node.name, *node.input, *node.output))
    return names


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes so that each comes after those it is fed by; as written, where that leaves a choice.

    Converters append nodes at the end, whatever ONNX says of the order.

    Raises:
        RequestError: nodes are fed by each other, in a circle.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in outputs_of(node)}
    order = nx.DiGraph()
    order.add_nodes_from(range(len(graph.node)))
    order.add_edges_from(
        (makers[name], index)
        for index, node in enumerate(graph.node)
        for name in inputs_of(node)
        if name in makers
    )
    try:
        return [graph.node[index] for index in nx.lexicographical_topological_sort(order)]
    except nx.NetworkXUnfeasible:
        circle = [graph.node[edge[0]] for edge in nx.find_cycle(order)]
        raise RequestError(
            "the network feeds itself",
            ("because", " -> ".join(node.name or node.op_type for node in (*circle, circle[0]))),
            ("next", "export it again: trtkit export"),
        ) from None


def value_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """An input or output as the file tells it; a type it does not tell is float32, a shape is a scalar's."""
    tensor = value.type.tensor_type
    untold = tensor.elem_type == onnx.TensorProto.UNDEFINED
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
    return TensorSpec(value.name, "float32" if untold else _dtype(tensor.elem_type), shape)


def with_value_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every tensor has a type, as far as ONNX can infer it."""
    inferred = _inferred(_light(model))
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    del typed.graph.value_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}  # those have a type of their own
    typed.graph.value_info.extend(value for value in inferred.value_info if value.name not in weights)
    return typed


def tensor_specs(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, TensorSpec | None]:
    """Every tensor that the inputs and nodes make, for inputs of these `shapes`.

    None where inference cannot tell its rank or type. What is no tensor (a sequence, say) is left out.
    """
    fixed = _light(model)
    del fixed.graph.value_info[:]
    for one in fixed.graph.input:
        if one.name in shapes:
            del one.type.tensor_type.shape.dim[:]
            for size in shapes[one.name]:
                one.type.tensor_type.shape.dim.add().dim_value = size
    for one in fixed.graph.output:
        one.type.tensor_type.ClearField("shape")
    inferred = _inferred(fixed)
    values = {one.name: one for one in [*inferred.input, *inferred.value_info, *inferred.output]}
    made = [name for node in model.graph.node for name in outputs_of(node)]
    names = [*(one.name for one in model.graph.input), *made]
    return {name: _known(values.get(name)) for name in names if _may_be_tensor(values.get(name))}


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the values of large weights: inference needs their types alone, and could not take more
    than protobuf's 2 GiB."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if math.prod(tensor.dims) > _SHAPE_ELEMENTS:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data"):
                tensor.ClearField(field)
    return light


def _inferred(light: onnx.ModelProto) -> onnx.GraphProto:
    return onnx.shape_inference.infer_shapes(light, data_prop=True).graph


def spec_bytes(spec: TensorSpec | None) -> int | None:
    """The size of its values; None where a dimension is not known."""
    if spec is None or spec.dynamic:
        return None
    return math.prod(spec.shape) * _ITEM_BYTES[spec.dtype]


def weight_bytes(weight: onnx.TensorProto) -> int:
    """The size of its values in memory."""
    return int(math.prod(weight.dims)) * _ITEM_BYTES[_dtype(weight.data_type)]


def _dtype(element: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(element).name)


_ITEM_BYTES = {
    _dtype(element): int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)
    for element in onnx.TensorProto.DataType.values()
    if element != onnx.TensorProto.UNDEFINED
}
"""By numpy's (or ml_dtypes') name of the type."""


def _may_be_tensor(value: onnx.ValueInfoProto | None) -> bool:
    return value is None or not value.type.WhichOneof("value") or value.type.HasField("tensor_type")


def _known(value: onnx.ValueInfoProto | None) -> TensorSpec | None:
    if value is None or not value.type.tensor_type.HasField("shape"):
        return None
    return value_spec(value) if value.type.tensor_type.elem_type != onnx.TensorProto.UNDEFINED else None
