"""Nodes whose values leave the range of FP16: found by running the network in FP32."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from trtkit.errors import TrtkitError
from trtkit.onnx_graph import with_value_types

MASK = -1e8
"""Values from here down are a mask's minus infinity, for which FP16's least does as well."""

LIMIT = float(np.finfo(np.float16).max) / 4
"""How large a value may be. Real inputs give larger ones than random inputs do: hence the margin."""


LARGE = 1 << 20
"""Bytes from which on a weight goes to the second file."""


@dataclass(frozen=True)
class Overflow:
    """nodes: names of those with a weight, an input or an output beyond the limit. unseen: why the network
    could not be run, so that only weights were looked at; "" where it was."""

    nodes: frozenset[str]
    unseen: str = ""


def overflowing_nodes(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], limit: float = LIMIT
) -> Overflow:
    """Run `model` on the CPU, with standard normal inputs of `shapes`, and look at every tensor.

    Nodes without a name are called what `trtkit.precision.convert` calls them: after their first output.
    """
    large = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and _largest(numpy_helper.to_array(tensor)) > limit
    }
    seen, unseen = _large_values(model, shapes, limit)
    large |= seen
    return Overflow(
        frozenset(
            node.name or node.output[0]
            for node in model.graph.node
            if large.intersection(node.input) or large.intersection(node.output)
        ),
        unseen,
    )


def _large_values(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], limit: float
) -> tuple[set[str], str]:
    open_model = with_value_types(model)
    graph = open_model.graph
    outputs = {value.name for value in graph.output}
    inner = {name for node in graph.node for name in node.output}
    for value in list(graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name in inner - outputs:
            graph.output.add().CopyFrom(value)
    try:
        values = _run(open_model, shapes)
    except TrtkitError as error:
        return set(), error.fact("because") or error.problem
    return {
        name for name, value in values.items() if value.dtype == np.float32 and _largest(value) > limit
    }, ""


def _run(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """All outputs of `model`, whose weights move to a file: in one piece, they could be too much."""
    from trtkit.runners import random_feeds
    from trtkit.runners.onnxruntime import OnnxRuntimeRunner

    with tempfile.TemporaryDirectory(prefix="trtkit-overflow-") as scratch:
        path = Path(scratch, "network.onnx")
        onnx.save(model, str(path), save_as_external_data=True, location="weights", size_threshold=LARGE)
        runner = OnnxRuntimeRunner(path, optimise=False)
        try:
            return runner.run(random_feeds(runner.inputs, shapes))
        finally:
            runner.close()


def _largest(values: NDArray[Any]) -> float:
    """The largest magnitude, but of masks and of infinities, which FP16 has as well; 0 of nothing."""
    ordinary = values[np.isfinite(values) & (values > MASK)]
    return float(np.abs(ordinary).max(initial=0))
