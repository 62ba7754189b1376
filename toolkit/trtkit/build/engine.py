"""From an ONNX file to an engine and its sidecar."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtkit import __version__
from trtkit.build.config import make_config
from trtkit.build.layers import Layers, inspect_layers, logged_layers
from trtkit.build.log import BuildLog
from trtkit.build.network import Network, parse_network
from trtkit.build.onnx_file import read_onnx
from trtkit.build.options import BuildOptions
from trtkit.build.profiles import resolve_profile, uncovered
from trtkit.build.speed import slow_precision
from trtkit.build.strong_typing import typed_onnx
from trtkit.build.targets import target_sms
from trtkit.build.timing_cache import load_timing_cache, save_timing_cache
from trtkit.devices import gpus
from trtkit.errors import WorkFailed
from trtkit.flavour import TensorRT, find_tensorrt
from trtkit.sidecar import Caveat, Sidecar, file_sha256, sidecar_path, write_sidecar


class BuildFailed(WorkFailed):
    """TensorRT took the network and made no engine. errors: what it logged, all of it. slow: which of the
    GPUs are not fast at the precision, which may be why."""

    def __init__(self, onnx_name: str, tensorrt: TensorRT, log: BuildLog, slow: tuple[str, ...]) -> None:
        self.errors = tuple(log.errors)
        self.slow = slow
        said = self.errors or tuple(log.tail)[-5:]
        super().__init__(
            f"{tensorrt} made no engine of {onnx_name}",
            *(("because", line) for line in said),
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
    tensorrt = find_tensorrt()
    here = gpus()
    sms = target_sms(options, tensorrt, here)
    source = read_onnx(onnx)
    profile = resolve_profile(
        source.inputs, source.dimensions, options.min_shapes, options.opt_shapes, options.max_shapes
    )
    missed = uncovered(source.inputs, profile, options.must_cover)
    slow = slow_precision(options.precision, sms)
    log = BuildLog(follow)
    with tempfile.TemporaryDirectory(prefix="trtkit-build-") as scratch:
        typed = typed_onnx(source, profile, options, tensorrt, Path(scratch))
        network = parse_network(typed.path, onnx.name, tensorrt, log)
        config = make_config(network, profile, sms, options, tensorrt)
        cached = load_timing_cache(config, options.timing_cache, tensorrt)
        plan = network.builder.build_serialized_network(network.network, config)
        if log.interrupted:
            raise KeyboardInterrupt
        if plan is None:
            raise BuildFailed(onnx.name, tensorrt, log, slow)
    _write(engine, plan)
    save_timing_cache(config, options.timing_cache, tensorrt)
    sidecar = Sidecar(
        engine_sha256=file_sha256(engine),
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
        layers=_layers(plan, network, bool(here) and here[0].sm in sms, tensorrt, log),
        caveats=(
            *(Caveat(kind="uncovered-shape", text=text) for text in missed),
            *(Caveat(kind="slow-precision", text=text) for text in slow),
            *typed.caveats,
            *cached,
        ),
    )
    write_sidecar(sidecar, engine)
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


def _layers(plan: Any, network: Network, loads: bool, tensorrt: TensorRT, log: BuildLog) -> Layers:
    """The inspector's where the engine can be loaded, as it can on a GPU that it was built for."""
    if loads and (layers := inspect_layers(plan, network.logger, tensorrt)):
        return layers
    return logged_layers(log.layers)
