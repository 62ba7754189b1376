"""The ranges of activations: the network runs on every sample, and what flows through it is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from trtkit.calibrate.graph import Graph
from trtkit.calibrate.histogram import Histogram
from trtkit.calibrate.options import Method
from trtkit.calibrate.samples import Batch
from trtkit.errors import WorkFailed
from trtkit.runners.onnxruntime import OnnxRuntimeRunner

Range = tuple[float, float]
"""The smallest and largest value that a tensor's INT8 must tell apart; float32 values."""


def measure_ranges(
    graph: Graph, tensors: tuple[str, ...], batches: Iterable[Batch], method: Method, percentile: float
) -> tuple[dict[str, Range], int]:
    """The range of each of `tensors` over `batches`, and how many samples these were.

    One batch's activations are in memory at a time.

    Raises:
        WorkFailed: the network cannot be run, or gives NaN or infinite values.
    """
    runner = OnnxRuntimeRunner(with_outputs(graph.model, tensors).SerializeToString())
    histograms = {tensor: Histogram() for tensor in tensors}
    samples = 0
    for feeds, rows in batches:
        samples += rows
        values: Mapping[str, NDArray[Any]] = {**runner.run(feeds), **feeds}
        for tensor, histogram in histograms.items():
            _count(values[tensor], tensor, histogram)
    runner.close()
    ranges = {tensor: _range(histogram, method, percentile) for tensor, histogram in histograms.items()}
    return ranges, samples


def _count(values: NDArray[Any], tensor: str, histogram: Histogram) -> None:
    try:
        histogram.add(values)
    except ValueError as error:
        raise WorkFailed(
            f"the network gives NaN or infinite values in the tensor {tensor!r}",
            ("because", "it does so in FP32 already: its weights are damaged, or not made for this input"),
            ("next", "compare it with PyTorch: trtkit verify"),
        ) from error


def _range(histogram: Histogram, method: Method, percentile: float) -> Range:
    if method == "minmax" or not histogram.limit:
        found = histogram.minmax()
    elif method == "percentile":
        found = histogram.percentile(percentile)
    else:
        found = histogram.entropy()
    low, high = (float(np.float32(end)) for end in found)
    return low, high


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of `model` that gives these float tensors as outputs too. Its inputs are left out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in (*copy.graph.output, *copy.graph.input)}
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None)
        for tensor in tensors
        if tensor not in known
    )
    return copy
