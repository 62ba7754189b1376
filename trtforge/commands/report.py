"""report: join the reports of a night whose work was shared out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.errors import RequestError
from trtforge.nightly.report import joined, read_report, write_report
from trtforge.terminal import Terminal


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Where reports are, in them or below.", exists=True, file_okay=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the joined one goes.")] = Path(
        "nightly"
    ),
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Join the reports that `nightly` and `lock --refresh` wrote; exits as one nightly would have."""
    files = [file for folder in folders for file in sorted(folder.rglob("report.json"))]
    if not files:
        raise RequestError(
            f"there is no report.json in {', '.join(map(str, folders))}",
            ("next", "name the folders that `nightly --report` and `lock --report` wrote"),
        )
    whole = joined([read_report(file) for file in files])
    write_report(whole, output)
    terminal = Terminal(json=json)
    terminal.answer(whole.model_dump(mode="json"))
    terminal.say(whole.summary, f"report   {output / 'report.md'}")
    if not whole.ok:
        raise typer.Exit(1)
