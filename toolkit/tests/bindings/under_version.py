"""Run by test_versions.py in a process for each version: what trtkit does under it, as JSON."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bindings.stand_in import StandIn
from trtkit.build import BuildOptions
from trtkit.build.config import make_config
from trtkit.build.interrupt import Interrupt
from trtkit.build.log import BuildLog
from trtkit.build.network import Network, parse_network
from trtkit.build.targets import known_sms
from trtkit.build.timing_cache import load_timing_cache
from trtkit.build.weak_typing import set_types
from trtkit.calibrate.trt_calibrator import CLASSES, trt_calibrator
from trtkit.errors import TrtkitError
from trtkit.flavour import TensorRT, find_tensorrt
from trtkit.sidecar import HardwareCompatibility, Precision
from trtkit.tensors import ShapeRange

NETWORK = {
    "INetworkDefinition.num_inputs": 1, "INetworkDefinition.num_outputs": 1,
    "INetworkDefinition.num_layers": 1, "ILayer.name": "conv", "ILayer.num_outputs": 1,
    "ITensor.name": "x", "ITensor.shape": (-1, 3), "ITensor.is_shape_tensor": False,
}  # fmt: skip
"""One input, one layer, one output."""


def main() -> None:
    tensorrt = find_tensorrt()
    # Only now: polygraphy asks when it is imported which TensorRT there is.
    from polygraphy.backend.trt import util

    import trtkit.runners.tensorrt
    import trtkit.verify  # noqa: F401

    told = {
        "flavour": tensorrt.flavour,
        "version": str(tensorrt.version),
        "strongly typed": tensorrt.strongly_typed,
        "calibrates": tensorrt.calibrates,
        "polygraphy": util.trt.__version__,
        "logged": logged(tensorrt),
        "configured": {name: configured(tensorrt, options) for name, options in variants(tensorrt).items()},
    }
    if tensorrt.flavour == "tensorrt":
        told["no builder"] = refused(tensorrt)
    else:
        told["sms"] = known_sms(tensorrt)
    if tensorrt.calibrates:
        told["calibrators"] = {
            method: isinstance(trt_calibrator([], None, method, tensorrt), getattr(tensorrt.module, name))
            for method, name in CLASSES.items()
        }
    print(json.dumps(told))


def logged(tensorrt: TensorRT) -> list[str]:
    log = BuildLog()
    log.logger(tensorrt.module).log(tensorrt.module.ILogger.ERROR, "wrong")
    return log.errors


def refused(tensorrt: TensorRT) -> str:
    """What is said where TensorRT makes no builder."""
    try:
        parse_network(Path("x.onnx"), "x.onnx", tensorrt, BuildLog())
    except TrtkitError as error:
        return error.text()
    return ""


def variants(tensorrt: TensorRT) -> dict[str, BuildOptions]:
    precisions: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")
    levels: tuple[HardwareCompatibility, ...] = ("none", "ampere-plus", "same-compute-capability")
    if tensorrt.flavour == "tensorrt-rtx":
        return {precision: BuildOptions(precision=precision) for precision in precisions}
    made = {
        f"{precision} {level}": BuildOptions(
            precision=precision,
            hardware_compatibility=level,
            version_compatible=level != "none",
            optimisation_level=5,
            keep_fp32=() if tensorrt.strongly_typed else ("conv",),
        )
        for precision, level in product(precisions, levels)
    }
    calibrator = trt_calibrator([], None, "entropy", tensorrt) if tensorrt.calibrates else None
    return made | {"int8": BuildOptions(precision="int8", calibrator=calibrator)}


def configured(tensorrt: TensorRT, options: BuildOptions) -> list[list[str]] | str:
    """The calls made to a builder, its network and its configuration; or why there were none."""
    trt = tensorrt.module
    values = NETWORK | {"ITensor.dtype": trt.DataType.FLOAT}
    builder = StandIn(trt, "Builder", values)
    network = StandIn(trt, "INetworkDefinition", values, builder.done)
    parser = StandIn(trt, "OnnxParser", values)
    profile = {"x": ShapeRange((1, 3), (4, 3), (8, 3))}
    parsed = Network(None, builder, network, parser)
    try:
        set_types(network, options, tensorrt)
        config = make_config(parsed, profile, ("86",), options, tensorrt, Interrupt())
    except TrtkitError as error:
        return error.problem
    with TemporaryDirectory() as folder:
        load_timing_cache(config, Path(folder, "cache"), tensorrt)
    return [[str(part) for part in one] for one in builder.done]


if __name__ == "__main__":
    main()
