"""A small network, as ONNX and as a TensorRT engine: convolution, relu, convolution, with a dynamic batch.

Works with TensorRT 10 and 11 and with TensorRT-RTX 1.5 to 1.7: networks are strongly typed everywhere (the
only kind since 11), precision comes from the ONNX file, and symbols that come and go are asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from smoke.outcome import Skip

BATCHES = (1, 4, 8)
"""The optimisation profile: smallest, best, largest."""

CHANNELS = (3, 8, 4)
SIZE = 16


def weights(precision: str) -> list[Any]:
    """The two kernels as numpy arrays of "float16" or "float32"; the same in every run."""
    numpy = importlib.import_module("numpy")
    random = numpy.random.RandomState(0)
    shapes = [(CHANNELS[i + 1], CHANNELS[i], 3, 3) for i in (0, 1)]
    return [random.uniform(-0.2, 0.2, shape).astype(precision) for shape in shapes]


def onnx_model(precision: str) -> bytes:
    """The network as an ONNX file."""
    onnx = importlib.import_module("onnx")
    numpy_helper = importlib.import_module("onnx.numpy_helper")
    node, kind = (
        onnx.helper.make_node,
        getattr(onnx.TensorProto, {"float16": "FLOAT16", "float32": "FLOAT"}[precision]),
    )
    first, second = weights(precision)
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "second"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "sample",
        [onnx.helper.make_tensor_value_info("x", kind, ["batch", CHANNELS[0], SIZE, SIZE])],
        [onnx.helper.make_tensor_value_info("y", kind, ["batch", CHANNELS[2], SIZE, SIZE])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    # Versions that every TensorRT named above reads; onnx would write its own newest.
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def tensorrt_and_log(expected: dict[str, Any]) -> tuple[Any, Any]:
    """The image's TensorRT module, and a logger of it whose `errors` gathers what goes wrong.

    Raises:
        Skip: the image has no onnx, so there is nothing to make a network with.
    """
    if "onnx" not in expected["packages"]:
        raise Skip("this image has no onnx to make a network with")
    trt = importlib.import_module(expected["tensorrt"]["module"])

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(text)

    return trt, Log()


def build(trt: Any, log: Any, precision: str, sm: str | None) -> bytes:
    """The network's engine, serialised; AssertionError with everything that was logged if there is none.

    Args:
        precision: "float16" or "float32".
        sm: the compute capability to build for ("86"; TensorRT-RTX only); None: the GPU that is there.
    """
    what = precision + (" for SM " + sm if sm else "")
    builder = trt.Builder(log)
    assert builder, "no builder: " + "; ".join(log.errors)
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_model(precision)):
        problems = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise AssertionError("{}: the ONNX parser refuses the network: {}".format(what, "; ".join(problems)))
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("x", *[(batch, CHANNELS[0], SIZE, SIZE) for batch in BATCHES])
    config.add_optimization_profile(profile)
    if sm is not None:
        target = getattr(trt.ComputeCapability, "SM" + sm, None)
        assert target is not None, f"TensorRT-RTX {trt.__version__} cannot build for SM {sm}"
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan, "{}: no engine: {}".format(what, "; ".join(log.errors))
    return bytes(plan)
