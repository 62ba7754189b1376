"""An FP32 graph as FP16 or BF16.

ONNX Runtime's converter does the FP16 graph; BF16 is the same graph with other types, its weights rounded
from FP32 anew. NVIDIA's nvidia-modelopt has a converter too, which needs CuPy and ONNX Runtime for GPUs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Literal

import networkx as nx
import numpy as np
import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper
from onnx.inliner import inline_local_functions

from trtkit.errors import WorkFailed
from trtkit.onnx_graph import graphs, outputs_of, with_value_types
from trtkit.precision.bfloat import retype_as_bfloat16
from trtkit.precision.graph import join_casts, lift_constants, sort_nodes
from trtkit.precision.held import QUANTISERS, is_converted

Half = Literal["fp16", "bf16"]

OVERFLOWING = frozenset({"Exp", "Pow", "ReduceL2", "ReduceLogSumExp", "ReduceSum", "ReduceSumSquare"})
"""Operators that leave the range of FP16 with ordinary inputs, and stay in FP32."""

FP32_ALONE = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeLSTM"})
"""Operators that are defined for float32 and nothing else (ONNX; ONNX Runtime's contributed operators)."""

CARRYING = frozenset({"Add", "ReduceMean", "Reciprocal", "Sqrt"})
"""Operators that stay in FP32 as well where all they take comes from such nodes: a layer normalisation,
written out, is Pow, ReduceMean, Add, Sqrt, Div, and only the root of the variance is small again."""

REFUSED: dict[Half, frozenset[str]] = {
    "fp16": frozenset({"Celu", "MeanVarianceNormalization"}),
    "bf16": frozenset({
        "Celu", "ConvTranspose", "GRU", "HardSwish", "LpNormalization", "MeanVarianceNormalization", "Mish",
        "Shrink",
    }),
}  # fmt: skip
"""Operators that TensorRT takes in FP32 and refuses in that type: tried one by one, TensorRT-RTX 1.7.1."""

NOT_FOR_TENSORRT = frozenset({"Max", "Min"})
"""Operators that ONNX Runtime's converter leaves in FP32 for want of its own kernels; TensorRT has them."""

REORDERING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators behind which the values are those of their first input."""

QDQ_OPSET = 19
"""From which opset on Q/DQ nodes take FP16 scales (ONNX operator changelog)."""

BFLOAT16_OPSET = 22
"""From which opset on convolutions and poolings take BF16 (ONNX operator changelog)."""


INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, EncodeError)
"""What ONNX's checker raises; the last two for more than it can look at."""


class ConversionFailed(WorkFailed):
    """A graph could not be written in another precision. to: which. reason: what was wrong with it."""

    def __init__(self, to: str, reason: str) -> None:
        self.to = to
        self.reason = reason
        super().__init__(
            f"the network cannot be converted to {to.upper()}",
            ("because", reason),
            ("next", f"export it in {to.upper()} (model.half(), model.bfloat16()), or build it as FP32"),
        )


def convert(
    model: onnx.ModelProto,
    to: Half,
    *,
    keep_io: bool = True,
    keep_fp32: Collection[str] = (),
    blocked: Collection[str] = (),
) -> onnx.ModelProto:
    """`model` with its float32 tensors as `to`. One that holds FP16 or BF16 already is given back as it is.

    Q/DQ nodes stay, with scales of the new type, so that TensorRT still sees Q/DQ next to the layer; those
    whose scales FP16 would spoil stay in FP32.

    Args:
        keep_io: float32 inputs and outputs stay float32, with casts behind and before them.
        keep_fp32: patterns of names of nodes that stay in FP32 ("*/head/*").
        blocked: names of nodes that stay in FP32; a node without a name is called after its first output.

    Raises:
        ConversionFailed: the result is not a valid model.
    """
    if is_converted(model):
        return model
    original = _prepared(model, to)
    stay = _stay(original, to, keep_fp32, blocked)
    converted = with_value_types(original)
    _to_float16(converted, keep_io, stay)
    if to == "bf16":
        retype_as_bfloat16(converted, original)
    _check(model, converted, to)
    return converted


def _prepared(model: onnx.ModelProto, to: str) -> onnx.ModelProto:
    """A copy: functions inlined, nodes named, constants as initializers, in an opset that has the types."""
    copy = onnx.ModelProto()
    copy.CopyFrom(inline_local_functions(model) if model.functions else model)
    copy = _upgraded(copy, to)
    lift_constants(copy.graph)
    for graph in graphs(copy.graph):
        for node in graph.node:
            node.name = node.name or next(filter(None, node.output))
    return copy


def _upgraded(model: onnx.ModelProto, to: str) -> onnx.ModelProto:
    quantised = any(node.op_type in QUANTISERS for node in model.graph.node)
    needed = BFLOAT16_OPSET if to == "bf16" else QDQ_OPSET if quantised else 0
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset >= needed:
        return model
    try:
        return onnx.version_converter.convert_version(model, needed)
    except (RuntimeError, *INVALID) as error:  # the first for an operator that it cannot convert
        raise ConversionFailed(
            to, f"opset {opset} has no {to.upper()} for all of it, and opset {needed} cannot be had: {error}"
        ) from error


def _stay(model: onnx.ModelProto, to: Half, patterns: Collection[str], blocked: Collection[str]) -> list[str]:
    """Names of the nodes that stay in FP32."""
    scales = {tensor.name: tensor for tensor in model.graph.initializer}
    spoilt = _spoilt_pairs(model.graph, scales)
    wide: set[str] = set()
    names = []
    for node in model.graph.node:
        stays = (
            node.name in blocked
            or node.op_type in REFUSED[to]
            or node.op_type in FP32_ALONE
            or (to == "fp16" and node.op_type in OVERFLOWING)
            or any(fnmatchcase(node.name, pattern) for pattern in patterns)
            or node.name in spoilt
        )
        carried = [name for name in node.input if name and name not in scales]
        if to == "fp16" and node.op_type in CARRYING and carried and wide.issuperset(carried):
            stays = True
        if stays:
            names.append(node.name)
            wide.update(node.output)
    return names


def _spoilt_pairs(graph: onnx.GraphProto, scales: Mapping[str, TensorProto]) -> set[str]:
    """Names of the Q/DQ nodes whose scales FP16 would spoil, and of those that a node takes beside them:
    TensorRT refuses a matrix product whose operands have scales of different types (TensorRT-RTX 1.7)."""
    makers = {name: node for node in graph.node for name in outputs_of(node)}
    together = nx.Graph()
    for node in graph.node:
        if node.op_type in QUANTISERS:
            together.add_node(node.name)
        fed = filter(None, (_quantiser_before(name, makers) for name in node.input))
        beside = [one.name for one in fed] + [node.name] * (node.op_type == "DequantizeLinear")
        nx.add_path(together, beside)
    own = {
        node.name for node in graph.node if node.op_type in QUANTISERS and _spoilt(scales.get(node.input[1]))
    }
    return {name for group in nx.connected_components(together) if group & own for name in group}


def _quantiser_before(name: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The Q/DQ node that gives `name`, though its values are put in another order on the way."""
    node = makers.get(name)
    while node is not None and node.op_type in REORDERING:
        node = makers.get(node.input[0])
    return node if node is not None and node.op_type in QUANTISERS else None


def _spoilt(scale: TensorProto | None) -> bool:
    """Whether FP16 moves a scale by more than half a step of INT8, against the largest of its tensor."""
    if scale is None or scale.data_type != TensorProto.FLOAT:
        return False
    values = numpy_helper.to_array(scale)
    error = np.abs(values.astype(np.float16).astype(np.float32) - values)
    return bool(error.max(initial=0) > np.abs(values).max(initial=0) / 256)


def _to_float16(model: onnx.ModelProto, keep_io: bool, stay: list[str]) -> None:
    """ONNX Runtime's conversion, in place, and in the order that ONNX asks of nodes."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    before = {node.name for node in model.graph.node}
    convert_float_to_float16(
        model,
        keep_io_types=keep_io,
        disable_shape_infer=True,
        op_block_list=sorted(set(DEFAULT_OP_BLOCK_LIST) - NOT_FOR_TENSORRT),
        node_block_list=stay,
    )
    join_casts(model.graph, {node.name for node in model.graph.node} - before)
    sort_nodes(model.graph)


def _check(model: onnx.ModelProto, converted: onnx.ModelProto, to: str) -> None:
    """What ONNX accepted before, types included, it must accept after. Plug-ins' operators it never accepts,
    nor more than 2 GiB: then it is TensorRT that looks."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except INVALID:
        return
    try:
        onnx.checker.check_model(converted, full_check=True)
    except INVALID as error:
        raise ConversionFailed(to, str(error).strip().splitlines()[0]) from error
