"""A built cell, measured: its report, its budget, and what changed since it was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.errors import OverBudget
from trtforge.image import find_image
from trtforge.sizes.budget import budget_of, examine
from trtforge.sizes.report import size_report
from trtforge.sizes.size import Size

if TYPE_CHECKING:
    from trtforge.cells import Cell
    from trtforge.lock import Lock
    from trtforge.policy import Budget
    from trtforge.project import Project
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.recipe import Recipe
    from trtforge.sizes.growth import Growth
    from trtforge.sizes.report import SizeReport


@dataclass(frozen=True)
class Measured:
    """The sizes of a cell's own image.

    growth: since it was last published, if that is known.
    over: what is wrong with the images of its chain that are over their budgets.
    """

    recipe: Recipe
    report: SizeReport
    budget: Budget
    growth: Growth | None
    over: tuple[OverBudget, ...]

    @property
    def left(self) -> Size:
        """What its budget has left; negative: it is over it."""
        return Size(self.budget.compressed, self.budget.on_disk) - self.report.ours


def measure(cell: Cell, lock: Lock, project: Project, catalogue: Catalogue | None) -> Measured | None:
    """The sizes of the image of `cell`; None: it is not in the store."""
    locked = lock.cells.get(project.cells.name(cell))
    if locked is None or locked.state != "locked":
        return None
    chain = project.recipes.chain(cell, lock)
    images = [find_image(recipe.ref, recipe.key, project.store) for recipe in chain]
    if (own := images[-1]) is None:
        return None
    growth, over = None, list[OverBudget]()
    for recipe, image in zip(chain, images, strict=True):
        if image:
            growth, error = examine(recipe, image, budget_of(recipe.image, cell, project.cells), catalogue)
            over += [error] if error else []
    report = size_report(chain[-1], own, project.store)
    return Measured(chain[-1], report, budget_of(chain[-1].image, cell, project.cells), growth, tuple(over))
