"""`trtkit pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trtkit.pipeline import PipelineReport, StepResult

COLOURS = {"done": "green", "unchanged": "cyan", "skipped": "yellow", "held": "green", "broken": "red"}


def pipeline(
    spec: Annotated[Path, typer.Argument(metavar="MODEL.yaml", help="What to make.", show_default=False)],
    work: Annotated[
        Path | None,
        typer.Option(
            help="Where everything goes, and what is there is used.", show_default="trtkit-NAME here"
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Do every step anew.")] = False,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="What is skipped is exit 3.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Export, calibrate, build, verify and bench as a YAML file says; what is unchanged is not redone.

    Exit 1 if a step fails, an engine's outputs are wrong, or a budget of the file does not hold.
    """
    from rich.console import Console

    from trtkit.errors import EnvironmentLack, WorkFailed
    from trtkit.pipeline import read_spec, run_pipeline

    wanted = read_spec(spec)
    folder = (work or Path(f"trtkit-{wanted.name}")).absolute()
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with Console(stderr=True).status("") as status:
        report = run_pipeline(
            wanted,
            folder,
            again=again,
            begun=lambda said: status.update(f"{wanted.name}: {said}"),
            ended=lambda result: _step(result, console),
        )
    _show(report, console)
    if json:
        typer.echo(report.model_dump_json(indent=1))
    if not report.ok:
        broken = [
            f"{one.name} {one.value:.4g}: {one.reason}"
            for one in report.budgets
            if one.status == "broken" and one.value is not None
        ]
        raise WorkFailed(
            f"{wanted.name} is not as it should be",
            *(("budget", text) for text in broken),
            ("next", "see above; everything that was made is in " + str(folder)),
        )
    if require_gpu and report.skipped:
        raise EnvironmentLack(
            "not all could be done here",
            *(("skipped", text) for text in report.skipped),
            ("next", "run it on the machine that serves the engines"),
        )


def _step(result: StepResult, console: Console) -> None:
    from rich.markup import escape

    seconds = f"{result.seconds:7.1f} s" if result.action == "done" else " " * 9
    console.print(
        f"{result.name:<12} [{COLOURS[result.action]}]{result.action:<9}[/] {seconds}  {escape(result.says)}"
    )


def _show(report: PipelineReport, console: Console) -> None:
    """The article's table, what was skipped, and the budgets."""
    from rich.markup import escape

    if report.bench:
        from trtkit.bench.table import show

        console.print()
        show(report.bench, console)
    if report.verify:
        console.print()
        for one in report.verify.subjects:
            reason = f": {one.reason}" if one.reason else ""
            console.print(f"verify  {escape(one.file)}: {one.status}{escape(reason)}")
    if report.budgets:
        console.print()
    for budget in report.budgets:
        value = "" if budget.value is None else f"{budget.value:.4g}"
        reason = f"  {budget.reason}" if budget.reason else ""
        console.print(
            f"budget  {escape(budget.name):<32} {value:>8} of {budget.limit:<8.4g} "
            f"[{COLOURS[budget.status]}]{budget.status}[/]{escape(reason)}"
        )
