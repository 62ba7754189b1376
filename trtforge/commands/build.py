"""build: the selected cells become tested images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trtforge.build import Build, Built
from trtforge.commands.plan import describe_plan, show_plan
from trtforge.commands.selection import Session, with_session
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
    jobs: Annotated[int, typer.Option(min=1, help="Layers and downloads at a time.")] = os.cpu_count() or 2,
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
            terminal.warn(f"{project.cells.short_tag(choice.cell)}: {reason}")
    with terminal.progress() as progress:
        lock = project.lock_missing([choice.cell for choice in choices], project.read_lock(), progress)
        run = Build(
            project, progress, builder, None if no_load else project.engine, run_smoke=not no_smoke, jobs=jobs
        )
        built = run.run([choice.cell for choice in choices], lock)
    for chain in built:
        _show(terminal, chain, tested=not (no_load or no_smoke))
    terminal.answer([[_answer(one) for one in chain] for chain in built])
    reports = [chain[-1].record.smoke for chain in built if chain[-1].record.smoke]
    if junit:
        junit.write_text(as_junit(reports), encoding="utf-8")
    if not (no_load or no_smoke) and not all(report.ok for report in reports):
        raise typer.Exit(1)


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
