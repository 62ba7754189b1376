"""The main job: locked cells become images in the store, in the Engine, and tested there.

Everything is one graph, for however many cells: what they share is made once, and what fails takes with it
only the cells that need it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from trtforge.errors import ForgeError, as_forge_error
from trtforge.image import check_followable, copy_keys
from trtforge.in_use import in_use
from trtforge.plan import check_disk, plan_image
from trtforge.production.graph import Node, run_graph, threads
from trtforge.production.loading import build_image, in_engine, load_image, record_key, test_image
from trtforge.production.steps import (
    Workplace,
    image_key,
    image_node,
    layer_key,
    layer_needs,
    layer_nodes,
    test_key,
    wheel_nodes,
)
from trtforge.production.tally import Tally
from trtforge.progress import Stoppable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trtforge.cells import Cell
    from trtforge.engine.engine import Engine
    from trtforge.layers.sources import LayerSource
    from trtforge.lock import Lock
    from trtforge.oci import Layer
    from trtforge.plan import ImagePlan
    from trtforge.production.graph import Ended
    from trtforge.progress import Progress
    from trtforge.project import Project
    from trtforge.recipe import Recipe
    from trtforge.record import Record

Builder = Literal["oci", "docker"]


@dataclass(frozen=True)
class Built:
    """One image of a build.

    action: "reuse" if nothing had to be done for it. made: how many of its layers were new to the store.
    """

    recipe: Recipe
    record: Record
    action: Literal["build", "reuse"]
    made: int


@dataclass(frozen=True)
class CellBuilt:
    """What became of a cell: its images, parent first; or why it has none."""

    cell: Cell
    chain: tuple[Built, ...]
    error: ForgeError | None = None


@dataclass(frozen=True)
class Build:
    """How cells are built.

    engine: connects to the Engine that images are loaded into; None: they stay in the store.
    run_smoke: whether finished images are tested in the Engine.
    jobs: how many layers, and how many downloads, at a time.
    """

    project: Project
    progress: Progress
    builder: Builder = "oci"
    engine: Callable[[], Engine] | None = None
    run_smoke: bool = True
    jobs: int = 2

    def run(self, cells: Sequence[Cell], lock: Lock) -> list[CellBuilt]:
        """Build each cell's chain of images. Everything that is finished stays in the store.

        Raises:
            EnvironmentLack: there is no Engine, or no room on the disk.
        """
        chains, results = self._chains(cells, lock)
        with in_use(self.project.store, [recipe for chain in chains.values() for recipe in chain]):
            results |= self._built(chains)
        return [results[cell] for cell in cells]

    def _built(self, chains: Mapping[Cell, tuple[Recipe, ...]]) -> dict[Cell, CellBuilt]:
        plans = self._plans(chains.values())
        engine = self.engine() if self.engine else None  # before the long work: it may be missing
        todo = {plan.recipe.key for plan in plans if not self._is_there(plan, engine)}
        made, missing = self._layers(plan.recipe for plan in plans if plan.recipe.key in todo)
        nodes = [*self._layer_nodes(missing), *self._image_nodes(plans, made, engine)]
        tested = engine and self.run_smoke
        if engine and self.run_smoke:
            ends = {chain[-1].key: chain[-1] for chain in chains.values()}
            nodes += [_test_node(recipe, engine) for recipe in ends.values()]
        missed = {plan.recipe.key: self._lacking(plan) for plan in plans if plan.recipe.key in todo}
        last = {cell: (test_key if tested else record_key)(chain[-1]) for cell, chain in chains.items()}
        ended = self._run(nodes, set(last.values()))
        return {cell: _result(cell, chain, ended, last[cell], missed) for cell, chain in chains.items()}

    def layers(self, recipes: Iterable[Recipe]) -> dict[str, Layer]:
        """Every layer of `recipes`, by the key of its source; made if the store lacks it.

        Raises:
            ForgeError: one cannot be made; what was finished before stays.
        """
        wanted = tuple(recipes)
        with in_use(self.project.store, wanted):
            made, missing = self._layers(wanted)
            check_disk(missing, self.project.store)
            ended = self._run(self._layer_nodes(missing), set())
        for one in ended.values():
            if one.error:
                raise one.error
        return made | {source.key: ended[layer_key(source)].value for source in missing}

    def _chains(
        self, cells: Sequence[Cell], lock: Lock
    ) -> tuple[dict[Cell, tuple[Recipe, ...]], dict[Cell, CellBuilt]]:
        """The recipes of each cell that can be built, and why others cannot."""
        chains, failed = {}, {}
        for cell in cells:
            try:
                chain = self.project.recipes.chain(cell, lock)
                for recipe in chain if self.builder == "oci" else ():
                    check_followable(recipe.dockerfile)
            except ForgeError as error:
                failed[cell] = CellBuilt(cell, (), error)
            else:
                chains[cell] = chain
        return chains, failed

    def _plans(self, chains: Iterable[Sequence[Recipe]]) -> list[ImagePlan]:
        """What is to be done for each distinct image, parents first; there is room for it."""
        recipes = {recipe.key: recipe for chain in chains for recipe in chain}
        plans = [plan_image(recipe, self.project.store) for recipe in recipes.values()]
        check_disk([source for plan in plans for source in plan.missing], self.project.store)
        return plans

    def _lacking(self, plan: ImagePlan) -> int:
        """How many layers of an image the store lacks, those with copied files among them."""
        copies = copy_keys(plan.recipe.dockerfile, plan.recipe.files)
        return len(plan.missing) + sum(self.project.store.layer(key) is None for key in copies)

    def _is_there(self, plan: ImagePlan, engine: Engine | None) -> bool:
        """Whether nothing need be made for an image."""
        if self.builder == "docker" and engine:
            return in_engine(plan.recipe, engine)
        return plan.image is not None

    def _layers(self, recipes: Iterable[Recipe]) -> tuple[dict[str, Layer], list[LayerSource]]:
        """The layers of `recipes` that the store has, by key, and the sources of those that it lacks."""
        sources = {source.key: source for recipe in recipes for source in recipe.sources.values()}
        made = {key: layer for key in sources if (layer := self.project.store.layer(key))}
        return made, [source for key, source in sources.items() if key not in made]

    def _layer_nodes(self, missing: Sequence[LayerSource]) -> list[Node]:
        sources = self.project.sources
        return [*wheel_nodes(missing, sources), *layer_nodes(missing, sources)]

    def _image_nodes(
        self, plans: Sequence[ImagePlan], made: Mapping[str, Layer], engine: Engine | None
    ) -> Iterator[Node]:
        for plan in plans:
            recipe = plan.recipe
            below = (record_key(recipe.parent),) if recipe.parent else ()
            if self.builder == "docker" and engine:
                layers = () if in_engine(recipe, engine) else layer_needs(recipe, made)
                call = partial(build_image, recipe=recipe, made=made, engine=engine)
                yield Node(record_key(recipe), call, (*layers, *below), "engine")
            else:
                yield image_node(recipe, made, plan.image)
                call = partial(load_image, recipe=recipe, engine=engine)
                lane = "engine" if engine else "image"
                yield Node(record_key(recipe), call, (image_key(recipe), *below), lane)

    def _run(self, nodes: Sequence[Node], wanted: set[str]) -> dict[str, Ended]:
        """Run `nodes` until all are over, or one of `wanted` cannot come any more and neither can the rest;
        what is over."""
        self.project.store.sweep()
        progress = Stoppable(self.progress)
        place = Workplace(self.project.store, progress, self.jobs)
        tally = Tally(self.progress, nodes)
        ended: dict[str, Ended] = {}
        with (
            threads(place, progress.stop, fetch=1, layer=self.jobs, image=self.jobs, engine=1) as site,
            closing(run_graph(nodes, site)) as run,
        ):
            for one in run:
                ended[one.node.key] = one
                tally.count(one.node)
                if one.error and all(key in ended and ended[key].error for key in wanted):
                    break
        return ended


def _test_node(recipe: Recipe, engine: Engine) -> Node:
    call = partial(test_image, recipe=recipe, engine=engine)
    return Node(
        test_key(recipe), call, (record_key(recipe),), "engine", weight=1
    )  # before the next is loaded


def _result(
    cell: Cell, chain: Sequence[Recipe], ended: Mapping[str, Ended], last: str, missed: Mapping[str, int]
) -> CellBuilt:
    """What became of a cell, whose node `last` is over.

    Args:
        missed: for each image that had to be made, how many layers of its recipe the store lacked.
    """
    if error := ended[last].error:
        return CellBuilt(cell, (), as_forge_error(error))
    records: dict[str, Record] = {recipe.key: ended[record_key(recipe)].value for recipe in chain}
    records[chain[-1].key] = ended[last].value
    built = []
    for recipe in chain:
        action: Literal["build", "reuse"] = "build" if recipe.key in missed else "reuse"
        built.append(Built(recipe, records[recipe.key], action, missed.get(recipe.key, 0)))
    return CellBuilt(cell, tuple(built))
