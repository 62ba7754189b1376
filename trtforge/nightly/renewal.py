"""Tonight's matrix and lock: bases follow their tags, versions rise within their steps; written at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.cells import Cells
from trtforge.lock import inputs_checksum
from trtforge.nightly.bases import moved, moves, rewritten, unfit
from trtforge.nightly.changes import Changes, differences
from trtforge.nightly.refresh import RememberedWheels, refresh
from trtforge.project import Project
from trtforge.registry.access import Access
from trtforge.registry.connection import Connection
from trtforge.registry.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from trtforge.lock import Lock
    from trtforge.locking import Locking
    from trtforge.nightly.bases import Move
    from trtforge.oci import Digest
    from trtforge.progress import Progress
    from trtforge.registry.reference import Reference


@dataclass(frozen=True)
class Renewal:
    """What a refresh found.

    cells: of the matrix with the `moves`. changes: what differs from the lock before.
    kept: tag of a cell -> why it keeps what was locked before.
    """

    cells: Cells
    lock: Lock
    moves: tuple[Move, ...]
    changes: Changes
    kept: dict[str, str]


def registry_digest(reference: Reference) -> Digest | None:
    """What a tag in a registry names now; None: there is no such tag."""
    with Connection(reference.host, Access()) as connection:
        return Repository(connection, reference.name).find_digest(reference.version)


def renew(
    project: Project,
    old: Lock,
    progress: Progress,
    find_digest: Callable[[Reference], Digest | None] = registry_digest,
) -> Renewal:
    """Refresh `old` within the matrix's policy: the published cells, and the others that it holds.

    Changes nothing; see `write`.
    """
    policy = project.matrix.nightly.refresh
    taken, stayed = _follow(project, old, progress, find_digest) if policy.bases else ((), {})
    cells = Cells(moved(project.matrix, taken))
    wheels = RememberedWheels()

    def locking(**how: object) -> Locking:
        start = old.model_copy(update={"cells": {}})
        return project.locking(start, progress, cells=cells, wheels=wheels, **how)

    inputs = inputs_checksum(cells.matrix, project.root / "images", project.projects)
    refreshed = refresh(old, project.lockable(old), inputs, policy, locking)
    kept = dict(refreshed.kept)
    for tag, cell in refreshed.lock.cells.items():
        if why := stayed.get(cell.axes["os"]):
            kept[tag] = "; ".join(filter(None, (why, kept.get(tag))))
    notes = project.matrix.nightly.release_notes
    changes = differences(old, refreshed.lock, notes, {move.os: move.digests for move in taken})
    return Renewal(cells, refreshed.lock, taken, changes, kept)


def _follow(
    project: Project, old: Lock, progress: Progress, find_digest: Callable[[Reference], Digest | None]
) -> tuple[tuple[Move, ...], dict[str, str]]:
    """The moves that can be taken, and why the others are not."""
    found, stayed = moves(project.matrix, find_digest)
    cells = Cells(moved(project.matrix, found))
    wanted = project.lockable(old)
    for move in found:
        if why := unfit(move, cells, wanted, lambda reference: project.bring(reference, progress), progress):
            stayed[move.os] = why
    return tuple(move for move in found if move.os not in stayed), stayed


def write(project: Project, renewal: Renewal) -> Project:
    """Write matrix.lock, and the digests in matrix.yaml; the project as it is then."""
    if renewal.moves:
        file = project.root / "matrix.yaml"
        text = rewritten(file.read_text(encoding="utf-8"), renewal.moves)
        new = file.with_suffix(".yaml.new")
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    project.write_lock(renewal.lock)
    return Project(project.root, project.wheelhouse, project.offline)
