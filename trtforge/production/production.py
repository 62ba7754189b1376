"""Production: chains of recipes become tested images in a registry, under staging tags, many at once.

The graph is the same on one machine and on many: layers, images and tests are its nodes, and the registry is
the store that they share. What the registry has already is not made again, so an interrupted run goes on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from trtforge.errors import ForgeError
from trtforge.image import check_followable
from trtforge.in_use import in_use
from trtforge.plan import check_disk
from trtforge.production.graph import run_graph, threads
from trtforge.production.staged import Staged
from trtforge.production.staging import (
    SharedPlace,
    given_image,
    has_tests,
    image_in,
    share_layer,
    stage_node,
    test_node,
)
from trtforge.production.steps import image_key, layer_key, layer_nodes, test_key, wheel_nodes
from trtforge.production.tally import Tally
from trtforge.progress import Stoppable
from trtforge.registry.shared_layers import SharedLayers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from trtforge.image import Image
    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Digest, Layer
    from trtforge.production.graph import Ended, Node, Site
    from trtforge.progress import Progress
    from trtforge.project import Project
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace
    from trtforge.smoke import SmokeReport

    Chain = tuple[Recipe, ...]

T = TypeVar("T")

LOOK_UPS = 8
"""Questions to the registry at a time, before the work begins."""


@dataclass(frozen=True)
class Outcome:
    """What became of a chain.

    staged: its images, parent first; all of them, unless there is an `error`.
    reports: what smoke tests said, by the key of the recipe; images published before are not tested again.
    pushed: bytes of layers that this run brought into the registry for it, and for no chain before it.
    """

    chain: Chain
    staged: tuple[Staged, ...] = ()
    reports: Mapping[str, SmokeReport] = field(default_factory=dict)
    error: ForgeError | None = None
    pushed: int = 0


@dataclass(frozen=True)
class Production:
    """How chains are produced.

    jobs: how many layers, and how many downloads, at a time; of this machine.
    published: key of a recipe -> digest of its image in the namespace: those are neither made nor tested.
    scheduler: address of a Dask scheduler, whose workers do the work then; "": this machine does.
    tests: whether images are tested, as they lie in the registry; False: they are only staged.
    """

    project: Project
    namespace: Namespace
    progress: Progress
    jobs: int = 2
    published: Mapping[str, Digest] = field(default_factory=dict)
    scheduler: str = ""
    tests: bool = True

    def run(self, chains: Sequence[Chain]) -> Generator[Outcome]:
        """An outcome for each of `chains`, as soon as it is known. Who does not take them all closes the
        generator (`contextlib.closing`), which ends the work.

        Raises:
            EnvironmentLack: the registry does not answer, this machine's disk has no room, or there is no
                such scheduler.
        """
        good = []
        for chain in chains:
            try:
                for recipe in chain:
                    check_followable(recipe.dockerfile)
                good.append(chain)
            except ForgeError as error:
                yield Outcome(chain, error=error)
        recipes = {recipe.key: recipe for chain in good for recipe in chain}
        with self.progress.task(f"look what {self.namespace} has"):
            images = self._images(recipes)
            todo = [recipe for key, recipe in recipes.items() if key not in images]
            made, missing = self._layers(todo)
        with in_use(self.project.store, todo):
            nodes = self._nodes(recipes, images, made, missing)
            tally = Tally(self.progress, nodes)
            with self._site(nodes) as site, closing(run_graph(nodes, site)) as run:
                awaited = _Awaited(good, nodes, site.explain)
                for ended in run:
                    tally.count(ended.node)
                    yield from awaited.take(ended)

    def _images(self, recipes: Mapping[str, Recipe]) -> dict[str, Image]:
        """The published images, by recipe key, that truly are there."""

        def look(key: str) -> Image | None:
            return image_in(self.namespace.repository(recipes[key].image), self.published[key])

        return _found(look, [key for key in recipes if key in self.published])

    def _layers(self, recipes: Sequence[Recipe]) -> tuple[dict[str, Layer], list[LayerSource]]:
        """The layers of `recipes` that the registry has, by key, and the sources of those that it lacks."""
        sources = {source.key: source for recipe in recipes for source in recipe.sources.values()}
        made = _found(SharedLayers(self.namespace.repository("layers")).find, list(sources))
        return made, [source for key, source in sources.items() if key not in made]

    def _nodes(
        self,
        recipes: Mapping[str, Recipe],
        images: Mapping[str, Image],
        made: Mapping[str, Layer],
        missing: Sequence[LayerSource],
    ) -> list[Node]:
        sources, here = self.project.sources, not self.scheduler
        nodes = list(layer_nodes(missing, sources, share_layer, ahead=here))
        if here:
            to_make = [source for source in missing if self.project.store.layer(source.key) is None]
            check_disk(to_make, self.project.store)
            nodes += wheel_nodes(missing, sources, to_make)
        for key, recipe in recipes.items():
            if key in images:
                nodes.append(given_image(images[key], recipe))
            else:
                nodes.append(stage_node(recipe, made))
                nodes += [test_node(recipe)] if self.tests and has_tests(recipe) else []
        return nodes

    @contextmanager
    def _site(self, nodes: Sequence[Node]) -> Iterator[Site]:
        """Where nodes run."""
        if self.scheduler:
            from trtforge.production.cluster import cluster  # takes half a second to import, and few need it

            with cluster(self.scheduler, self.namespace, self.progress, nodes) as site:
                yield site
            return
        self.project.store.sweep()
        progress = Stoppable(self.progress)
        place = SharedPlace(self.project.store, progress, self.jobs, self.namespace, self.project.cache)
        widths = {"here": 1, "fetch": 1, "layer": self.jobs, "image": self.jobs, "test": 1}
        with closing(place), threads(place, progress.stop, **widths) as site:
            yield site


class _Awaited:
    """The chains whose outcome is not known yet, by the keys of the nodes that they wait for."""

    def __init__(
        self, chains: Sequence[Chain], nodes: Sequence[Node], explain: Callable[[Exception], ForgeError]
    ) -> None:
        self._explain = explain
        there = {node.key for node in nodes}
        self._waiting: dict[str, list[int]] = {}
        self._chains = dict(enumerate(chains))
        self._left: dict[int, set[str]] = {}
        for number, chain in self._chains.items():
            keys = {key for recipe in chain for key in (image_key(recipe), test_key(recipe))} & there
            self._left[number] = keys
            for key in keys:
                self._waiting.setdefault(key, []).append(number)
        self._values: dict[str, Any] = {}
        self._counted: set[str] = set()

    def take(self, ended: Ended) -> Iterator[Outcome]:
        """A node is over; the outcomes that this decides."""
        self._values[ended.node.key] = ended.value
        for number in self._waiting.pop(ended.node.key, []):
            if number not in self._chains:  # it failed before
                continue
            if ended.error:
                yield Outcome(self._chains.pop(number), error=self._explain(ended.error))
                continue
            self._left[number].remove(ended.node.key)
            if not self._left[number]:
                yield self._outcome(self._chains.pop(number))

    def _outcome(self, chain: Chain) -> Outcome:
        values = self._values
        return Outcome(
            chain,
            tuple(Staged(recipe, values[image_key(recipe)]) for recipe in chain),
            {recipe.key: values[test_key(recipe)] for recipe in chain if test_key(recipe) in values},
            pushed=sum(map(self._pushed, chain)),
        )

    def _pushed(self, recipe: Recipe) -> int:
        """Bytes of the layers that were made for `recipe`, and for none before."""
        keys = {layer_key(source) for source in recipe.sources.values()}
        new = {key for key in keys if key in self._values} - self._counted
        self._counted |= new
        return sum(self._values[key].size for key in new)


def _found(look: Callable[[str], T | None], keys: Sequence[str]) -> dict[str, T]:
    """What `look` finds for each of `keys`, if anything."""
    with ThreadPoolExecutor(LOOK_UPS, "look") as pool:
        found = zip(keys, pool.map(look, keys), strict=True)
        return {key: value for key, value in found if value is not None}
