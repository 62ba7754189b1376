"""`trtkit verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from trtkit.verify import BadLayer, SubjectReport, VerifyReport

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow", "note": "cyan"}


def verify(
    subjects: Annotated[
        list[Path], typer.Argument(help="Engines (with their sidecars) and ONNX files.")
    ] = [],  # noqa: B006 typer's way
    reference: Annotated[Path | None, typer.Option("--reference", "-r", help="The FP32 ONNX file.")] = None,
    torch: Annotated[
        str | None,
        typer.Option(
            metavar="torchvision:NAME", help="Compare all with this PyTorch model, the ONNX file too."
        ),
    ] = None,
    shapes: Annotated[
        list[str],
        typer.Option(
            metavar="INPUT:1x3x224x224", help="Further shapes; of several inputs, joined with commas."
        ),
    ] = [],  # noqa: B006
    data: Annotated[
        Path | None, typer.Option(help="Samples: an .npz of inputs by name, or a folder of them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random inputs.")] = 0,
    bisect: Annotated[bool, typer.Option("--bisect", help="Name the first layer that goes wrong.")] = False,
    cosine: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Least cosine similarity; default: the precision's.")
    ] = None,
    top1: Annotated[float | None, typer.Option(min=0, max=1, help="Least top-1 agreement.")] = None,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="What is skipped is exit 3.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare engines and ONNX files with the model they came from; exit 1 where they differ too much."""
    from trtkit.errors import EnvironmentLack
    from trtkit.tensors import parse_shapes
    from trtkit.verify import VerifyOptions
    from trtkit.verify import verify as verify_all

    options = VerifyOptions(
        reference=reference,
        torch=torch,
        shapes=tuple(parse_shapes([one]) for one in shapes),
        data=data,
        seed=seed,
        bisect=bisect,
        cosine=cosine,
        top1=top1,
    )
    report = verify_all(subjects, options)
    if json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        _show(report)
    if report.status == "failed":
        raise typer.Exit(1)
    if report.status == "skipped" and require_gpu:
        skipped = [one for one in report.subjects if one.status == "skipped"]
        raise EnvironmentLack(
            "not all could be verified here",
            *(("skipped", f"{one.file}: {one.reason}") for one in skipped),
            ("next", "run it on the machine that serves the engine"),
        )


def _show(report: VerifyReport) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(f"reference  {escape(report.reference)} ({report.runner})")
    for note in report.notes:
        console.print(f"  [cyan]note[/]     {escape(note.text)}")
    for subject in report.subjects:
        colour = COLOURS[subject.status]
        reason = f": {subject.reason}" if subject.reason else ""
        ran = f" ({subject.runner})" if subject.runner else ""
        console.print(
            f"\n[bold]{escape(subject.file)}[/]{ran}  [{colour}]{subject.status}[/]{escape(reason)}"
        )
        for check in subject.checks:
            console.print(
                f"  [{COLOURS[check.status]}]{check.status:<8}[/] {check.name}: {escape(check.text)}"
            )
        if subject.rows:
            console.print(_table(subject))
        _show_pathologies(subject)
        if subject.bisection is not None:
            _show_bisection(subject)


def _table(subject: SubjectReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("  case", "shapes", "output", "max abs", "max rel", "cosine", "top-1", ""):
        number = title in {"max abs", "max rel", "cosine", "top-1"}
        table.add_column(title, justify="right" if number else "left", header_style="dim", overflow="fold")
    for row in subject.rows:
        one = row.comparison
        table.add_row(
            f"  {escape(row.case)}",
            escape(row.shapes),
            escape(row.output),
            _number(one.max_abs, ".2e"),
            _number(one.max_rel, ".2e"),
            _number(one.cosine, ".6f"),
            _number(one.top1, ".1%"),
            "[green]within[/]" if one.within else f"[red]{escape(one.why)}[/]",
        )
    return table


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _show_pathologies(subject: SubjectReport) -> None:
    """What each of them usually means, once."""
    from rich.console import Console

    from trtkit.verify.pathology import MEANING

    console = Console(highlight=False)
    for one in dict.fromkeys(one for row in subject.rows for one in row.comparison.pathologies):
        means, advice = MEANING[one]
        console.print(f"  [yellow]{one}[/]  {means}")
        console.print(f"  {'':<{len(one)}}  next: {advice}")


def _show_bisection(subject: SubjectReport) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    found = subject.bisection
    assert found is not None
    console.print(f"  bisected at {subject.bisected}: {found.compared} of {found.layers} layers compared")
    if found.first is None:
        console.print("  no layer leaves the tolerance")
        return
    bad: BadLayer = found.first
    console.print(
        f"  first to go wrong: [bold red]{escape(bad.node)}[/] ({bad.op}), "
        f"output {escape(bad.tensor)}: {escape(bad.comparison.why)}"
    )
    console.print(f"    {escape(bad.hint)}")
    if bad.unseen:
        console.print(f"    or one before it that could not be compared: {escape(', '.join(bad.unseen))}")
    console.print(_operands(bad))


def _operands(bad: BadLayer) -> Table:
    """The statistics of what the layer took and made, in the subject and in the reference."""
    from rich.markup import escape
    from rich.table import Table

    from trtkit.tensors import shape_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("    tensor", "", "min", "max", "mean", "NaN", "Inf"):
        table.add_column(
            title, justify="left" if title in {"    tensor", ""} else "right", header_style="dim"
        )
    for role, operand in [
        *(("weight" if one.weight else "input", one) for one in bad.inputs),
        ("output", bad.output),
    ]:
        sides = [("", operand.subject), *([("reference", operand.reference)] if operand.reference else [])]
        for side, one in sides:
            table.add_row(
                f"    {escape(operand.tensor)}" if not side else "",
                side or f"{role}, {one.dtype} {shape_text(one.shape)}",
                *(_number(value, ".4g") for value in (one.low, one.high, one.mean)),
                str(one.nan),
                str(one.inf),
            )
    return table
