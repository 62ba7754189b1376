"""The project folder as the commands see it: its matrix, its lock, its store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from trtforge.availability import Availability
from trtforge.base import Base, bring_base
from trtforge.cells import Cell, Cells
from trtforge.engine.engine import Engine
from trtforge.engine.setup import find_engine
from trtforge.index.local_project import local_projects
from trtforge.index.uv import Sources
from trtforge.lock import Lock, inputs_checksum, lock_text, read_lock
from trtforge.locking import Locking
from trtforge.matrix import Matrix, load_matrix
from trtforge.recipe import Recipes
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.index.local_project import LocalProject
    from trtforge.oci import Digest
    from trtforge.progress import Progress


def find_root() -> Path:
    """The folder with the matrix: this one, or else the one that trtforge itself lies in."""
    here = Path.cwd()
    return here if (here / "matrix.yaml").exists() else Path(__file__).parents[1]


@dataclass(frozen=True)
class Project:
    """A folder with a matrix.yaml.

    wheelhouse, offline: where packages may come from (see `uv.Sources`).
    """

    root: Path
    wheelhouse: Path | None = None
    offline: bool = False

    @cached_property
    def matrix(self) -> Matrix:
        return load_matrix(self.root / "matrix.yaml")

    @cached_property
    def cells(self) -> Cells:
        return Cells(self.matrix)

    @cached_property
    def recipes(self) -> Recipes:
        return Recipes(self.root, self.cells)

    @property
    def cache(self) -> Path:
        """Where everything that can be made again lies: $TRTFORGE_CACHE, or .cache/ in the project."""
        return Path(os.environ.get("TRTFORGE_CACHE") or self.root / ".cache").absolute()

    @cached_property
    def store(self) -> Store:
        return Store(self.cache / "store")

    @cached_property
    def sources(self) -> Sources:
        folders: dict[str, Path] = {
            canonicalize_name(name): self.root / folder for name, folder in self.matrix.projects.items()
        }
        build = tuple(self.matrix.sdist_build)
        return Sources(self.matrix.indexes, self.wheelhouse, self.offline, build, folders)

    @cached_property
    def projects(self) -> dict[str, LocalProject]:
        """The Python projects of this repository that go into images."""
        return local_projects(self.matrix.projects, self.root)

    @cached_property
    def inputs(self) -> Digest:
        return inputs_checksum(self.matrix, self.root / "images", self.projects)

    @property
    def lock_file(self) -> Path:
        return self.root / "matrix.lock"

    def read_lock(self, *, fresh: bool = True) -> Lock:
        """The lock; see `lock.read_lock` for what it refuses. `fresh=False` takes a stale one too."""
        return read_lock(self.lock_file, self.inputs if fresh else None)

    def write_lock(self, lock: Lock) -> None:
        """Replace the lock at once."""
        new = self.lock_file.with_suffix(".lock.new")
        new.write_text(lock_text(lock), encoding="utf-8")
        new.replace(self.lock_file)

    def engine(self) -> Engine:
        """The Engine that docker would use, or else the one that trtforge started.

        Raises:
            EnvironmentLack: neither answers.
        """
        return Engine.connect(find_engine(self.cache))

    def availability(self, lock: Lock) -> Availability:
        """Says whether a cell's TensorRT can be had, given what is locked."""
        return Availability(self.cells, lock, self.sources)

    def bring(self, reference: str, progress: Progress) -> Base:
        """Fetch and examine a base; see `bring_base`."""
        return bring_base(reference, self.engine, self.store, progress)

    def locking(self, old: Lock, progress: Progress, *, cells: Cells | None = None, **how: Any) -> Locking:
        """One run of locking that goes on from `old`; `how`: see `Locking`. `cells`: of a changed matrix."""

        def bring(reference: str) -> Base:
            return self.bring(reference, progress)

        return Locking(
            cells or self.cells, old, self.sources, progress, bring=bring, projects=self.projects, **how
        )

    def lockable(self, old: Lock) -> list[Cell]:
        """The cells that a lock is to hold: the published ones, and those of `old` that still are valid."""
        cells = {choice.cell: None for choice in self.cells.published()}
        cells |= {Cell(**locked.axes): None for locked in old.cells.values()}
        return [cell for cell in cells if self.cells.knows(cell) and not self.cells.verdict(cell).broken]

    def lock_missing(self, wanted: Iterable[Cell], lock: Lock, progress: Progress) -> Lock:
        """`lock` with every `wanted` cell in it; the new ones are resolved, said so, and written."""
        missing = [cell for cell in wanted if not _is_locked(lock, self.cells.name(cell))]
        if not missing:
            return lock
        progress.note(f"not locked yet, so locked now: {', '.join(map(self.cells.name, missing))}")
        lock = self.locking(lock, progress).lock(missing, self.inputs)
        self.write_lock(lock)
        return lock


def _is_locked(lock: Lock, tag: str) -> bool:
    return tag in lock.cells and lock.cells[tag].state == "locked"
