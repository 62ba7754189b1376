"""`trtkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trtkit.errors import RequestError
from trtkit.export.options import OPSET, Device, Exporter, ExportOptions, parse_dynamic, parse_input
from trtkit.export.run import export_onnx
from trtkit.tensors import parse_shapes, shape_text

if TYPE_CHECKING:  # it brings onnx with it
    from trtkit.export.report import ExportReport


def export(
    source: Annotated[str, typer.Argument(
        help="torchvision:NAME, package.module:callable, FILE.py:callable, a TorchScript or a .pt2 file.")],
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", help="The ONNX file; default: the model's name, here.")] = None,
    inputs: Annotated[list[str] | None, typer.Option(
        "--input", metavar="NAME:SHAPE[:TYPE]",
        help="An example input: input:1x3x224x224, tokens:1x16:int64.")] = None,
    dynamic: Annotated[list[str] | None, typer.Option(
        metavar="NAME:AXES",
        help="Dynamic dimensions: input:0=batch,2=height. Default: 0=batch, of every input.")] = None,
    static: Annotated[bool, typer.Option("--static", help="Every dimension is fixed.")] = False,
    batches: Annotated[str, typer.Option(help="Batch sizes to compare with PyTorch at.")] = "1,4,8",
    compare: Annotated[list[str] | None, typer.Option(
        metavar="NAME:SHAPE,...", help="Further shapes to compare at: tokens:2x32,mask:2x32.")] = None,
    output_names: Annotated[list[str] | None, typer.Option(
        "--output-name", help="Of an output, in the model's order.")] = None,
    opset: Annotated[int, typer.Option(min=7, help="ONNX opset.")] = OPSET,
    exporter: Annotated[Exporter | None, typer.Option(
        help="PyTorch's exporter; default: dynamo, torchscript for TorchScript files.")] = None,
    weights: Annotated[Path | None, typer.Option(
        help="A state dict; default: random weights, from --seed.")] = None,
    translate: Annotated[str | None, typer.Option(
        metavar="FILE.py:TABLE", help="Translations of operators that the exporter does not know.")] = None,
    device: Annotated[Device, typer.Option(
        help="Where PyTorch runs; auto: on the GPU, if there is one.")] = "auto",
    tolerance: Annotated[float | None, typer.Option(
        min=1e-12, max=0.999, help="Largest difference of an output, over its largest magnitude."
    )] = None,
    seed: Annotated[int, typer.Option(help="Of random weights.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:  # fmt: skip
    """Export a PyTorch model to ONNX, and compare the two."""
    if static and dynamic:
        raise RequestError("--static and --dynamic contradict each other", ("next", "give one of them"))
    options = ExportOptions(
        inputs=tuple(map(parse_input, inputs or ())),
        dynamic={} if static else parse_dynamic(dynamic or ()) or None,
        batches=_sizes(batches),
        compare=tuple(parse_shapes([one]) for one in compare or ()),
        output_names=tuple(output_names or ()),
        opset=opset,
        exporter=exporter,
        weights=weights,
        translations=translate,
        device=device,
        tolerance=tolerance,
        seed=seed,
    )
    report = export_onnx(source, out or default_output(source), options)
    if json:
        print(report.model_dump_json(indent=1))
    else:
        _show(report)


def default_output(source: str) -> Path:
    """torchvision:resnet50 -> resnet50.onnx, models/net.pt2 -> net.onnx."""
    name = source.rpartition(":")[2]
    return Path(Path(name).stem + ".onnx")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise RequestError(f"{text!r} are no batch sizes", ("next", "write --batches 1,4,8"))
    return tuple(map(int, sizes))


def _show(report: ExportReport) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{report.path}  {report.size / 1e6:,.1f} MB, opset {report.opset}, sha256 {report.sha256[:12]}"
    )
    console.print(
        f"  {'from':<8}{report.source}, {report.exporter} exporter, torch {report.torch}, {report.device}"
    )
    if report.external_data:
        console.print(f"  {'weights':<8}{report.external_data}, which belongs beside it")
    for label, specs in (("inputs", report.inputs), ("outputs", report.outputs)):
        console.print(f"  {label:<8}" + ", ".join(map(str, specs)))
    most = ", ".join(f"{count} {name}" for name, count in list(report.nodes.items())[:6])
    console.print(f"  {'nodes':<8}{sum(report.nodes.values())}: {most}")
    console.print("\nONNX Runtime on the CPU against PyTorch:")
    table = Table("at", "output", "max abs", "max rel", "cosine", "top-1", box=None, pad_edge=False)
    for one in report.comparisons:
        at = ", ".join(f"{name} {shape_text(shape)}" for name, shape in one.shapes.items())
        for name, it in one.outputs.items():
            table.add_row(at, name, *map(_number, (it.max_abs, it.max_rel, it.cosine, it.top1)))
            at = ""
    console.print(table)
    for name, it in report.comparisons[0].outputs.items():
        if it.shared:
            console.print(f"note: PyTorch's own {name} is {', '.join(it.shared)}, so this says little of it")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 0.9 else f"{value:.6f}"
