"""From an ONNX file to an engine and its sidecar."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trtkit import __version__
from trtkit.build.calibration_cache import check_tied
from trtkit.build.config import make_config
from trtkit.build.interrupt import Interrupt
from trtkit.build.layers import inspect_layers, logged_layers
from trtkit.build.log import BuildLog
from trtkit.build.network import parse_network
from trtkit.build.onnx_file import OnnxFile, read_onnx
from trtkit.build.options import BuildOptions
from trtkit.build.profiles import resolve_profile, uncovered
from trtkit.build.speed import slow_precision
from trtkit.build.strong_typing import typed_onnx
from trtkit.build.suspects import suspects
from trtkit.build.targets import target_sms
from trtkit.build.timing_cache import load_timing_cache, save_timing_cache
from trtkit.build.weak_typing import set_types
from trtkit.cuda import CudaError, current_gpu
from trtkit.devices import Gpu, gpus
from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.flavour import TensorRT, find_builder
from trtkit.sidecar import Caveat, Sidecar, file_sha256, sidecar_path, write_sidecar


class BuildFailed(WorkFailed):
    """TensorRT took the network and made no engine. errors: what it logged, all of it. nodes: those of the
    file that this is about, as far as it tells. slow: which of the GPUs are not fast at the precision, which
    may be why."""

    def __init__(self, source: OnnxFile, tensorrt: TensorRT, log: BuildLog, slow: tuple[str, ...]) -> None:
        self.errors = tuple(log.errors)
        self.nodes = suspects(source.model, self.errors)
        self.slow = slow
        said = self.errors or tuple(log.tail)[-5:]
        super().__init__(
            f"{tensorrt} made no engine of {source.path.name}",
            *(("because", line) for line in said),
            *(("node", node) for node in self.nodes),
            *(("gpu", sentence) for sentence in slow),
            ("next", "follow it with --verbose; try another --precision, or more --workspace"),
        )


def build_engine(
    onnx: Path, engine: Path, options: BuildOptions, follow: Callable[[str], None] | None = None
) -> Sidecar:
    """Build `onnx` into `engine`, with its sidecar beside it; each is there whole or not at all.

    Args:
        follow: is given TensorRT's messages as they come, as "info: text".

    Returns:
        The sidecar that was written. `caveats` tells what is not an error: shapes that the profile does not
        cover, a precision that a GPU is not fast at.

    Raises:
        RequestError: the file is no ONNX model, or the options do not fit it or this TensorRT.
        EnvironmentLack: there is no TensorRT, or no GPU where it needs one.
        UnsupportedByTensorRT: the parser refuses nodes.
        BuildFailed: the builder made no engine.
    """
    tensorrt = find_builder()
    here = _gpu_here(tensorrt)
    sms = target_sms(options, tensorrt, here)
    source = read_onnx(onnx)
    profile = resolve_profile(
        source.inputs, source.dimensions, options.min_shapes, options.opt_shapes, options.max_shapes
    )
    missed = uncovered(source.inputs, profile, options.must_cover)
    untied = _untied(onnx, options, tensorrt)
    slow = slow_precision(options.precision, sms, tensorrt.flavour)
    log, interrupt = BuildLog(follow), Interrupt()
    with tempfile.TemporaryDirectory(prefix="trtkit-build-") as scratch:
        typed = typed_onnx(source, profile, options, tensorrt, Path(scratch))
        with interrupt.held():  # from the first message on: the logger is called by TensorRT's code
            network = parse_network(typed.path, onnx.name, tensorrt, log)
            set_types(network.network, options, tensorrt)
            config = make_config(network, profile, sms, options, tensorrt, interrupt)
            cached = load_timing_cache(config, options.timing_cache, tensorrt)
            plan = network.builder.build_serialized_network(network.network, config)
    if plan is None:
        raise BuildFailed(source, tensorrt, log, slow)
    loads = here is not None and here.sm in sms
    sidecar = Sidecar(
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        onnx_sha256=file_sha256(onnx),
        flavour=tensorrt.flavour,
        tensorrt_version=tensorrt.module.__version__,
        sms=sms,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
        precision=options.precision,
        inputs=network.inputs,
        outputs=network.outputs,
        profiles=(dict(profile),) if profile else (),
        workspace=options.workspace,
        trtkit=__version__,
        preprocess=options.preprocess,
        labels=options.labels,
        layers=(
            inspect_layers(plan, network.logger, tensorrt, options.version_compatible)
            if loads
            else logged_layers(log.layers)
        ),
        caveats=(
            *(Caveat(kind="uncovered-shape", text=text) for text in missed),
            *(Caveat(kind="slow-precision", text=text) for text in slow),
            *typed.caveats,
            *(Caveat(kind="calibration-cache", text=text) for text in untied),
            *cached,
        ),
    )
    _write(engine, plan)
    write_sidecar(sidecar, engine)
    save_timing_cache(config, options.timing_cache, tensorrt)
    return sidecar


def _write(engine: Path, plan: Any) -> None:
    """An old sidecar goes first: at no time is there one that speaks of another engine."""
    engine.parent.mkdir(parents=True, exist_ok=True)
    new = engine.with_name(engine.name + ".new")
    try:
        new.write_bytes(memoryview(plan))
        sidecar_path(engine).unlink(missing_ok=True)
        new.replace(engine)
    finally:
        new.unlink(missing_ok=True)


def _untied(onnx: Path, options: BuildOptions, tensorrt: TensorRT) -> tuple[str, ...]:
    cache = options.calibration_cache
    used = tensorrt.calibrates and options.precision == "int8" and options.calibrator is None
    return tuple(filter(None, [check_tied(cache, onnx)])) if used and cache and cache.is_file() else ()


def _gpu_here(tensorrt: TensorRT) -> Gpu | None:
    """The GPU that CUDA gives this process; where TensorRT can do without, it is no error if CUDA fails."""
    if not gpus():
        return None
    with suppress(*([EnvironmentLack, CudaError] if tensorrt.builds_without_gpu else [])):
        return current_gpu()
    return None
