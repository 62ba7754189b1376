"""ONNX into a TensorRT network, with every reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from trtkit.build.log import BuildLog
from trtkit.devices import NO_GPU
from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.flavour import TensorRT
from trtkit.onnx_graph import load_onnx
from trtkit.tensors import TensorSpec
from trtkit.trt_api import DTYPES


@dataclass(frozen=True)
class UnsupportedNode:
    """A node that TensorRT's parser refuses. name: as the ONNX file has it, or what it computes where it has
    none. reason: the parser's words."""

    name: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} {self.name!r}: {self.reason}" if self.operator else self.reason


class UnsupportedByTensorRT(WorkFailed):
    """TensorRT cannot take the network. nodes: all that it refuses, in the order of the ONNX file."""

    def __init__(self, onnx_name: str, tensorrt: TensorRT, nodes: tuple[UnsupportedNode, ...]) -> None:
        self.nodes = nodes
        operators = ", ".join(sorted({node.operator for node in nodes if node.operator})) or "the file"
        super().__init__(
            f"{tensorrt} cannot take {operators} of {onnx_name}",
            *(("node", str(node)) for node in nodes),
            ("next", "export with another opset, write it with other operators, or bring a plug-in for it"),
        )


@dataclass(frozen=True)
class Network:
    """A parsed network. builder, network, parser: TensorRT's objects; they need `logger` while they live."""

    logger: Any
    builder: Any
    network: Any
    parser: Any

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(_spec(self.network.get_input(index)) for index in range(self.network.num_inputs))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(_spec(self.network.get_output(index)) for index in range(self.network.num_outputs))


def parse_network(path: Path, shown: str, tensorrt: TensorRT, log: BuildLog) -> Network:
    """Parse the ONNX file `path`, which errors call `shown`.

    Raises:
        UnsupportedByTensorRT: the parser refuses it.
        EnvironmentLack: TensorRT cannot make a builder here: it needs a GPU.
    """
    trt = tensorrt.module
    logger = log.logger(trt)
    trt.init_libnvinfer_plugins(logger, "")
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # pybind11's, where the factory gives none
        raise EnvironmentLack(
            f"{tensorrt} builds on a machine with a GPU only: {NO_GPU}",
            *(("because", message) for message in log.errors[-1:]),
            ("next", "build on the GPU that will run it (docker run --gpus all)"),
        ) from error
    network = builder.create_network(_creation_flags(tensorrt))
    parser = trt.OnnxParser(network, logger)
    model = load_onnx(path)
    _forget_unnamed(model.graph)
    if not parser.parse(model.SerializeToString(), str(path)):
        errors = map(parser.get_error, range(parser.num_errors))
        refused = tuple(_refused(error, model.graph.node, log) for error in errors)
        raise UnsupportedByTensorRT(shown, tensorrt, refused)
    return Network(logger, builder, network, parser)


def _forget_unnamed(graph: onnx.GraphProto) -> None:
    """Dimensions called "?", in place: Paddle's exporter means no name, TensorRT that they are equal."""
    for value in graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "?":
                dimension.ClearField("dim_param")


def _creation_flags(tensorrt: TensorRT) -> int:
    """By symbol: the numbers mean other things in other versions."""
    known = tensorrt.module.NetworkDefinitionCreationFlag
    wanted = ["EXPLICIT_BATCH"] + ["STRONGLY_TYPED"] * tensorrt.strongly_typed
    flags = 0
    for name in wanted:
        if (flag := getattr(known, name, None)) is not None:
            flags |= 1 << int(flag)
    return flags


def _refused(error: Any, nodes: Any, log: BuildLog) -> UnsupportedNode:
    """`error`: trt.ParserError. Its description alone may be as little as "false"; where it tells no node,
    it is the last that was parsed."""
    index = error.node()
    node = nodes[index] if 0 <= index < len(nodes) else None
    last_name, last_operator = ("", "") if node else log.parsing
    named = error.node_name() or (node.name if node else last_name)
    computes = "-> " + ", ".join(node.output) if node else "?"
    where = f" ({error.func()})" if error.func() else ""
    return UnsupportedNode(
        name=named or computes,
        operator=error.node_operator() or (node.op_type if node else last_operator),
        reason=f"{error.code().name}: {error.desc()}{where}",
    )


def _spec(tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, DTYPES.get(tensor.dtype.name, tensor.dtype.name), tuple(tensor.shape))
