"""nightly: refresh the lock, publish what that changed, prune, report."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from trtforge.cells import Cell, Cells
from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import JobsOption, SchedulerOption, Session, with_session
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.nightly.changes import Changes, changelog
from trtforge.nightly.nightly import Night, untouched_report
from trtforge.nightly.renewal import renew, write
from trtforge.nightly.report import Report, write_report
from trtforge.nightly.tasks import look, tasks
from trtforge.production.production import Outcome, Production
from trtforge.progress import Progress
from trtforge.project import Project
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.prune import prune
from trtforge.publishing.publish import require_redistribution
from trtforge.recipe import Recipe
from trtforge.registry.namespace import Namespace
from trtforge.terminal import Terminal


@with_session
def nightly(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    no_refresh: Annotated[
        bool, typer.Option("--no-refresh", help="Build what is locked: the lock was refreshed elsewhere.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say and report what would be done; change nothing.")
    ] = False,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Publish nothing whose GPU checks were skipped.")
    ] = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = "",
    report: Annotated[Path, typer.Option(help="Folder for report.md, report.html and report.json.")] = Path(
        "nightly"
    ),
) -> None:
    """Refresh the lock, publish the cells whose recipe changed, prune, and report.

    Selectors choose among the published cells; nothing is pruned then. Exits with 1 if a cell failed or is
    held.
    """
    project, terminal, start = session.project, session.terminal, time.monotonic()
    wanted = _wanted(session, project.cells)
    with (
        terminal.progress() as progress,
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
    ):
        require_redistribution(namespace, project.matrix.registry)
        day = namespace.now().date()
        lock, changes, kept = project.read_lock(fresh=no_refresh), Changes(), dict[str, str]()
        cells: Cells | None = None
        if not no_refresh:
            renewal = renew(project, lock, progress)
            lock, changes, kept, cells = renewal.lock, renewal.changes, renewal.kept, renewal.cells
            if not dry_run:  # before anything is built: git has the difference, whatever comes
                project = write(project, renewal)
        seen = look(namespace, progress)
        todo = tasks(wanted, lock, project, seen, cells)

        def produce(chains: Sequence[tuple[Recipe, ...]]) -> Generator[Outcome]:
            count, published = session.jobs(jobs).count, seen.published(todo)
            return Production(project, namespace, progress, count, published, scheduler).run(chains)

        night = Night(namespace, progress, produce, day, require_gpu)
        done = [untouched_report(task) for task in todo] if dry_run else night.run(todo)
        published = any(cell.result == "published" for cell in done)
        pruned = _prune(project, namespace, progress) if published and not session.request else ()
    whole = Report(
        day=day,
        namespace=str(namespace),
        changes=changes,
        cells=tuple(cell.model_copy(update={"kept": kept.get(cell.cell, "")}) for cell in done),
        pruned=pruned,
        seconds=time.monotonic() - start,
    )
    write_report(whole, report)
    _show(terminal, whole, report)
    if not whole.ok:
        raise typer.Exit(1)


def _wanted(session: Session, cells: Cells) -> list[Cell]:
    """The published cells; with selectors, those among them that these select."""
    wanted = [choice.cell for choice in cells.published(session.request)]
    if not wanted:
        typed = " ".join(f"--{axis} {','.join(values)}" for axis, values in session.request.items())
        raise RequestError(
            f"no published cell is {typed}",
            ("published", ", ".join(cells.name(choice.cell) for choice in cells.published())),
            ("next", "leave out a selector, or add the cell to publish: in matrix.yaml"),
        )
    return wanted


def _prune(project: Project, namespace: Namespace, progress: Progress) -> tuple[str, ...]:
    """What was removed by the policy; a registry that does not let us is no failure of the night."""
    keep = project.matrix.nightly.keep
    try:
        pruned = prune(namespace, read_catalogue(namespace, progress), keep, progress)
    except EnvironmentLack as error:
        progress.note(f"nothing was pruned: {error.problem}")
        return ()
    return (*pruned.images, *pruned.tags, *pruned.layers)


def _show(terminal: Terminal, whole: Report, folder: Path) -> None:
    terminal.answer(whole.model_dump(mode="json") | {"summary": whole.summary, "ok": whole.ok})
    terminal.say(*changelog(whole.changes))
    for cell in whole.sorted_cells():
        terminal.say(f"{cell.cell:<52} {cell.result:<11} {cell.why}")
    if whole.pruned:
        terminal.say(f"removed by policy: {', '.join(whole.pruned)}")
    terminal.say("", whole.summary, f"report   {folder / 'report.html'}")
