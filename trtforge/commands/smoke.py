"""smoke: test the selected cells' images, which are in the Engine, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.commands.selection import Session, with_session
from trtforge.errors import RequestError
from trtforge.record import find_record, keep_record
from trtforge.smoke import as_junit, as_table
from trtforge.smoke import smoke as run_smoke


@with_session
def smoke(
    session: Session,
    *,
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML.")] = None,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--no-gpu", help="Default: if the Engine has one.")
    ] = None,
) -> None:
    """Run the smoke tests in images that were built."""
    project, terminal = session.project, session.terminal
    lock = project.read_lock()
    engine = project.engine()
    reports = []
    for choice in session.choose():
        recipe = project.recipes.chain(choice.cell, lock)[-1]
        if not engine.has(recipe.ref):
            raise RequestError(
                f"the Engine has no image {recipe.ref}",
                ("next", f"python build.py --cuda {choice.cell.cuda} --arch {choice.cell.arch} builds it"),
            )
        with terminal.progress() as progress, progress.task(f"smoke tests in {recipe.ref}"):
            report = run_smoke(engine, recipe.ref, gpu)
        if record := find_record(recipe.key, project.store):
            keep_record(record.model_copy(update={"smoke": report}), project.store)
        reports.append(report)
        terminal.say(recipe.ref, as_table(report), "")
    terminal.answer([report.model_dump(mode="json") | {"ok": report.ok} for report in reports])
    if junit:
        junit.write_text(as_junit(reports), encoding="utf-8")
    if not all(report.ok for report in reports):
        raise typer.Exit(1)
