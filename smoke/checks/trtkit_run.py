"""trtkit looks into an engine and runs it: what an image needs to run engines is there.

Where there is no GPU the refusal is looked at; where there is one, and a builder, an engine runs.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from smoke.gpu import WITH_GPU, refused
from smoke.outcome import Skip

NEEDS = ("projects", "tensorrt", "sm")


def check(expected: dict[str, Any]) -> dict[str, Any]:
    devices, numpy = importlib.import_module("trtkit.devices"), importlib.import_module("numpy")
    errors = importlib.import_module("trtkit.errors")
    tensorrt = importlib.import_module("trtkit.flavour").find_tensorrt()
    runner = importlib.import_module("trtkit.runners.tensorrt").TensorRTRunner
    gpus = devices.gpus()
    assert gpus or not os.environ.get(WITH_GPU), "the container was given a GPU, but NVML shows none"
    with tempfile.TemporaryDirectory() as folder:
        sms = [gpus[0].sm] if gpus else expected["sm"]
        builds = not tensorrt.lean and (gpus or tensorrt.builds_without_gpu)
        try:
            plan = _relu(tensorrt, sms) if builds else b"an engine"
        except AssertionError as error:
            raise refused(sms[0], expected, str(error)) from error
        engine = _engine(Path(folder, "relu.fp32.engine"), plan, tensorrt, sms)
        command = [sys.executable, "-m", "trtkit", "inspect", str(engine), "--json"]
        told = subprocess.run(command, capture_output=True, text=True)
        assert told.returncode == 0, f"trtkit inspect ended with {told.returncode}: {told.stderr}"
        assert json.loads(told.stdout)["sms"] == sms
        if not gpus:
            try:
                runner(engine)
            except errors.EnvironmentLack as lack:
                said = lack.text()
            else:
                said = "nothing"
            assert devices.NO_GPU in said, f"without a GPU it says {said}"
            raise Skip(devices.NO_GPU)
        if tensorrt.lean:
            raise Skip(f"{tensorrt} builds no engine that could be run here")
        try:
            running = runner(engine)
        except errors.TrtkitError as error:
            raise refused(sms[0], expected, error.text()) from error
        x = numpy.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
        (y,) = running.run({"x": x}).values()
        running.close()
        assert (y == numpy.maximum(x, 0)).all(), f"max(x, 0) came out as {y.tolist()}"
    return {"tensorrt": str(tensorrt), "gpu": gpus[0].name}


def _relu(tensorrt: Any, sms: list[str]) -> bytes:
    """The engine of y = max(x, 0), made without ONNX, which images that only run engines lack."""
    trt, said = tensorrt.module, []
    logger = importlib.import_module("trtkit.trt_api").make_logger(trt, lambda _, text: said.append(text))
    builder = trt.Builder(logger)
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strong is None else 1 << int(strong))
    layer = network.add_activation(network.add_input("x", trt.float32, (2, 4)), trt.ActivationType.RELU)
    layer.get_output(0).name = "y"
    network.mark_output(layer.get_output(0))
    config = builder.create_builder_config()
    if tensorrt.builds_without_gpu:
        targets = [getattr(trt.ComputeCapability, "SM" + sm, None) for sm in sms]
        assert all(targets), f"{tensorrt} cannot build for SM {', '.join(sms)}"
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(target, index)
    plan = builder.build_serialized_network(network, config)
    assert plan, "no engine: " + "; ".join(said[-3:])
    return bytes(plan)


def _engine(path: Path, plan: bytes, tensorrt: Any, sms: list[str]) -> Path:
    """The engine file, with its sidecar."""
    sidecar, spec = (
        importlib.import_module("trtkit.sidecar"),
        importlib.import_module("trtkit.tensors").TensorSpec,
    )
    path.write_bytes(plan)
    facts = sidecar.Sidecar(
        engine_sha256=sidecar.file_sha256(path),
        onnx_sha256="",
        flavour=tensorrt.flavour,
        tensorrt_version=tensorrt.module.__version__,
        sms=tuple(sms),
        version_compatible=tensorrt.lean,
        precision="fp32",
        inputs=(spec("x", "float32", (2, 4)),),
        outputs=(spec("y", "float32", (2, 4)),),
        workspace=0,
        trtkit=importlib.import_module("trtkit").__version__,
    )
    sidecar.write_sidecar(facts, path)
    return path
