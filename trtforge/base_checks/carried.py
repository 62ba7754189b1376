"""Which cells of the matrix a base could carry, and which rules stand against the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trtforge.axes import BroughtBase
from trtforge.base import verify_base
from trtforge.cells import Cells
from trtforge.errors import UnfitBase

if TYPE_CHECKING:
    from trtforge.base import Base
    from trtforge.cells import Cell
    from trtforge.matrix import Matrix

NAME = "my-base"
"""What the base is called on the axis `os`, until a person finds a better name."""


@dataclass(frozen=True)
class Carried:
    """The cells that fit, and for the others: rule -> how many it stands against, and why.

    A cell that several rules forbid counts for the first.
    """

    cells: tuple[Cell, ...]
    against: dict[str, int] = field(default_factory=dict)
    because: dict[str, str] = field(default_factory=dict)


def carried(base: Base, matrix: Matrix) -> Carried:
    """Judge every cell with the base's own torch and Python, in the default variant, by what was found."""
    cells = Cells(_with(base, matrix))
    fitting: list[Cell] = []
    against: Counter[str] = Counter()
    because: dict[str, str] = {}
    for verdict in cells.every():
        if verdict.broken:
            rule = verdict.broken[0]
            # What is said of many cells names no one's values: {cuda} becomes <cuda>.
            name, why = rule.id, rule.because.replace("{", "<").replace("}", ">")
        else:
            try:
                verify_base(base, cells, verdict.cell)
            except UnfitBase as unfit:
                name, why = next(iter(unfit.misfits.items()))
            else:
                fitting.append(verdict.cell)
                continue
        against[name] += 1
        because.setdefault(name, why)
    return Carried(tuple(fitting), dict(against.most_common()), because)


def _with(base: Base, matrix: Matrix) -> Matrix:
    """`matrix` with this base as the only OS, and of torch, Python, variant and code what it can have."""
    axes = matrix.axes
    stated = BroughtBase(base=f"{NAME}@{base.manifest}", python=base.target.python, glibc=base.glibc or "0")
    release = base.torch.partition("+")[0]
    variant = matrix.defaults.get("variant") or next(iter(axes.variant))
    torch = {release: axes.torch[release]} if release in axes.torch else axes.torch
    only = {
        "os": {NAME: stated},
        "torch": torch,
        "python": [base.target.python],
        "variant": {variant: axes.variant[variant]},
        "code": axes.code[:1],
    }
    return matrix.model_copy(update={"axes": axes.model_copy(update=only)})
