"""Whether a chain of images is small enough to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.sizes.budget import examine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtforge.production.staged import Staged
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.facts import Facts


def require_within_budget(chain: Sequence[Staged], facts: Mapping[str, Facts], catalogue: Catalogue) -> None:
    """See that no image of `chain` is larger than its budget.

    Args:
        facts: by the key of the recipe.

    Raises:
        OverBudget: the first that is, the lowest first, with what grew since it was last published.
    """
    for one in chain:
        _, error = examine(one.recipe, one.image, facts[one.recipe.key].budget, catalogue)
        if error:
            raise error
