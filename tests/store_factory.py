"""A store in which recipes are done without wheels or packages: a layer has one file, named by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.image import Image, assemble, name_image
from trtforge.layers.gzip_tar import GzipTar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Layer
    from trtforge.recipe import Recipe
    from trtforge.store import Store


def make_layers(sources: Iterable[LayerSource], store: Store) -> dict[str, Layer]:
    """A layer for each source, by its key."""
    made = {}
    for source in sources:
        with store.work_folder() as work:
            with (work / "layer").open("wb") as out:
                tar = GzipTar(out)
                tar.add_file(f"/{source.key}", b"content")
                layer = tar.finish()
            store.keep_layer(source.key, work / "layer", layer)
        made[source.key] = layer
    return made


def finish_images(chain: Sequence[Recipe], store: Store) -> list[Image]:
    """The images of `chain` in `store`, under all their names."""
    images: list[Image] = []
    for recipe in chain:
        layers = make_layers(recipe.sources.values(), store)
        by_path = {path: layers[source.key] for path, source in recipe.sources.items()}
        parent = images[-1] if images else None
        images.append(assemble(recipe.dockerfile, by_path, recipe.files, parent, store))
        for ref in recipe.refs:
            name_image(images[-1], ref, recipe.key, store)
    return images
