"""Which tensor of one ONNX graph is which of another, when the one was converted from the other.

Conversions to FP16 or Q/DQ keep most names, add nodes that change the type but not the value, and rename a
few tensors. So a tensor's partner is the one of its name; or its input's, behind a node that keeps the value;
or the output of the node of the same name; or of the one node of the same kind fed with the same tensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

import onnx

from trtkit.onnx_graph import in_order, outputs_of

KEEPS_VALUE = frozenset({"Cast", "Identity", "QuantizeLinear", "DequantizeLinear"})
"""Operators whose output stands for the same number as their first input, in another type."""

SUFFIXES = ("_quantized", "_QuantizeLinear_Input", "_cast_to_fp16", "_cast_to_bf16")
"""What converters append to the name of a tensor that they replace: onnxruntime.quantization (the first two),
modelopt.onnx.autocast."""


def align(subject: onnx.GraphProto, reference: onnx.GraphProto) -> dict[str, str]:
    """The subject's tensors, weights included -> the reference's; those without a partner are not in it."""
    known = {one.name for one in [*reference.input, *reference.initializer]}
    known.update(name for node in reference.node for name in outputs_of(node))
    partners: dict[str, str] = {}
    for one in [*subject.input, *subject.initializer]:
        name = _named(one.name, known)
        if name is not None:
            partners[one.name] = name

    by_name: dict[tuple[str, str], onnx.NodeProto] = {
        (node.op_type, node.name): node for node in reference.node if node.name
    }
    weights = {one.name for one in reference.initializer}
    by_feed: dict[tuple[str, tuple[str, ...]], list[onnx.NodeProto]] = defaultdict(list)
    for node in reference.node:
        by_feed[node.op_type, _activations(node.input, weights)].append(node)

    for node in in_order(subject):
        fed = [partners.get(name) for name in node.input]
        twin = by_name.get((node.op_type, node.name)) or _twin_by_feed(node, fed, by_feed, weights)
        for index, name in enumerate(node.output):
            named = _named(name, known)
            if named is not None:
                partners[name] = named
            elif node.op_type in KEEPS_VALUE and fed and fed[0] is not None:
                partners[name] = fed[0]
            elif twin is not None and index < len(twin.output) and name and twin.output[index]:
                partners[name] = twin.output[index]
    return partners


def _named(name: str, known: Set[str]) -> str | None:
    candidates = (name, *(name.removesuffix(suffix) for suffix in SUFFIXES))
    return next((one for one in candidates if one and one in known), None)


def _twin_by_feed(
    node: onnx.NodeProto,
    fed: Sequence[str | None],
    by_feed: dict[tuple[str, tuple[str, ...]], list[onnx.NodeProto]],
    weights: set[str],
) -> onnx.NodeProto | None:
    feed = _activations([name for name in fed if name is not None], weights)
    twins = by_feed.get((node.op_type, feed), []) if feed else []
    return twins[0] if len(twins) == 1 else None


def _activations(names: Sequence[str], weights: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name and name not in weights)
