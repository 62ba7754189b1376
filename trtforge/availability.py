"""Whether a cell's TensorRT can be had here and now, asked before `auto` chooses a flavour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.index.resolve import index_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from trtforge.cells import Cell, Cells
    from trtforge.index.uv import Sources
    from trtforge.lock import Lock

PATIENCE_S = 3.0
"""How long an index may take to answer; a build that has all it needs should not wait longer to start."""


class Availability:
    """Asks an index for each library at most once.

    Args:
        answers: says why an index does not answer, None if it does; tests put their own here.
    """

    def __init__(
        self,
        cells: Cells,
        lock: Lock,
        sources: Sources,
        answers: Callable[[str, float, Sources], str | None] = index_answers,
    ) -> None:
        self._cells, self._lock, self._sources, self._answers = cells, lock, sources, answers
        self._known: dict[str, str | None] = {}

    def __call__(self, cell: Cell) -> str | None:
        """Why the TensorRT of `cell` cannot be had, or None where it can.

        It can where its wheels are locked, its libraries lie in the wheelhouse, or their index answers.
        """
        locked = self._lock.cells.get(self._cells.name(cell))
        if locked is not None and locked.state == "locked":
            return None
        flavour = self._cells.matrix.flavours[self._cells.flavour(cell)]
        project = self._cells.library(cell).libs.format_map(self._cells.facts(cell))
        libs = project.replace("-", "_")
        house = self._sources.wheelhouse
        if house and any(house.glob(f"{libs}-{cell.tensorrt}-*.whl")):
            return None
        if self._sources.offline:
            return f"{libs} {cell.tensorrt} is not in the wheelhouse (offline)"
        if flavour.libs_index == "default":
            return None
        url = f"{self._sources.indexes[flavour.libs_index].rstrip('/')}/{project}/"
        if url not in self._known:
            self._known[url] = self._answers(url, PATIENCE_S, self._sources)
        silent = self._known[url]
        return silent and f"the index {flavour.libs_index} does not answer, so no full library ({silent})"
