"""What a graph's nodes do with a registry as the shared store: layers that any machine made, images that lie
there whole under staging tags, and their tests in a clean Engine."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from trtforge.engine.fresh import fresh_engine
from trtforge.errors import BuildError
from trtforge.image import UNPACKED, Image
from trtforge.in_use import in_use
from trtforge.layers.maker import system_of
from trtforge.oci import Digest, Layer
from trtforge.production.graph import Node
from trtforge.production.staged import staging_tag
from trtforge.production.steps import Workplace, assembled, image_key, layer_needs, make_layer, test_key
from trtforge.publishing.verify import verify_image
from trtforge.registry.artifact import read_manifest
from trtforge.registry.push import push_image
from trtforge.registry.shared_layers import SharedLayers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trtforge.engine.engine import Engine
    from trtforge.index.uv import Sources
    from trtforge.layers.sources import LayerSource, OsSource
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace
    from trtforge.registry.repository import Repository
    from trtforge.smoke import SmokeReport


@dataclass(frozen=True)
class SharedPlace(Workplace):
    """A workplace whose layers and images are shared through a registry.

    cache: where a clean Engine can have its folder. It starts with the first test, and ends with `close`.
    """

    namespace: Namespace
    cache: Path
    _engines: list[Engine] = field(default_factory=list)
    _end: ExitStack = field(default_factory=ExitStack)
    _lock: Lock = field(default_factory=Lock)

    @property
    def layers(self) -> SharedLayers:
        """The layers that machines share."""
        return SharedLayers(self.namespace.repository("layers"))

    def engine(self) -> Engine:
        """The clean Engine."""
        with self._lock:
            if not self._engines:
                access = self.namespace.access
                insecure = [self.namespace.host] if access.plain_http else []
                fresh = fresh_engine(self.cache, insecure, access.ca)
                engine = self._end.enter_context(fresh)
                if not engine.disposable:
                    self.progress.note(f"no throw-away Engine here: images are tested in {engine.address}")
                self._engines.append(engine)
            return self._engines[0]

    def close(self) -> None:
        """The Engine, if there is one, goes with all that is in it."""
        with self._lock:
            self._end.close()


def given_image(image: Image, recipe: Recipe) -> Node:
    """The node that just has the finished image of `recipe`."""
    return Node(image_key(recipe), partial(_given, image=image), (), "here")


def stage_node(recipe: Recipe, made: Mapping[str, Layer]) -> Node:
    """The node that has the image of `recipe` in the registry under its staging tag.

    Args:
        made: key of a source -> its layer, for those that no node makes.
    """
    below = (image_key(recipe.parent),) if recipe.parent else ()
    call = partial(stage_image, recipe=recipe, made=made)
    return Node(image_key(recipe), call, (*layer_needs(recipe, made), *below), "image")


def test_node(recipe: Recipe) -> Node:
    """The node that tests the staged image of `recipe`; a GPU that the image is for suits it best."""
    wanted = json.loads(recipe.files.get("opt/smoke/expected.json", b"{}")).get("sm", [])
    prefers = (*(f"GPU_SM{sm}" for sm in wanted), "GPU")
    call = partial(test_staged, recipe=recipe)
    return Node(
        test_key(recipe), call, (image_key(recipe),), "test", prefers=prefers, beside=_tested_base(recipe)
    )


def has_tests(recipe: Recipe) -> bool:
    """Whether the image of `recipe` carries smoke tests."""
    return any(path.startswith("opt/smoke/") for path in recipe.files)


def share_layer(
    place: SharedPlace, found: Mapping[str, Any], *, source: LayerSource, sources: Sources
) -> Layer:
    """The layer of `source`, which others find in the registry from now on.

    Raises:
        ForgeError: see `make_layer`; or the registry does not answer or refuses.
    """
    if layer := place.layers.find(source.key):  # made elsewhere since this work was planned
        return layer
    with in_use(place.store, sources=[source]):
        system = system_of(source)
        if system and place.store.layer(source.key) is None:
            _bring(system, place)
        layer = make_layer(place, found, source=source, sources=sources)
        place.layers.keep(source.key, layer, place.store, place.progress, source.name)
    return layer


def stage_image(
    place: SharedPlace, found: Mapping[str, Any], *, recipe: Recipe, made: Mapping[str, Layer]
) -> Image:
    """The image of `recipe`, in the registry under its staging tag; one that is there whole is left alone.

    Raises:
        ForgeError: see `push_image`.
    """
    with in_use(place.store, [recipe]):
        image = assembled(place, found, recipe, made)
        repository, tag = place.namespace.repository(recipe.image), staging_tag(image.digest)
        # A prune, or whoever deletes there, may have taken layers of one that was broken off.
        whole = (repository.blob_size(layer.digest) == layer.size for layer in image.layers)
        if repository.find_digest(tag) != image.digest or not all(whole):
            names = [place.layers.repository]
            names += [place.namespace.repository(recipe.parent.image)] if recipe.parent else []
            push_image(image, tag, repository, place.store, place.progress, sources=names)
    return image


def test_staged(place: SharedPlace, found: Mapping[str, Any], *, recipe: Recipe) -> SmokeReport:
    """What the smoke tests of a staged image say in a clean Engine."""
    image: Image = found[image_key(recipe)]
    reference = f"{place.namespace.name(recipe.image)}@{image.digest}"
    return verify_image(reference, place.engine(), place.progress, size=image.size)


def image_in(repository: Repository, digest: Digest) -> Image | None:
    """An image of ours in a registry; None if it is not there, or not one of ours."""
    found = repository.find_manifest(digest)
    if found is None:
        return None
    try:
        manifest = read_manifest(found.body, f"{repository.place}@{digest}")
        if manifest.config is None:
            return None
        config = repository.read_blob(manifest.config.digest)
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        layers = tuple(
            Layer(one.digest, Digest(diff_id), one.size, int(one.annotations[UNPACKED]))
            for one, diff_id in zip(manifest.layers, diff_ids, strict=True)
        )
    except (BuildError, KeyError, ValueError):
        return None
    return Image(found.digest, config, layers)


def _tested_base(recipe: Recipe) -> str:
    """The lowest image with tests that `recipe` stands on, or is: who tests several upon it pulls it once."""
    while recipe.parent and has_tests(recipe.parent):
        recipe = recipe.parent
    return recipe.base.manifest if recipe.base else recipe.key


def _given(_place: object, _found: object, *, image: Image) -> Image:
    return image


def _bring(system: OsSource, place: SharedPlace) -> None:
    """Have the layer of `system` in the store, if others share it: to fetch it takes less than to make it."""
    with place.store.lock(f"bring-{system.key}"):
        if place.store.layer(system.key) is None and (layer := place.layers.find(system.key)):
            with (
                place.store.work_folder() as work,
                place.progress.task(f"fetch {system.name}", layer.size) as advance,
            ):
                place.layers.repository.save_blob(layer.digest, work / "layer", advance)
                place.store.keep_layer(system.key, work / "layer", layer)
