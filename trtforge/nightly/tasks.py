"""What a night has to do: each cell is up to date, is to be published, or is left alone, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trtforge.nightly.failures import read_failures
from trtforge.publishing.catalogue import IMAGES, read_catalogue
from trtforge.publishing.facts import facts_of
from trtforge.publishing.publish import is_published
from trtforge.recipe import Recipes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from trtforge.cells import Cell, Cells
    from trtforge.lock import Lock
    from trtforge.nightly.failures import Failure
    from trtforge.oci import Digest
    from trtforge.progress import Progress
    from trtforge.project import Project
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry
    from trtforge.publishing.facts import Facts
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace

Action = Literal["publish", "up to date", "held", "skip"]

_NAMED = 6
"""How many changed packages a reason names."""


@dataclass(frozen=True)
class Task:
    """A cell, and what is to be done for it.

    chain: its recipes, parent first; none where it is not locked. facts: by recipe key.
    before: its newest published image. failure: what is remembered of nights before.
    """

    name: str
    cell: Cell
    action: Action
    why: str
    chain: tuple[Recipe, ...] = ()
    facts: Mapping[str, Facts] | None = None
    before: Entry | None = None
    failure: Failure | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the cell's own image."""
        return self.chain[-1]


@dataclass(frozen=True)
class Seen:
    """What a namespace holds, looked at once for all cells.

    tags: image -> all its tags. failures: by cell.
    """

    namespace: Namespace
    catalogue: Catalogue
    tags: Mapping[str, Collection[str]]
    failures: Mapping[str, Failure]

    def has(self, recipe: Recipe) -> bool:
        """Whether the newest image of this name was made from this very recipe, and is wholly published."""
        repository = self.namespace.repository(recipe.image)
        return is_published(recipe, self.catalogue, repository, self.tags.get(recipe.image, ()))

    def published(self, tasks: Iterable[Task]) -> dict[str, Digest]:
        """Of all recipes of `tasks`, by their key, the images that need not be made."""
        recipes = {recipe.key: recipe for task in tasks for recipe in task.chain}
        found = {}
        for key, recipe in recipes.items():
            entry = self.catalogue.newest(recipe.image, recipe.ref.rpartition(":")[2])
            if entry and self.has(recipe):
                found[key] = entry.digest
        return found


def look(namespace: Namespace, progress: Progress) -> Seen:
    """What is in `namespace` now."""
    catalogue = read_catalogue(namespace, progress)
    tags = {image: frozenset(namespace.repository(image).tags()) for image in IMAGES}
    return Seen(namespace, catalogue, tags, read_failures(namespace, progress))


def tasks(
    wanted: Iterable[Cell], lock: Lock, project: Project, seen: Seen, cells: Cells | None = None
) -> list[Task]:
    """What is to be done for each of the `wanted` cells.

    Args:
        cells: of a changed matrix; None: the project's.
    """
    recipes = Recipes(project.root, cells) if cells else project.recipes
    hold_after = project.matrix.nightly.hold_after
    return [_task(cell, lock, recipes, cells or project.cells, seen, hold_after) for cell in wanted]


def _task(cell: Cell, lock: Lock, recipes: Recipes, cells: Cells, seen: Seen, hold_after: int) -> Task:
    name = cells.name(cell)
    locked = lock.cells.get(name)
    if locked is None or locked.state != "locked":
        return Task(name, cell, "skip", f"not locked: {locked.reason if locked else 'nobody has locked it'}")
    chain = recipes.chain(cell, lock)
    facts = facts_of(cell, chain, cells)
    before = seen.catalogue.newest(chain[-1].image, cells.tag(cell))
    failure = seen.failures.get(name)

    def task(action: Action, why: str) -> Task:
        return Task(name, cell, action, why, chain, facts, before, failure)

    if before and all(map(seen.has, chain)):
        return task("up to date", f"its recipe is unchanged since {before.day}")
    if failure and failure.holds(chain[-1].key, hold_after):
        nights = f"failed on {len(failure.nights)} nights, last on {failure.nights[-1]}"
        return task("held", f"{nights}, and its inputs have not changed: {failure.reason}")
    return task("publish", _why(chain, facts, before, seen.catalogue))


def _why(
    chain: Iterable[Recipe], facts: Mapping[str, Facts], before: Entry | None, catalogue: Catalogue
) -> str:
    recipes = list(chain)
    if before is None:
        return "not published yet"
    if before.recipe_key == recipes[-1].key:
        return "its last publish was broken off, or one of its tags is gone"
    now: dict[str, str] = {}
    for recipe in recipes:
        now |= facts[recipe.key].packages
    was = catalogue.packages(before)
    changed = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    if not changed:
        return "no version changed, but a file of its recipe: a template, a smoke test, a source of ours"
    named = [f"{name} {was.get(name, 'new')} -> {now.get(name, 'gone')}" for name in changed[:_NAMED]]
    more = [f"{len(changed) - _NAMED} more"] if len(changed) > _NAMED else []
    return ", ".join(named + more)
