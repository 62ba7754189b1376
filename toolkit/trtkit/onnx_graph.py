"""An ONNX graph as its readers need it: nodes in order, what makes a tensor, and tensors' types and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import networkx as nx
import onnx

from trtkit.tensors import Shape, TensorSpec

_SHAPE_BYTES = 1024
"""A weight beyond this is no shape, and inference needs no more of it than its type."""


def outputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors it makes; an optional one that it leaves out has no name."""
    return (name for name in node.output if name)


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes so that each comes after those it is fed by; as written, where that leaves a choice.

    Converters append nodes at the end, whatever ONNX says of the order.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in outputs_of(node)}
    order = nx.DiGraph()
    order.add_nodes_from(range(len(graph.node)))
    order.add_edges_from(
        (makers[name], index)
        for index, node in enumerate(graph.node)
        for name in node.input
        if name in makers
    )
    return [graph.node[index] for index in nx.lexicographical_topological_sort(order)]


def tensor_specs(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> dict[str, TensorSpec | None]:
    """Every tensor that the inputs and nodes make, for inputs of these `shapes`.

    None where inference cannot tell its rank or type. What is no tensor (a sequence, say) is left out.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for weight in fixed.graph.initializer:
        if len(weight.raw_data) > _SHAPE_BYTES:
            weight.ClearField("raw_data")
    del fixed.graph.value_info[:]
    for one in fixed.graph.input:
        if one.name in shapes:
            del one.type.tensor_type.shape.dim[:]
            for size in shapes[one.name]:
                one.type.tensor_type.shape.dim.add().dim_value = size
    for one in fixed.graph.output:
        one.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    types = {one.name: one.type for one in [*inferred.input, *inferred.value_info, *inferred.output]}
    made = [name for node in model.graph.node for name in outputs_of(node)]
    names = [*(one.name for one in model.graph.input), *made]
    return {name: _spec(name, types.get(name)) for name in names if _may_be_tensor(types.get(name))}


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


def _may_be_tensor(kind: onnx.TypeProto | None) -> bool:
    return kind is None or not kind.WhichOneof("value") or kind.HasField("tensor_type")


def _spec(name: str, kind: onnx.TypeProto | None) -> TensorSpec | None:
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    if kind.tensor_type.elem_type == onnx.TensorProto.UNDEFINED:
        return None
    dtype = _dtype(kind.tensor_type.elem_type)
    sizes = kind.tensor_type.shape.dim
    return TensorSpec(name, dtype, tuple(one.dim_value if one.HasField("dim_value") else -1 for one in sizes))
