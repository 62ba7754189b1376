"""lock: resolve cells into matrix.lock."""

from __future__ import annotations

from typing import Annotated

import typer

from trtforge.commands.selection import Session, with_session
from trtforge.errors import LockError
from trtforge.lock import Lock
from trtforge.locking import anywhere, unmoved
from trtforge.nightly.changes import changelog, differences


@with_session
def lock(
    session: Session,
    *,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Take the newest allowed of everything.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve and show, write nothing.")] = False,
) -> None:
    """Resolve the published cells, or the selected ones beside them, and write matrix.lock.

    Pins that still satisfy the matrix are kept unless --upgrade; Debian packages are always the current ones.
    """
    project, terminal = session.project, session.terminal
    old = _readable(session)
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
    terminal.answer({
        "cells": {tag: {"state": cell.state, "reason": cell.reason} for tag, cell in new.cells.items()},
        "changes": changes.model_dump(mode="json"),
    })  # fmt: skip
    for tag, cell in new.cells.items():
        terminal.say(f"{tag:<52} {cell.state:<9} {cell.reason}".rstrip())
    terminal.say("", *(changelog(changes) or ["no package changed"]))


def _readable(session: Session) -> Lock:
    """The lock that is there, stale or not: its pins are kept. One that was edited is dropped."""
    try:
        return session.project.read_lock(fresh=False)
    except LockError as error:
        session.terminal.warn(f"starting from nothing: {error.problem}")
        return Lock(inputs="")
