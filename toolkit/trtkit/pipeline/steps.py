"""The steps: what decides each one's result, what it makes, and how.

A step's `facts` name everything that its result depends on: the bytes it reads, its options, the versions of
what computes it and, where it matters, the GPU. They are compared with those of the last time (`state`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trtkit import __version__
from trtkit.bench.report import BenchReport
from trtkit.build import build_engine
from trtkit.calibrate import CalibrationReport, calibrate
from trtkit.calibrate.graph import network_sha256
from trtkit.devices import gpus
from trtkit.export.report import ExportReport
from trtkit.object_reference import is_reference
from trtkit.pipeline.fingerprint import fingerprint, versions
from trtkit.pipeline.spec import EngineSpec, PipelineSpec
from trtkit.sidecar import Sidecar, file_sha256, sidecar_path
from trtkit.verify.report import VerifyReport


@dataclass(frozen=True)
class Made:
    """What a step made: its files, its report, and that in a line."""

    files: tuple[Path, ...]
    report: BaseModel
    says: str


@dataclass(frozen=True)
class Step:
    """A step of a pipeline.

    facts: what decides its result. report: the type that its report is read back as.
    make: does it. tell: where it says what it is doing.
    """

    name: str
    facts: Mapping[str, Any]
    report: type[BaseModel]
    make: Callable[[Callable[[str], None]], Made]


@dataclass(frozen=True)
class Files:
    """Where everything of a pipeline lies, in its folder `work`."""

    work: Path
    name: str

    @property
    def onnx(self) -> Path:
        return self.work / f"{self.name}.onnx"

    @property
    def int8_onnx(self) -> Path:
        return self.work / f"{self.name}.int8.onnx"

    @property
    def ranges(self) -> Path:
        return self.work / f"{self.name}.ranges.json"

    def engine(self, spec: EngineSpec) -> Path:
        return self.work / f"{self.name}.{spec.precision}.engine"


def export_step(spec: PipelineSpec, files: Files) -> Step:
    """PyTorch to ONNX."""
    options = spec.export
    if options.weights is not None:
        options = options.model_copy(update={"weights": Path(spec.beside(str(options.weights)))})
    if options.translations is not None:
        options = options.model_copy(update={"translations": spec.beside(options.translations)})

    def make(_tell: Callable[[str], None]) -> Made:
        from trtkit.export import export_onnx

        report = export_onnx(spec.source, files.onnx, options)
        external = (files.work / report.external_data,) if report.external_data else ()
        differences = (one.max_abs for compared in report.comparisons for one in compared.outputs.values())
        worst = max((one for one in differences if one is not None), default=0.0)
        says = (
            f"{files.onnx.name}, {report.size / 1e6:.1f} MB, {sum(report.nodes.values())} nodes, "
            f"opset {report.opset}; off PyTorch's outputs by {worst:.1e} at most"
        )
        return Made((files.onnx, *external), report, says)

    facts = {
        "trtkit": __version__,
        "model": spec.model,
        "code": fingerprint(spec.source),
        "weights": fingerprint(str(options.weights)) if options.weights else "",
        "translations": fingerprint(options.translations or ""),
        "options": spec.export.model_dump(mode="json"),
        "versions": versions("torch", "torchvision", "onnx", "onnxscript"),
        "gpu": [gpu.name for gpu in gpus()],
    }
    return Step("export", facts, ExportReport, make)


def calibrate_step(spec: PipelineSpec, files: Files) -> Step:
    """Ranges from samples, and Q/DQ pairs. Only where the file says `calibrate`."""
    assert spec.calibrate is not None
    wanted = spec.calibrate.model_copy(update={"data": spec.beside(spec.calibrate.data)})
    options = wanted.options(files.ranges, spec.preprocess)

    def make(_tell: Callable[[str], None]) -> Made:
        if is_reference(wanted.data):
            # The cache knows files by their hashes; of a loader it would take the ranges of old samples.
            files.ranges.unlink(missing_ok=True)
        report = calibrate(files.onnx, files.int8_onnx, options)
        agreement = "" if report.agreement is None else f"top-1 as FP32 in {report.agreement:.1%}, "
        worst = min((one.sqnr_db for one in report.outputs), default=0.0)
        says = (
            f"{report.quantised} nodes in INT8 from {report.samples} samples: {agreement}SQNR {worst:.1f} dB"
        )
        return Made((files.int8_onnx, files.ranges), report, says)

    facts = {
        "trtkit": __version__,
        "onnx": network_sha256(files.onnx),
        "data": fingerprint(wanted.data),
        "options": spec.calibrate.model_dump(),
        "preprocess": spec.preprocess and spec.preprocess.model_dump(),
        "versions": versions("onnx", "onnxruntime", "onnxruntime-gpu"),
    }
    return Step("calibrate", facts, CalibrationReport, make)


def build_step(spec: PipelineSpec, engine: EngineSpec, files: Files) -> Step:
    """ONNX to one engine."""
    onnx = files.int8_onnx if engine.precision == "int8" else files.onnx
    path = files.engine(engine)
    labels = spec.class_names()

    def make(_tell: Callable[[str], None]) -> Made:
        sidecar = build_engine(onnx, path, engine.options(spec.profile, spec.preprocess, labels))
        says = (
            f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, {sidecar.precision.upper()} "
            f"for SM {', '.join(sidecar.sms)}" + "".join(f"; {one.text}" for one in sidecar.caveats)
        )
        return Made((path, sidecar_path(path)), sidecar, says)

    facts = {
        "trtkit": __version__,
        "onnx": network_sha256(onnx),
        "engine": engine.model_dump(),
        "profile": spec.profile.model_dump(),
        "preprocess": spec.preprocess and spec.preprocess.model_dump(),
        "labels": labels,
        "versions": _tensorrt_versions(),
        # An engine that names no GPU is for the one that is here.
        "gpu": [] if engine.sm else [f"{gpu.name} {gpu.sm}" for gpu in gpus()],
    }
    return Step(f"build {engine.precision}", facts, Sidecar, make)


def verify_step(engines: tuple[Path, ...], spec: PipelineSpec, files: Files) -> Step:
    """The INT8 network and the engines against the ONNX file."""
    subjects = (*([files.int8_onnx] if spec.calibrate else []), *engines)

    def make(_tell: Callable[[str], None]) -> Made:
        from trtkit.verify import VerifyOptions, verify

        report = verify(subjects, VerifyOptions(reference=files.onnx, bisect=True))
        says = ", ".join(f"{one.file} {one.status}" for one in report.subjects)
        return Made((), report, says)

    facts = {
        "trtkit": __version__,
        "reference": network_sha256(files.onnx),
        "subjects": {path.name: file_sha256(path) for path in subjects},
        "versions": versions("onnxruntime", "onnxruntime-gpu") | _tensorrt_versions(),
        "gpus": [f"{gpu.uuid} {gpu.driver}" for gpu in gpus()],
    }
    return Step("verify", facts, VerifyReport, make)


def bench_step(engines: tuple[Path, ...], spec: PipelineSpec, files: Files) -> Step:
    """All ways to run the model, side by side."""
    assert spec.bench is not None
    from trtkit.bench.machine import look
    from trtkit.bench.options import BenchOptions

    weights = Path(spec.beside(str(spec.export.weights))) if spec.export.weights else None
    options = BenchOptions(
        model=spec.source,
        weights=weights,
        onnx=files.onnx,
        engines=engines,
        seed=spec.export.seed,
        shapes={one.name: one.shape for one in spec.export.inputs},
        **spec.bench.model_dump(),
    )
    picture = files.work / f"{files.name}.bench.svg"

    def make(tell: Callable[[str], None]) -> Made:
        from trtkit.bench import run_bench
        from trtkit.bench.plot import write_plot

        report = run_bench(options, tell)
        write_plot(report, picture)
        ran = sum(bool(row.batches) for row in report.rows)
        return Made((picture,), report, f"{ran} of {len(report.rows)} rows ran; {picture.name}")

    machine = look().model_dump(exclude={"notes"})
    facts = {
        "trtkit": __version__,
        "model": [spec.model, fingerprint(spec.source), fingerprint(str(weights)) if weights else ""],
        "export": spec.export.model_dump(mode="json", include={"inputs", "seed"}),
        "onnx": network_sha256(files.onnx),
        "engines": {path.name: file_sha256(path) for path in engines},
        "options": spec.bench.model_dump(),
        "machine": machine,
    }
    return Step("bench", facts, BenchReport, make)


def _tensorrt_versions() -> dict[str, str]:
    flavours = ("tensorrt", "tensorrt-rtx")
    return versions(*(f"{name}-cu{major}" for name in flavours for major in ("11", "12", "13")))
