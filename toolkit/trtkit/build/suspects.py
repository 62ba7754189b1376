"""Which nodes of an ONNX file an error of TensorRT's builder is about.

The builder names a layer, a tensor, or nothing but the line of its own source that failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import onnx

from trtkit.onnx_graph import subgraphs

BRANCHING = ("If", "Loop", "Scan")

ABOUT_BRANCHES = ("graphScope.cpp", "IConditional")
"""What errors about subgraphs hold: TensorRT's source, or the class of a layer (TensorRT-RTX 1.7)."""

_WORD = re.compile(r"[^\s()\[\]{}'\",;]+")

MOST = 5
"""Nodes told."""

IF_RULE = "both branches must give shapes that broadcast"
"""Source: onnx-tensorrt, docs/operators.md, "If"."""


def suspects(model: onnx.ModelProto, errors: Iterable[str]) -> tuple[str, ...]:
    """The nodes of `model` that `errors` name, themselves or a tensor that they take, as "Gather 'name'".

    Where an error is about subgraphs, all nodes that have some. None where nothing is named; `MOST` at most.
    """
    text = "\n".join(errors)
    named = {word.rstrip(".:") for word in _WORD.findall(text)}
    # "input" and "network" are words too.
    named = {name for name in named if not name.isalpha()}
    found = [
        f"{node.op_type} {node.name or node.output[0]!r}"
        for node in model.graph.node
        if node.name in named or named.intersection(node.input)
    ]
    if not found and any(about in text for about in ABOUT_BRANCHES):
        found = list(_branching(model.graph))
    return tuple(found[:MOST])


def _branching(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.op_type in BRANCHING:
            yield f"{node.op_type} {node.name!r}" + (f": {IF_RULE}" if node.op_type == "If" else "")
        for inner in subgraphs(node):
            yield from _branching(inner)
