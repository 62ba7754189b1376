"""TensorRT 10's own precision: what builder flags do not say, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from trtkit.build.options import BuildOptions
from trtkit.flavour import TensorRT


def set_types(network: Any, options: BuildOptions, tensorrt: TensorRT) -> None:
    """Give the layers and inputs of the trt.INetworkDefinition `network` the types that `options` asks for.

    In a strongly typed network the ONNX file has said all this already.
    """
    if tensorrt.strongly_typed:
        return
    trt = tensorrt.module
    if options.io_types == "convert" and options.precision in ("fp16", "bf16", "int8"):
        narrow = trt.DataType.BF16 if options.precision == "bf16" else trt.DataType.HALF
        tensors = [network.get_input(index) for index in range(network.num_inputs)]
        tensors += [network.get_output(index) for index in range(network.num_outputs)]
        for tensor in tensors:
            if tensor.dtype == trt.DataType.FLOAT:
                tensor.dtype = narrow
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if _named(layer, options.keep_fp32):
            _keep(layer, trt.DataType.FLOAT, trt)
        elif options.precision == "int8" and _named(layer, options.keep_fp16):
            _keep(layer, trt.DataType.HALF, trt)


def constrains(options: BuildOptions) -> bool:
    """Whether layers were given types that TensorRT must be told to follow."""
    return bool(options.keep_fp32 or options.keep_fp16)


def _named(layer: Any, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(layer.name, pattern) for pattern in patterns)


def _keep(layer: Any, kept: Any, trt: Any) -> None:
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    if any(tensor.dtype not in (trt.DataType.FLOAT, trt.DataType.HALF) for tensor in outputs):
        return  # it computes shapes or indices
    layer.precision = kept
    for index in range(layer.num_outputs):
        layer.set_output_type(index, kept)
