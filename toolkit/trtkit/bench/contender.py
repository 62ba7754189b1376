"""Who is measured, in an order that is always the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trtkit.bench.options import BenchOptions, Signature
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import EnvironmentLack
from trtkit.runners import Runner
from trtkit.runners.onnxruntime import OnnxRuntimeRunner, Provider
from trtkit.runners.torch import TorchMode, TorchRunner
from trtkit.sidecar import Precision, read_sidecar

BASELINE = "PyTorch FP32"
"""The row that speed is told against, and outputs too where it ran."""

TORCH: dict[TorchMode, str] = {
    "fp32": BASELINE,
    "fp16": "PyTorch FP16",
    "compile-fp32": "torch.compile FP32",
    "compile-fp16": "torch.compile FP16",
}
ONNX: dict[Provider, str] = {"cpu": "ONNX Runtime CPU", "cuda": "ONNX Runtime CUDA"}
TENSORRT: tuple[Precision, ...] = ("fp16", "int8")
"""Precisions that have a row even where there is no engine for them."""

ORDER: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Contender:
    """A row to be measured.

    precision: what it computes in; its outputs may be as far from the reference's as that allows.
    open: makes its runner, in a process of its own; so it can be pickled, and raises EnvironmentLack where
        this machine cannot run it.
    """

    title: str
    precision: Precision
    open: Callable[[], Runner]


def contenders(options: BenchOptions, signature: Signature) -> tuple[Contender, ...]:
    """All rows: PyTorch, torch.compile, ONNX Runtime, TensorRT. What was not asked for is there too, and
    says so when it is opened.

    Raises:
        RequestError: an engine has no sidecar, or another engine's.
    """
    # On a GPU, PyTorch and ONNX Runtime compute FP32 convolutions in TF32.
    full: Precision = "tf32" if gpus() else "fp32"
    torch = [
        Contender(title, "fp16" if mode.endswith("fp16") else full, partial(_torch, options, mode, signature))
        for mode, title in TORCH.items()
    ]
    onnx = [
        Contender(title, "fp32" if provider == "cpu" else full, partial(_onnx, options.onnx, provider))
        for provider, title in ONNX.items()
    ]
    return (*torch, *onnx, *_tensorrt(options.engines))


def _tensorrt(engines: tuple[Path, ...]) -> list[Contender]:
    """A row an engine, by precision, then as given; engines of one precision are told apart by their file."""
    precisions = [read_sidecar(engine).precision for engine in engines]
    rows = []
    for precision in sorted({*TENSORRT, *precisions}, key=ORDER.index):
        title = f"TensorRT {precision.upper()}"
        mine = [engine for engine, its in zip(engines, precisions, strict=True) if its == precision]
        if not mine:
            absent = partial(_absent, f"no {precision.upper()} engine was given")
            rows.append(Contender(title, precision, absent))
        for engine in mine:
            own = title if len(mine) == 1 else f"{title} {engine.stem}"
            rows.append(Contender(own, precision, partial(_engine, engine)))
    return rows


def _absent(reason: str) -> Runner:
    raise EnvironmentLack(reason)


def _torch(options: BenchOptions, mode: TorchMode, signature: Signature) -> Runner:
    if options.model is None:
        return _absent("no PyTorch model was given")
    return TorchRunner(
        options.model,
        mode,
        inputs=signature.inputs,
        outputs=signature.outputs,
        weights=options.weights,
        seed=options.seed,
    )


def _onnx(onnx: Path | None, provider: Provider) -> Runner:
    if onnx is None:
        return _absent("no ONNX file was given")
    if provider == "cuda" and not gpus():
        return _absent(NO_GPU)
    return OnnxRuntimeRunner(onnx, provider=provider)


def _engine(engine: Path) -> Runner:
    if not gpus():
        return _absent(NO_GPU)
    from trtkit.fit import EngineDoesNotFit
    from trtkit.runners.tensorrt import TensorRTRunner

    try:
        return TensorRTRunner(engine)
    except EngineDoesNotFit as error:
        # For another GPU it may be right: here it is a row that cannot run, not one that fails.
        raise EnvironmentLack(error.problem, *error.facts) from error
