"""lock: resolve cells into matrix.lock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from trtforge.commands.selection import Session, with_session
from trtforge.errors import LockError, RequestError
from trtforge.lock import Lock
from trtforge.locking import anywhere, unmoved
from trtforge.nightly.changes import Changes, changelog, differences
from trtforge.nightly.renewal import renew, write
from trtforge.nightly.report import Report, write_report
from trtforge.terminal import Terminal


@with_session
def lock(
    session: Session,
    *,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest allowed of everything.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Raise what the matrix lets a nightly raise (docs/nightly.md).")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="With --refresh: a folder for what changed, as a report.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve and show, write nothing.")] = False,
) -> None:
    """Resolve the published cells, or the selected ones beside them, and write matrix.lock.

    Pins that still satisfy the matrix are kept unless --upgrade; Debian packages are always the current ones.
    """
    if refresh and (upgrade or session.request):
        raise RequestError(
            "--refresh raises the whole lock by the matrix's policy",
            ("next", "leave out --upgrade and the selectors"),
        )
    project, terminal = session.project, session.terminal
    old = _readable(session)
    if refresh:
        with terminal.progress() as progress:
            renewal = renew(project, old, progress)
        if not dry_run:
            write(project, renewal)
        if report:
            write_report(Report(day=datetime.now(UTC).date(), changes=renewal.changes), report)
        _show(terminal, renewal.lock, renewal.changes, renewal.kept)
        return
    cells = dict.fromkeys(project.lockable(old))
    if session.request:
        cells |= {choice.cell: None for choice in project.cells.choose(session.request)}
    with terminal.progress() as progress:
        start = old.model_copy(update={"cells": {}})
        locking = project.locking(start, progress, reach=anywhere if upgrade else unmoved)
        new = locking.lock(cells, project.inputs)
    if not dry_run:
        project.write_lock(new)
    changes = differences(old, new, project.matrix.nightly.release_notes)
    _show(terminal, new, changes, {})


def _show(terminal: Terminal, lock: Lock, changes: Changes, kept: dict[str, str]) -> None:
    terminal.answer({
        "cells": {tag: {"state": cell.state, "reason": cell.reason} for tag, cell in lock.cells.items()},
        "changes": changes.model_dump(mode="json"),
        "kept": kept,
    })  # fmt: skip
    for tag, cell in lock.cells.items():
        terminal.say(f"{tag:<52} {cell.state:<9} {cell.reason}".rstrip())
    for tag, why in kept.items():
        terminal.warn(f"{tag} keeps what was locked: {why}")
    terminal.say("", *(changelog(changes) or ["no package changed"]))


def _readable(session: Session) -> Lock:
    """The lock that is there, stale or not: its pins are kept. One that was edited is dropped."""
    try:
        return session.project.read_lock(fresh=False)
    except LockError as error:
        session.terminal.warn(f"starting from nothing: {error.problem}")
        return Lock(inputs="")
