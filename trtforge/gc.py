"""gc: what the store holds and no locked cell needs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from trtforge.base import held_base
from trtforge.image import drop_images, find_image
from trtforge.layers.sources import OsSource
from trtforge.oci import digest_of
from trtforge.registry.pull import layer_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trtforge.image import Image
    from trtforge.oci import Digest
    from trtforge.recipe import Recipe
    from trtforge.store import Store


def unneeded(recipes: Sequence[Recipe], store: Store) -> list[Path]:
    """The files and folders of `store` that no image of `recipes` is or is made from, and the work of
    processes that were killed."""
    sources = [source for recipe in recipes for source in recipe.sources.values()]
    diff_ids = {layer.diff_id for source in sources if (layer := store.layer(source.key))}
    keep = {
        "wheels": {pin.sha256 for one in sources if not isinstance(one, OsSource) for pin in one.pins},
        "debs": {package.sha256 for one in sources if isinstance(one, OsSource) for package in one.packages},
        "layers": {f"{key}.json" for key in (*(one.key for one in sources), *_base_layers(recipes, store))},
        "records": {f"{one.key.removeprefix('sha256:')}.json" for one in recipes},
        "rootfs": {diff_id.removeprefix("sha256:") for diff_id in diff_ids},
        "oci/blobs/sha256": {digest.removeprefix("sha256:") for digest in _blobs(recipes, store)},
    }
    gone = [path for folder, names in keep.items() for path in _others(store.root / folder, names)]
    return gone + store.dead_work()


def collect(recipes: Sequence[Recipe], store: Store) -> int:
    """Delete what is `unneeded`; bytes freed."""
    drop_images({recipe.key for recipe in recipes}, store)
    freed = 0
    for path in unneeded(recipes, store):
        freed += size_of(path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return freed


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(size_of(inner) for inner in path.iterdir())
    return path.lstat().st_size


def _blobs(recipes: Sequence[Recipe], store: Store) -> Iterator[Digest]:
    for recipe in recipes:
        yield from (layer.digest for source in recipe.sources.values() if (layer := store.layer(source.key)))
    made = [find_image(recipe.ref, recipe.key, store) for recipe in recipes]
    for image in filter(None, [*made, *_bases(recipes, store)]):
        yield image.digest
        yield digest_of(image.config)
        yield from (layer.digest for layer in image.layers)


def _bases(recipes: Iterable[Recipe], store: Store) -> list[Image]:
    """The brought bases that recipes stand on, as far as the store has them."""
    bases = {recipe.base.manifest: recipe.base for recipe in recipes if recipe.base}
    return [image for base in bases.values() if (image := held_base(base, store))]


def _base_layers(recipes: Iterable[Recipe], store: Store) -> Iterator[str]:
    return (layer_name(layer.digest) for image in _bases(recipes, store) for layer in image.layers)


def _others(folder: Path, keep: set[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in keep) if folder.exists() else []
