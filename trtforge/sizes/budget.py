"""Whether an image keeps within its budget; and if not, by how much, and what to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.errors import MatrixError, OverBudget
from trtforge.rules import hold
from trtforge.sizes.growth import growth
from trtforge.sizes.report import image_layers, layer_sizes, size_of
from trtforge.sizes.size import human

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cells import Cell, Cells
    from trtforge.image import Image
    from trtforge.policy import Budget
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.recipe import Recipe
    from trtforge.sizes.growth import Growth
    from trtforge.sizes.report import LayerSize
    from trtforge.sizes.size import Size

NAMED = 5
"""How many layers people are told of."""


def budget_of(image: str, cell: Cell, cells: Cells) -> Budget:
    """The budget of `image`, which is of the chain of `cell`.

    Raises:
        MatrixError: `when` is about what is not known of a cell.
    """
    facts = cells.facts(cell)
    try:
        return next(one for one in cells.matrix.budgets[image] if hold(one.when, facts))
    except KeyError as error:
        raise MatrixError(
            f"budgets: {image}: nothing is known of a cell that is called {error}",
            ("known", ", ".join(facts)),
            ("next", "name one of these in matrix.yaml"),
        ) from error


def over_budget(
    name: str, size: Size, budget: Budget, layers: Sequence[LayerSize], grown: Growth | None
) -> OverBudget | None:
    """What is wrong with the image called `name`, if it is larger than it may be.

    Args:
        layers: its layers, if they are known. grown: since it was last published, if it was.
    """
    sizes = {
        "compressed": (size.compressed, budget.compressed),
        "on disk": (size.on_disk, budget.on_disk),
    }
    over = {kind: (has, may) for kind, (has, may) in sizes.items() if has > may}
    return OverBudget(name, over, (*_grown(grown), *_largest(layers))) if over else None


def examine(
    recipe: Recipe, image: Image, budget: Budget, catalogue: Catalogue | None
) -> tuple[Growth | None, OverBudget | None]:
    """What `image`, made from `recipe`, has more than its last published one in `catalogue`, if there is one;
    and what is wrong if it is larger than it may be."""
    layers, grown = image_layers(recipe, image), None
    if catalogue and (before := catalogue.newest(recipe.image, recipe.ref.rpartition(":")[2])):
        grown = growth(layers, before, catalogue)
    return grown, over_budget(recipe.ref, size_of(layers), budget, layers, grown)


def _grown(grown: Growth | None) -> list[tuple[str, str]]:
    if grown is None:
        return [("grew", "no published image to compare with")]
    more = [one for one in grown.layers if one[2].compressed > 0 or one[2].on_disk > 0][:NAMED]
    layers = [("grew", f"{name} in {image}: {size.says_change()}") for image, name, size in more]
    return [("grew", f"since {grown.since}: {grown.change.says_change()}"), *layers]


def _largest(layers: Sequence[LayerSize]) -> list[tuple[str, str]]:
    sizes = sorted(layer_sizes(layers).items(), key=lambda one: (-one[1].compressed, one[0]))
    named = ", ".join(f"{name} {human(size.compressed)}" for (_, name), size in sizes[:NAMED])
    return [("largest", named)] if named else []
