"""`trtkit calibrate`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trtkit.calibrate import CalibrationReport


class MethodName(str, Enum):
    entropy = "entropy"
    minmax = "minmax"
    percentile = "percentile"


def calibrate(
    onnx: Annotated[Path, typer.Argument(help="The network in FP32, an ONNX file.", show_default=False)],
    data: Annotated[str, typer.Option(
        metavar="FOLDER|FILE|module:callable", show_default=False,
        help="Samples: images, .npy or .npz files, or a data loader.")],
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", help="The network with Q/DQ nodes; default: ONNX.int8.onnx beside it.")] = None,
    samples: Annotated[int, typer.Option(help="To calibrate with, at most; 500 to 1000 are usual.")] = 500,
    method: Annotated[MethodName, typer.Option(help="How ranges follow from values.")] = MethodName.entropy,
    percentile: Annotated[float, typer.Option(help="Of that method: percent of values inside.")] = 99.99,
    cache: Annotated[Path | None, typer.Option(
        help="A file of ranges: used where it fits, written where it does not.")] = None,
    keep_fp16: Annotated[list[str] | None, typer.Option(
        metavar="PATTERN",
        help="Nodes to leave unquantised: a glob over name, outputs, type, PyTorch module.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order in which files are taken.")] = 0,
    preprocess: Annotated[str, typer.Option(
        metavar="imagenet|FILE.json", help="How images become the input.")] = "imagenet",
    evaluate: Annotated[int, typer.Option(help="Samples to compare INT8 with FP32 on.")] = 100,
    min_agreement: Annotated[float | None, typer.Option(
        min=0, max=1, help="Fail where fewer samples (0 to 1) keep their class.")] = None,
    calibrator: Annotated[bool, typer.Option(
        "--calibrator", help="Let TensorRT 10 calibrate on the GPU, and write its --cache alone.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:  # fmt: skip
    """Calibrate INT8: measure ranges on samples, and write them into the ONNX file as Q/DQ nodes."""
    from json import dumps

    from trtkit.calibrate import AgreementTooLow, CalibrateOptions, calibrate_in_tensorrt
    from trtkit.calibrate import calibrate as run
    from trtkit.commands.preprocess import parse_preprocess

    options = CalibrateOptions(
        data=data,
        samples=samples,
        method=method.value,
        percentile=percentile,
        cache=cache,
        keep_fp16=tuple(keep_fp16 or ()),
        seed=seed,
        preprocess=parse_preprocess(preprocess),
        evaluate=evaluate,
        min_agreement=min_agreement,
    )
    if calibrator:
        written = calibrate_in_tensorrt(onnx, options)
        typer.echo(dumps({"cache": str(written)}) if json else f"cache  {written}")
        return
    try:
        report = run(onnx, out or onnx.with_name(f"{onnx.stem}.int8.onnx"), options)
    except AgreementTooLow as error:
        _tell(error.report, json)
        raise
    _tell(report, json)


def _tell(report: CalibrationReport, json: bool) -> None:
    if json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        _show(report)


def _show(report: CalibrationReport) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    origin = {"none": "", "written": ", written to the cache", "reused": ", from the cache"}[report.cache]
    for label, text in (
        ("network", report.out),
        ("ranges", f"{report.method}, {report.samples} samples{origin}"),
        ("INT8", f"{report.quantised} nodes" + (f"; kept: {', '.join(report.kept)}" if report.kept else "")),
        ("compared", f"with FP32 on {report.evaluated} {report.evaluated_on.removeprefix('the ')}"),
        *(("skipped", f"{file.name}: {file.reason}") for file in report.skipped),
        *(("note", note) for note in report.notes),
    ):
        facts.add_row(label, Text(text))
    console.print(facts)
    numbers = (Column(name, justify="right") for name in ("top-1", "cosine", "SQNR", "max. difference"))
    outputs = Table("output", *numbers)
    for one in report.outputs:
        top1 = "-" if one.top1_agreement is None else f"{one.top1_agreement:.1%}"
        outputs.add_row(
            Text(one.name), top1, f"{one.cosine:.5f}", f"{one.sqnr_db:.1f} dB", f"{one.max_abs:.3g}"
        )
    console.print(outputs)
    layers = Table("loses most", "type", Column("SQNR", justify="right"), "to leave it unquantised")
    for layer in report.worst_layers:
        hint = f"--keep-fp16 {layer.node!r}"
        layers.add_row(Text(layer.node), layer.op_type, f"{layer.sqnr_db:.1f} dB", Text(hint))
    console.print(layers)
