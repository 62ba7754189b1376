"""lock: resolve cells into matrix.lock."""

from __future__ import annotations

from typing import Annotated

import typer

from trtforge.cells import Cell
from trtforge.commands.selection import Session, with_session
from trtforge.errors import LockError
from trtforge.lock import Lock


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
    cells = {choice.cell: None for choice in session.published()}
    cells |= {Cell(**locked.axes): None for locked in old.cells.values()}
    if session.request:
        cells |= {choice.cell: None for choice in project.cells.choose(session.request)}
    valid = [cell for cell in cells if not project.cells.verdict(cell).broken]
    with terminal.progress() as progress:
        how = {"reach": lambda _pin: None} if upgrade else {}
        start = old.model_copy(update={"cells": {}})
        new = project.locking(start, progress, **how).lock(valid, project.inputs)
    if not dry_run:
        project.write_lock(new)
    changes = _changes(old, new)
    terminal.answer({
        "cells": {tag: {"state": cell.state, "reason": cell.reason} for tag, cell in new.cells.items()},
        "changes": changes,
    })  # fmt: skip
    for tag, cell in new.cells.items():
        terminal.say(f"{tag:<52} {cell.state:<9} {cell.reason}".rstrip())
    terminal.say("", *(changes or ["no package changed"]))


def _readable(session: Session) -> Lock:
    """The lock that is there, stale or not: its pins are kept. One that was edited is dropped."""
    try:
        return session.project.read_lock(fresh=False)
    except LockError as error:
        session.terminal.warn(f"starting from nothing: {error.problem}")
        return Lock(inputs="")


def _changes(old: Lock, new: Lock) -> list[str]:
    """What differs, a line a package: name, from, to."""
    before, after = _versions(old), _versions(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        gone, come = (
            before.get(name, set()) - after.get(name, set()),
            after.get(name, set()) - before.get(name, set()),
        )
        if gone or come:
            lines.append(f"{name}  {', '.join(sorted(gone)) or 'new'} -> {', '.join(sorted(come)) or 'gone'}")
    return lines


def _versions(lock: Lock) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for pin in lock.wheels.values():
        versions.setdefault(pin.name, set()).add(pin.version)
    for system, packages in lock.os.items():
        for package in packages:
            versions.setdefault(f"{system}: {package.name}", set()).add(package.version)
    return versions
