from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lock_factory import lock_of
from trtforge.availability import Availability
from trtforge.index.uv import Sources
from trtforge.lock import Lock

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cell, Cells

EMPTY = Lock(inputs="x")


class Index:
    """An index that answers, or is silent for a reason; remembers how often it was asked."""

    def __init__(self, silent: str | None) -> None:
        self.silent = silent
        self.asked: list[str] = []

    def __call__(self, url: str, _patience_s: float, _sources: Sources) -> str | None:
        self.asked.append(url)
        return self.silent


def pick(cells: Cells, **request: str) -> Cell:
    (choice,) = cells.choose({axis: (value,) for axis, value in request.items()})
    return choice.cell


def sources(cells: Cells, house: Path | None = None, *, offline: bool = False) -> Sources:
    return Sources(cells.matrix.indexes, house, offline)


def test_what_is_locked_can_be_had_and_nobody_is_asked(cells: Cells) -> None:
    cell, index = pick(cells, tensorrt="full"), Index("down")
    assert Availability(cells, lock_of(cells, cell), sources(cells), index)(cell) is None
    assert index.asked == []


def test_a_silent_index_rules_out_what_only_it_has(cells: Cells) -> None:
    index = Index("timed out")
    available = Availability(cells, EMPTY, sources(cells), index)
    reason = available(pick(cells, tensorrt="full"))
    assert reason
    assert "nvidia" in reason
    assert "timed out" in reason
    assert available(pick(cells, tensorrt="rtx")) is None


def test_each_index_is_asked_once(cells: Cells) -> None:
    index = Index(None)
    available = Availability(cells, EMPTY, sources(cells), index)
    for arch in ("ampere", "ada", "hopper"):
        assert available(pick(cells, arch=arch, tensorrt="full")) is None
    assert len(index.asked) == 1


def test_a_wheelhouse_makes_up_for_an_index(cells: Cells, tmp_path: Path) -> None:
    cell = pick(cells, cuda="12.8", tensorrt="full")
    other = tmp_path / f"tensorrt_cu13_libs-{cell.tensorrt}-py3-none-manylinux_2_28_x86_64.whl"
    other.touch()
    available = Availability(cells, EMPTY, sources(cells, tmp_path, offline=True), Index("down"))
    assert available(cell) == f"tensorrt_cu12_libs {cell.tensorrt} is not in the wheelhouse (offline)"
    other.rename(tmp_path / other.name.replace("cu13", "cu12"))
    assert available(cell) is None


def test_offline_asks_nobody(cells: Cells) -> None:
    index = Index(None)
    available = Availability(cells, EMPTY, sources(cells, offline=True), index)
    assert available(pick(cells, tensorrt="rtx")) is not None
    assert index.asked == []


def test_an_unlocked_cell_is_not_a_locked_one(cells: Cells) -> None:
    cell = pick(cells, tensorrt="full")
    lock = lock_of(cells, cell)
    (locked,) = lock.cells.values()
    unlocked = locked.model_copy(update={"state": "unlocked", "reason": "down"})
    lock = lock.model_copy(update={"cells": {cells.tag(cell): unlocked}})
    assert Availability(cells, lock, sources(cells), Index("down"))(cell) is not None
