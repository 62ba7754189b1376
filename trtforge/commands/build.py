"""build: the selected cells become tested images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trtforge.build import Build, Built, CellBuilt
from trtforge.commands.plan import describe_plan, show_plan
from trtforge.commands.selection import JobsOption, Session, with_session
from trtforge.commands.size import last_published, size_answer, size_lines
from trtforge.errors import OverBudget, RequestError
from trtforge.sizes.budget import budget_of, over_budget
from trtforge.sizes.measured import Measured, measure
from trtforge.sizes.size import Size, human
from trtforge.smoke import as_junit, as_table
from trtforge.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtforge.cells import Cell


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
        catalogue = last_published(project, progress)
        sizes = {cell.cell: measure(cell.cell, lock, project, catalogue) for cell in cells if cell.chain}
    tested = not (no_load or no_smoke)
    _tell(session, cells, sizes, tested)
    reports = [cell.chain[-1].record.smoke for cell in cells if cell.chain and cell.chain[-1].record.smoke]
    if junit:
        junit.write_text(as_junit(reports), encoding="utf-8")
    over = [error for cell in cells for error in _over_budget(session, cell, sizes.get(cell.cell))]
    for error in {error.image: error for error in over}.values():
        terminal.trouble(error)
    if over or any(cell.error for cell in cells) or (tested and not all(report.ok for report in reports)):
        raise typer.Exit(1)


def _over_budget(session: Session, cell: CellBuilt, sizes: Measured | None) -> list[OverBudget]:
    """What is wrong with images of `cell` that are over their budgets; of those that only an Engine has, how
    much they take on its disk is known."""
    if sizes:
        return list(sizes.over)
    cells = session.project.cells
    found = [
        over_budget(
            one.recipe.ref,
            Size(0, one.record.unpacked),
            budget_of(one.recipe.image, cell.cell, cells),
            (),
            None,
        )
        for one in cell.chain
        if one.recipe.base is None
    ]
    return [error for error in found if error]


def _tell(
    session: Session, cells: Sequence[CellBuilt], sizes: Mapping[Cell, Measured | None], tested: bool
) -> None:
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
            _show(terminal, cell.chain, sizes.get(cell.cell), tested)
    terminal.answer([_cell_answer(cell, name(cell.cell), sizes.get(cell.cell)) for cell in cells])
    for same in failed.values():
        if error := same[0].error:
            terminal.trouble(error, *(("cell", name(cell.cell)) for cell in same))
    if failed:
        bad = sum(map(len, failed.values()))
        terminal.warn(f"{len(cells) - bad} cells built, {bad} not; the same command goes on from here")


def _cell_answer(cell: CellBuilt, name: str, sizes: Measured | None) -> Any:
    if cell.error:
        facts = [list(fact) for fact in cell.error.facts]
        return {"cell": name, "error": cell.error.problem, "facts": facts}
    *below, last = map(_answer, cell.chain)
    return [*below, last | ({"sizes": size_answer(sizes)} if sizes else {})]


def _show(terminal: Terminal, chain: Sequence[Built], sizes: Measured | None, tested: bool) -> None:
    last = chain[-1].record
    terminal.say("", *chain[-1].recipe.refs)
    if last.digest:
        terminal.say(f"  digest   {last.digest}")
    else:
        terminal.say(f"  image    {last.image_id}")
    terminal.say(*(size_lines(sizes) if sizes else [f"  size     {human(last.unpacked)} on disk"]))
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
