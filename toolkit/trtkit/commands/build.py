"""`trtkit build`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trtkit.sidecar import Sidecar


class PrecisionName(str, Enum):
    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class HardwareName(str, Enum):
    none = "none"
    ampere_plus = "ampere-plus"
    same = "same-compute-capability"


class IoTypesName(str, Enum):
    keep = "keep"
    convert = "convert"


def _shapes(text: str) -> object:
    return typer.Option(metavar="INPUT:1x3x224x224", help=text)


def _patterns(text: str) -> object:
    return typer.Option(metavar="PATTERN", help=text)


def build(
    onnx: Annotated[Path, typer.Argument(help="The ONNX file.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The engine; default: ONNX.PRECISION.engine beside it.")
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="What it computes in.")] = PrecisionName.fp16,
    workspace: Annotated[str, typer.Option(help="Scratch memory of a layer, at most.")] = "2GiB",
    min_shapes: Annotated[list[str] | None, _shapes("Smallest shape of an input.")] = None,
    opt_shapes: Annotated[list[str] | None, _shapes("The shape it is fastest at.")] = None,
    max_shapes: Annotated[list[str] | None, _shapes("Largest shape. Default: batches of 1, 4, 8.")] = None,
    must_cover: Annotated[list[str] | None, _shapes("Tell if the profile leaves this shape out.")] = None,
    sm: Annotated[
        str, typer.Option(metavar="80,86", help="GPUs to build for (TensorRT-RTX). Default: the one here.")
    ] = "",
    hardware_compatibility: Annotated[
        HardwareName, typer.Option(help="Other GPUs that may run it (full TensorRT).")
    ] = HardwareName.none,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Later TensorRT of this major may run it.")
    ] = False,
    timing_cache: Annotated[
        Path | None, typer.Option(help="A file of timings, read and written (full TensorRT).")
    ] = None,
    optimisation_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="0 builds fast, 5 runs fast; TensorRT's own: 3.")
    ] = None,
    calibration_cache: Annotated[
        Path | None, typer.Option(help="INT8 of a network without Q/DQ nodes (TensorRT 10).")
    ] = None,
    io_types: Annotated[
        IoTypesName, typer.Option(help="Whether float32 inputs and outputs stay so.")
    ] = IoTypesName.keep,
    keep_fp32: Annotated[list[str] | None, _patterns("Nodes that stay in FP32.")] = None,
    keep_fp16: Annotated[list[str] | None, _patterns("Nodes that a calibrator's INT8 leaves out.")] = None,
    preprocess: Annotated[
        str, typer.Option(metavar="imagenet|FILE.json", help="How images become its input, for the sidecar.")
    ] = "",
    labels: Annotated[Path | None, typer.Option(help="Names of the classes, one a line.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what TensorRT says, on stderr.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the sidecar as JSON.")] = False,
) -> None:
    """Build a TensorRT engine from an ONNX file, and a sidecar that says where it runs."""
    from trtkit.build import BuildOptions, build_engine, parse_bytes, parse_sms, read_labels
    from trtkit.commands.preprocess import parse_preprocess
    from trtkit.tensors import parse_shapes

    # net.int8.onnx, as `trtkit calibrate` names it, says so already.
    name = f"{onnx.stem.removesuffix(f'.{precision.value}')}.{precision.value}.engine"
    engine = out or onnx.with_name(name)
    options = BuildOptions(
        precision=precision.value,
        workspace=parse_bytes(workspace),
        min_shapes=parse_shapes(min_shapes or ()),
        opt_shapes=parse_shapes(opt_shapes or ()),
        max_shapes=parse_shapes(max_shapes or ()),
        must_cover=parse_shapes(must_cover or ()),
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatibility=hardware_compatibility.value,
        sms=parse_sms(sm) if sm else (),
        optimisation_level=optimisation_level,
        calibration_cache=calibration_cache,
        io_types=io_types.value,
        keep_fp32=tuple(keep_fp32 or ()),
        keep_fp16=tuple(keep_fp16 or ()),
        preprocess=parse_preprocess(preprocess) if preprocess else None,
        labels=read_labels(labels) if labels else (),
    )
    follow = (lambda line: typer.echo(line, err=True)) if verbose else None
    sidecar = build_engine(onnx, engine, options, follow)
    if json:
        typer.echo(sidecar.model_dump_json(indent=1))
    else:
        _show(sidecar, engine)


def _show(sidecar: Sidecar, engine: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trtkit.flavour import TITLES
    from trtkit.tensors import shape_text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("engine", f"{engine}  {engine.stat().st_size / 1e6:.1f} MB")
    table.add_row("precision", sidecar.precision.upper())
    table.add_row("for", f"SM {', '.join(sidecar.sms)}; {TITLES[sidecar.flavour]} {sidecar.tensorrt_version}")
    for spec in sidecar.inputs:
        span = sidecar.profile.get(spec.name)
        shapes = f"  {' / '.join(map(shape_text, (span.min, span.opt, span.max)))}" if span else ""
        table.add_row("input", f"{spec}{shapes}")
    for spec in sidecar.outputs:
        table.add_row("output", str(spec))
    table.add_row("layers", str(len(sidecar.layers) or "unknown: the engine cannot be loaded here"))
    for caveat in sidecar.caveats:
        table.add_row("[yellow]note[/]", caveat.text)
    Console(highlight=False, soft_wrap=True).print(table)
