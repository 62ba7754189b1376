"""The steps from sources to images that a graph's nodes take, wherever they run.

What a node is told travels as plain values; the store and the progress are those of the place it runs at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from trtforge.base import base_image
from trtforge.image import assemble, name_image
from trtforge.index.fetch import fetch, fetch_each
from trtforge.layers.maker import LayerMaker, system_of, work_of
from trtforge.layers.sources import BytecodeSource, LayerSource, OsSource, PackagesSource, WheelSource
from trtforge.locking import PLATFORM
from trtforge.plan import check_disk, wheels_needed
from trtforge.production.graph import Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trtforge.errors import ForgeError
    from trtforge.image import Image
    from trtforge.index.pins import Pin
    from trtforge.index.uv import Sources
    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.recipe import Recipe
    from trtforge.store import Store


@dataclass(frozen=True)
class Workplace:
    """Where a node runs.

    jobs: how many downloads it may have, and how many processes one layer may keep busy.
    """

    store: Store
    progress: Progress
    jobs: int


class MakeLayer(Protocol):
    """A call of a node that makes a layer."""

    def __call__(
        self, place: Any, found: Mapping[str, Any], *, source: LayerSource, sources: Sources
    ) -> Layer: ...


def layer_key(source: LayerSource) -> str:
    """The key of the node that makes the layer of `source`."""
    return f"layer {source.name} {source.key[:8]}"


def image_key(recipe: Recipe) -> str:
    """The key of the node that makes the image of `recipe`."""
    return f"image {recipe.ref}"


def test_key(recipe: Recipe) -> str:
    """The key of the node that tests the image of `recipe`."""
    return f"test {recipe.ref}"


def wheel_nodes(
    missing: Iterable[LayerSource], sources: Sources, to_make: Iterable[LayerSource] | None = None
) -> Iterator[Node]:
    """A node for each Python of the `missing` layers: it has the wheels of all, so that the indexes are asked
    once; or only those of the layers `to_make`, if others need none."""
    needed = wheels_needed(missing if to_make is None else to_make)
    for python in wheels_needed(missing):
        call = partial(get_wheels, pins=needed.get(python, ()), python=python, sources=sources)
        yield Node(_wheels_key(python), call, (), "fetch")


def layer_nodes(
    missing: Iterable[LayerSource], sources: Sources, make: MakeLayer | None = None, *, ahead: bool = True
) -> Iterator[Node]:
    """A node for each distinct layer.

    Args:
        make: what makes it, if not `make_layer`, which takes the same.
        ahead: whether `wheel_nodes` fetch its wheels; otherwise it does so itself.
    """
    distinct = {source.key: source for source in missing}
    for source in distinct.values():
        needs = []
        system = system_of(source)
        if system and system.key in distinct:
            needs.append(layer_key(system))
        if not isinstance(source, OsSource | PackagesSource) and source.pins:
            needs += [_wheels_key(source.target.python)] if ahead else []
            if ahead and isinstance(source, BytecodeSource):
                # Making those layers checks the wheels, gigabytes of them, for this store.
                of_wheels = (one for one in distinct.values() if isinstance(one, WheelSource))
                needs += [layer_key(one) for one in of_wheels if {*one.pins} <= {*source.pins}]
        call = partial(make or make_layer, source=source, sources=sources)
        yield Node(layer_key(source), call, tuple(needs), "layer", work_of(source))


def image_node(recipe: Recipe, made: Mapping[str, Layer], image: Image | None) -> Node:
    """The node that makes the image of `recipe`, or just has it: the finished `image`.

    Args:
        made: key of a source -> its layer, for those that no node makes.
    """
    layers = () if image else layer_needs(recipe, made)
    below = (image_key(recipe.parent),) if recipe.parent else ()
    call = partial(make_image, recipe=recipe, made=made, image=image)
    return Node(image_key(recipe), call, (*layers, *below), "image")


def layer_needs(recipe: Recipe, made: Mapping[str, Layer]) -> tuple[str, ...]:
    """The keys of the nodes that make layers of `recipe`: those that are not `made`."""
    return tuple(layer_key(one) for one in recipe.sources.values() if one.key not in made)


def get_wheels(
    place: Workplace, _found: object, *, pins: Sequence[Pin], python: str, sources: Sources
) -> dict[str, ForgeError]:
    """Have the wheels of `pins` in the store; why one cannot be, by its sha256."""
    return fetch_each(
        pins, place.store, sources, place.progress, place.jobs, python=python, platform=PLATFORM
    )


def make_layer(place: Workplace, found: Mapping[str, Any], *, source: LayerSource, sources: Sources) -> Layer:
    """The layer of `source`; wheels that nobody has tried to get yet are fetched.

    Raises:
        ForgeError: a wheel cannot be had, or see `LayerMaker.make`.
    """
    if layer := place.store.layer(source.key):
        return layer
    check_disk([source], place.store)
    if not isinstance(source, OsSource | PackagesSource):
        python = source.target.python
        lacking: dict[str, ForgeError] = found.get(_wheels_key(python), {})
        for pin in source.pins:
            if error := lacking.get(pin.sha256):
                raise error
        fetch(source.pins, place.store, sources, place.progress, place.jobs, python=python, platform=PLATFORM)
    return LayerMaker(place.store, place.progress, place.jobs).make(source)


def make_image(
    place: Workplace,
    found: Mapping[str, Any],
    *,
    recipe: Recipe,
    made: Mapping[str, Layer],
    image: Image | None,
) -> Image:
    """The image of `recipe`, under its names; see `image_node`."""
    if image:
        return image
    image = assembled(place, found, recipe, made)
    for ref in recipe.refs:
        name_image(image, ref, recipe.key, place.store)
    return image


def assembled(place: Workplace, found: Mapping[str, Any], recipe: Recipe, made: Mapping[str, Layer]) -> Image:
    """The image of `recipe`, of layers that are `made` or `found`, upon the one below that was found."""
    layers = {path: made.get(one.key) or found[layer_key(one)] for path, one in recipe.sources.items()}
    below = found[image_key(recipe.parent)] if recipe.parent else None
    if recipe.base:
        below = base_image(recipe.base, place.store, place.progress)
    return assemble(recipe.dockerfile, layers, recipe.files, below, place.store)


def _wheels_key(python: str) -> str:
    return f"wheels for Python {python}"
