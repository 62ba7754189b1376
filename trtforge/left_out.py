"""What file rules leave out of a cell's wheels, told rule by rule, with the bytes that it saves."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.cell_cuts import back_cuts, base_cuts, own_cuts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cell_cuts import Cuts
    from trtforge.cells import Cell, Cells
    from trtforge.file_rules import FileRule
    from trtforge.index.pins import Pin
    from trtforge.layers.cut import LeftOut
    from trtforge.lock import Lock
    from trtforge.store import Store


@dataclass(frozen=True)
class Saving:
    """What one rule leaves out of one wheel.

    wheel, disk: bytes that it saves of the wheel, and of its files; None: the wheel is not here.
    """

    pin: Pin
    left_out: LeftOut
    wheel: int | None
    disk: int | None


def cuts_of(cells: Cells, cell: Cell, lock: Lock) -> tuple[list[Pin], Cuts]:
    """The wheels in the locked `cell`'s own image, and what of them it has."""
    locked = lock.cells[cells.name(cell)]
    base, own, added = (
        lock.pins(name) if name else () for name in (locked.base, locked.tensorrt, locked.added)
    )
    cuts = base_cuts(cells, cell, base) | own_cuts(cells, cell, [*own, *added])
    return [*base, *own, *added], cuts | back_cuts(cells, cell, base, own)


def savings(pins: Sequence[Pin], cuts: Cuts, store: Store) -> list[Saving]:
    """What is left out of each of `pins`, rule by rule."""
    return [_saving(pin, rule, store) for pin in pins if pin.name in cuts for rule in cuts[pin.name].left_out]


def told(rules: Sequence[FileRule], found: Sequence[Saving]) -> list[tuple[str, str, str]]:
    """A row for each of the `rules` that leaves something out: its name, what it saves of what, and why."""
    rows = []
    for rule in rules:
        mine = [one for one in found if one.left_out.rule == rule.id]
        if mine:
            wheels = ", ".join(f"{one.pin.name} {one.pin.version}" for one in mine[:2])
            wheels = wheels if len(mine) < 3 else f"{len(mine)} wheels"
            rows.append((rule.id, _saved(mine) or rule.saves, f"of {wheels}: {rule.because}"))
    return rows


def _saved(found: Sequence[Saving]) -> str:
    """The bytes of several, if all are known."""
    if any(one.wheel is None for one in found):
        return ""
    wheel, disk = (sum(getattr(one, of) for one in found) for of in ("wheel", "disk"))
    return f"{wheel / 1e6:.1f} MB, {disk / 1e6:.1f} MB on disk"


def _saving(pin: Pin, rule: LeftOut, store: Store) -> Saving:
    path = store.file("wheels", pin.sha256, pin.filename)
    if not path.is_file():
        return Saving(pin, rule, None, None)
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if rule.names(member.filename)]
    sizes = sum(member.compress_size for member in members), sum(member.file_size for member in members)
    return Saving(pin, rule, *sizes)
