"""build: the selected cells become tested images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trtforge.build import Build, Built, CellBuilt
from trtforge.commands.plan import describe_plan, show_plan
from trtforge.commands.selection import JobsOption, Session, with_session
from trtforge.errors import RequestError
from trtforge.smoke import as_junit, as_table
from trtforge.terminal import Terminal, megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence


@with_session
def build(
    session: Session,
    *,
    builder: Annotated[
        Literal["oci", "docker"], typer.Option(help="Who assembles: trtforge itself, or the Engine.")
    ] = "oci",
    no_load: Annotated[bool, typer.Option("--no-load", help="Leave the images in the store.")] = False,
    no_smoke: Annotated[bool, typer.Option("--no-smoke", help="Do not test the images.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write smoke results as JUnit XML.")] = None,
    jobs: JobsOption = None,
) -> None:
    """Build, load and test the selected cells (the default verb)."""
    if no_load and builder == "docker":
        raise RequestError(
            "--no-load and --builder docker exclude each other: that builder works in the Engine",
            ("next", "leave one of them out"),
        )
    terminal, project = session.terminal, session.project
    choices = session.choose()
    if dry_run:
        show_plan(session, [describe_plan(session, choice) for choice in choices])
        return
    for choice in choices:
        for reason in choice.passed_over:
            terminal.warn(f"{project.cells.name(choice.cell)}: {reason}")
    with terminal.progress() as progress:
        lock = project.lock_missing([choice.cell for choice in choices], project.read_lock(), progress)
        run = Build(
            project,
            progress,
            builder,
            None if no_load else project.engine,
            run_smoke=not no_smoke,
            jobs=session.jobs(jobs).count,
        )
        cells = run.run([choice.cell for choice in choices], lock)
    tested = not (no_load or no_smoke)
    _tell(session, cells, tested)
    reports = [cell.chain[-1].record.smoke for cell in cells if cell.chain and cell.chain[-1].record.smoke]
    if junit:
        junit.write_text(as_junit(reports), encoding="utf-8")
    if any(cell.error for cell in cells) or (tested and not all(report.ok for report in reports)):
        raise typer.Exit(1)


def _tell(session: Session, cells: Sequence[CellBuilt], tested: bool) -> None:
    """Show what was built, then what was not, each reason once.

    Raises:
        ForgeError: the one reason, if nothing was built.
    """
    terminal, name = session.terminal, session.project.cells.name
    failed: dict[tuple[str, ...], list[CellBuilt]] = {}
    for cell in cells:
        if cell.error:
            why = (cell.error.problem, *(text for _, text in cell.error.facts))
            failed.setdefault(why, []).append(cell)
    if len(failed) == 1 and all(cell.error for cell in cells):
        raise cells[0].error or AssertionError
    for cell in cells:
        if cell.chain:
            _show(terminal, cell.chain, tested)
    terminal.answer([_cell_answer(cell, name(cell.cell)) for cell in cells])
    for same in failed.values():
        if error := same[0].error:
            terminal.trouble(error, *(("cell", name(cell.cell)) for cell in same))
    if failed:
        bad = sum(map(len, failed.values()))
        terminal.warn(f"{len(cells) - bad} cells built, {bad} not; the same command goes on from here")


def _cell_answer(cell: CellBuilt, name: str) -> Any:
    if cell.error:
        facts = [list(fact) for fact in cell.error.facts]
        return {"cell": name, "error": cell.error.problem, "facts": facts}
    return [_answer(one) for one in cell.chain]


def _show(terminal: Terminal, chain: Sequence[Built], tested: bool) -> None:
    last = chain[-1].record
    terminal.say("", *chain[-1].recipe.refs)
    if last.digest:
        terminal.say(f"  digest   {last.digest}")
        terminal.say(f"  size     {megabytes(last.size)} compressed, {megabytes(last.unpacked)} on disk")
    else:
        terminal.say(f"  image    {last.image_id}")
    made = sum(one.made for one in chain)
    terminal.say(f"  layers   {last.layers}: {made} new, {last.layers - made} reused")
    for one in chain:
        terminal.say(f"  {one.action:<8} {one.recipe.ref}")
    if not tested:
        terminal.say("  smoke    not run")
    elif last.smoke:
        terminal.say("", as_table(last.smoke))


def _answer(one: Built) -> dict[str, Any]:
    return {
        "image": one.recipe.image,
        "refs": list(one.recipe.refs),
        "action": one.action,
        "layers_made": one.made,
        **one.record.model_dump(mode="json"),
    }
