"""What the catalogue says of an image beside its bytes: axes, tags, packages, and the GPUs it is for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trtforge.layers.sources import LinksSource, OsSource, PackagesSource, ToolkitSource
from trtforge.sizes.budget import budget_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cells import Cell, Cells
    from trtforge.policy import Budget
    from trtforge.recipe import Recipe

_AXES = {"os": ("os", "python"), "pytorch-cuda": ("cuda", "torch", "build", "os", "python", "code")}
"""The axes that decide the images of the chain which several cells share, a slim one also the architecture; a
cell's own has all, torch's if there is any."""


@dataclass(frozen=True)
class Facts:
    """See `entry.Entry` for the fields; budget: what the image may have."""

    tags: tuple[str, ...]
    axes: dict[str, str]
    sm: tuple[str, ...]
    driver: str
    packages: dict[str, str]
    budget: Budget


def facts_of(cell: Cell, chain: Sequence[Recipe], cells: Cells) -> dict[str, Facts]:
    """For each image of a cell's chain, by the key of its recipe, what the catalogue says of it."""
    return {recipe.key: _facts(cell, recipe, cells) for recipe in chain}


def _facts(cell: Cell, recipe: Recipe, cells: Cells) -> Facts:
    tags = tuple(ref.rpartition(":")[2] for ref in recipe.refs)
    owner = _owner(recipe.image, tags[-1], cells)
    with_torch = cells.variant(cell).torch
    own = tuple(axis for axis in cell.axes() if with_torch or axis not in ("torch", "build", "code"))
    decide = _AXES.get(recipe.image, own)
    if recipe.image == "pytorch-cuda" and cell.code == "slim":
        decide = (*decide, "arch")
    axes = {axis: value for axis, value in cell.axes().items() if axis in decide}
    return Facts(
        tags=tags if owner is None or cells.name(owner) == cells.name(cell) else tags[:1],
        axes=axes,
        sm=_sm(cell, recipe, cells) if "arch" in axes else (),
        driver=cells.matrix.axes.cuda[cell.cuda].driver if "cuda" in axes else "",
        packages=_packages(recipe),
        budget=budget_of(recipe.image, cell, cells),
    )


def _sm(cell: Cell, recipe: Recipe, cells: Cells) -> tuple[str, ...]:
    return cells.slim_sm(cell) if recipe.image == "pytorch-cuda" else cells.sm(cell)


def _packages(recipe: Recipe) -> dict[str, str]:
    """Name -> version of the wheels and Debian packages in the layers that `recipe` adds."""
    packages = dict(recipe.base.packages) if recipe.base else {}
    for source in recipe.sources.values():
        if isinstance(source, OsSource | PackagesSource | ToolkitSource):
            packages |= {package.name: package.version for package in source.packages}
        if not isinstance(source, LinksSource):
            packages |= {pin.name: pin.version for pin in source.pins}
    return dict(sorted(packages.items()))


def _owner(image: str, tag: str, cells: Cells) -> Cell | None:
    """The published cell whose short tag of `image` this is. Cells of several flavours may have the same: it
    belongs to the one that `publish` in matrix.yaml lists first, whichever is published last."""
    return _owners(cells).get((image, tag))


@lru_cache(maxsize=1)
def _owners(cells: Cells) -> dict[tuple[str, str], Cell]:
    owners: dict[tuple[str, str], Cell] = {}
    for row in cells.matrix.publish:
        for choice in cells.choose(row.request()):
            named = cells.variant(choice.cell).image, cells.short_tag(choice.cell)
            owners.setdefault(named, choice.cell)
    return owners
