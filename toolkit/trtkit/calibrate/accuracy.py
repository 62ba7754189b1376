"""INT8 against FP32, in ONNX Runtime: the outputs of the network, and what each quantised node loses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trtkit.calibrate.graph import Graph
from trtkit.calibrate.placement import Placement
from trtkit.calibrate.qdq import is_pair
from trtkit.calibrate.report import LayerLoss, OutputAccuracy
from trtkit.calibrate.samples import Batch
from trtkit.runners.onnxruntime import OnnxRuntimeRunner

IDENTICAL_DB = 200.0
"""What the ratio is said to be where there is no noise at all; float32 itself has about 150."""

WORST = 10


def compare_outputs(
    graph: Graph, int8: onnx.ModelProto, batches: Iterable[Batch]
) -> tuple[tuple[OutputAccuracy, ...], int]:
    """How near every output of `int8` is to FP32's, and on how many samples that was seen."""
    # Not optimised: ONNX Runtime would compute in INT8 as this CPU does, and that may saturate.
    fp32 = OnnxRuntimeRunner(graph.model.SerializeToString())
    quantised = OnnxRuntimeRunner(int8.SerializeToString(), optimise=False)
    tallies = {spec.name: _Tally() for spec in graph.outputs}
    samples = 0
    for feeds, rows in batches:
        samples += rows
        expected, got = fp32.run(feeds), quantised.run(feeds)
        for name, tally in tallies.items():
            tally.add(expected[name][:rows], got[name][:rows])
    return tuple(tally.accuracy(name) for name, tally in tallies.items() if tally.values), samples


def layer_losses(
    graph: Graph, int8: onnx.ModelProto, placement: Placement, batches: Iterable[Batch]
) -> tuple[LayerLoss, ...]:
    """What each quantised node loses, the worst first.

    Every such node runs twice on what FP32 gives: as it is, and with its Q/DQ pairs. Only sums leave the
    network, so no activation is kept.
    """
    runner = OnnxRuntimeRunner(_shadowed(graph, int8, placement).SerializeToString(), optimise=False)
    signal = dict.fromkeys(placement.nodes, 0.0)
    noise = dict.fromkeys(placement.nodes, 0.0)
    for feeds, _ in batches:
        sums = runner.run(feeds)
        for node in placement.nodes:
            signal[node] += float(sums[_signal(node)])
            noise[node] += float(sums[_noise(node)])
    kinds = {node.name: node.op_type for node in graph.model.graph.node}
    losses = [
        LayerLoss(node=n, op_type=kinds[n], sqnr_db=decibels(signal[n], noise[n])) for n in placement.nodes
    ]
    return tuple(sorted(losses, key=lambda loss: loss.sqnr_db)[:WORST])


def decibels(signal: float, noise: float) -> float:
    """The ratio of two sums of squares; nothing against nothing is identical."""
    if not noise:
        return IDENTICAL_DB
    return max(-IDENTICAL_DB, min(IDENTICAL_DB, 10 * math.log10(max(signal, 1e-30) / noise)))


class _Tally:
    """Sums over all rows of one output, from which its accuracy follows."""

    def __init__(self) -> None:
        self.values = 0
        self._rows = self._agreeing = 0
        self._product = self._expected = self._got = self._noise = self._largest = 0.0

    def add(self, expected: NDArray[Any], got: NDArray[Any]) -> None:
        if expected.shape != got.shape or not expected.size:
            return  # as many detections as each finds: nothing to compare value by value
        self.values += expected.size
        if expected.ndim == 2 and expected.shape[1] > 1:
            self._rows += len(expected)
            self._agreeing += int((expected.argmax(1) == got.argmax(1)).sum())
        a, b = (array.astype(np.float64).reshape(-1) for array in (expected, got))
        self._product += float(a @ b)
        self._expected += float(a @ a)
        self._got += float(b @ b)
        difference = a - b
        self._noise += float(difference @ difference)
        self._largest = max(self._largest, float(np.abs(difference).max()))

    def accuracy(self, name: str) -> OutputAccuracy:
        norms = math.sqrt(self._expected * self._got)
        return OutputAccuracy(
            name=name,
            top1_agreement=self._agreeing / self._rows if self._rows else None,
            cosine=self._product / norms if norms else float(self._expected == self._got),
            sqnr_db=decibels(self._expected, self._noise),
            max_abs=self._largest,
        )


def _shadowed(graph: Graph, int8: onnx.ModelProto, placement: Placement) -> onnx.ModelProto:
    """FP32 with a quantised twin beside each quantised node, and the two sums of each as its outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    float_nodes = {node.name: node for node in graph.model.graph.node}
    quantised = set(placement.nodes)
    del model.graph.node[:], model.graph.output[:]
    for node in int8.graph.node:
        if is_pair(node):
            model.graph.node.append(node)
            continue
        plain = float_nodes[node.name]
        model.graph.node.append(plain)
        if node.name in quantised:
            model.graph.node.extend(_twin(node, plain.output[0]))
            for name in (_signal(node.name), _noise(node.name)):
                model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    return model


def _twin(node: onnx.NodeProto, expected: str) -> list[onnx.NodeProto]:
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, got = f"{node.name} in INT8", f"{node.output[0]} in INT8"
    del twin.output[:]
    twin.output.append(got)
    difference = f"{got} less FP32"
    return [
        twin,
        helper.make_node("Sub", [got, expected], [difference], name=difference),
        helper.make_node(
            "ReduceSumSquare", [expected], [_signal(node.name)], keepdims=0, name=_signal(node.name)
        ),
        helper.make_node(
            "ReduceSumSquare", [difference], [_noise(node.name)], keepdims=0, name=_noise(node.name)
        ),
    ]


def _signal(node: str) -> str:
    return f"signal of {node}"


def _noise(node: str) -> str:
    return f"noise of {node}"
