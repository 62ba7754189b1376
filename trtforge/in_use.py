"""What work uses of the store, so that gc leaves it alone.

Who uses files of the store says from when on, and touches them; what it makes is new by itself. So gc takes
no file that was touched since the oldest work that still runs began. What says so is a mark in a work folder,
which is held until its process ends, however that ends. The same times tell what was not used for longest.
"""

from __future__ import annotations

import math
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from trtforge.base import held_base
from trtforge.held import is_held
from trtforge.image import find_image
from trtforge.layers.maker import system_of
from trtforge.layers.sources import OsSource, PackagesSource, ToolkitSource
from trtforge.oci import digest_of
from trtforge.registry.pull import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trtforge.image import Image
    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Digest
    from trtforge.recipe import Recipe
    from trtforge.store import Store

MARK = "in-use"
"""The file whose time says since when."""


@contextmanager
def in_use(
    store: Store, recipes: Iterable[Recipe] = (), sources: Iterable[LayerSource] = ()
) -> Iterator[None]:
    """Keep what `recipes` and `sources` are made from, what they become and all that is new from gc while the
    block runs.

    Raises:
        EnvironmentLack: the store cannot be written.
    """
    with ExitStack() as stack:
        with store.gc_lock():
            work = stack.enter_context(store.work_folder())
            (work / MARK).touch()
            for folder, names in needed(tuple(recipes), store, sources).items():
                for name in names:
                    with suppress(FileNotFoundError, PermissionError):  # not made yet; another user's
                        os.utime(store.root / folder / name)
        yield


def in_use_since(store: Store) -> float:
    """When the oldest work that still runs began, as a file's time; infinity if there is none."""
    began = math.inf
    for folder in (store.root / "tmp").glob("*"):
        with suppress(OSError):  # over in this moment, or other work
            mark = (folder / MARK).stat().st_mtime
            if is_held(folder):
                began = min(began, mark)
    return began


def needed(
    recipes: Sequence[Recipe], store: Store, sources: Iterable[LayerSource] = ()
) -> dict[str, set[str]]:
    """The names, by folder, of all in `store` that the images of `recipes` and the layers of `sources` are,
    or are made from.

    Downloads come first and layers last: of what was used at one time gc takes the former first.
    """
    recipes = list({recipe.key: recipe for recipe in recipes}.values())
    distinct = {*sources, *(source for recipe in recipes for source in recipe.sources.values())}
    distinct |= {system for source in distinct if (system := system_of(source))}
    keys = [source.key for source in distinct]
    layers = [layer for key in keys if (layer := store.layer(key))]
    bases = _bases(recipes, store)
    made = filter(None, (find_image(recipe.ref, recipe.key, store) for recipe in recipes))
    digests: list[Digest] = [layer.digest for layer in layers]
    for image in (*made, *bases):
        digests += [image.digest, digest_of(image.config), *(layer.digest for layer in image.layers)]
    base_layers = (layer_name(layer.digest) for image in bases for layer in image.layers)
    return {
        "wheels": {pin.sha256 for one in distinct for pin in one.pins},
        "debs": {
            package.sha256
            for one in distinct
            if isinstance(one, OsSource | PackagesSource | ToolkitSource)
            for package in one.packages
        },
        "rootfs": {layer.diff_id.removeprefix("sha256:") for layer in layers},
        "layers": {f"{key}.json" for key in (*keys, *base_layers)},
        "sizes": {f"{digest.removeprefix('sha256:')}.json" for digest in digests},
        "records": {f"{one.key.removeprefix('sha256:')}.json" for one in recipes},
        "oci/blobs/sha256": {digest.removeprefix("sha256:") for digest in digests},
    }


def _bases(recipes: Iterable[Recipe], store: Store) -> list[Image]:
    """The brought bases that recipes stand on, as far as the store has them."""
    bases = {recipe.base.manifest: recipe.base for recipe in recipes if recipe.base}
    return [image for base in bases.values() if (image := held_base(base, store))]
