"""Small images in a store, without recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.image import Image, keep_image
from trtforge.layers.gzip_tar import GzipTar
from trtforge.oci import Layer, canonical_json

if TYPE_CHECKING:
    from trtforge.store import Store


def layer_of(store: Store, number: int, size: int = 1000) -> Layer:
    """A layer with one file of `size` bytes, the same for the same `number`; its key is "layer-<number>"."""
    key = f"layer-{number}"
    with store.work_folder() as work:
        with (work / "layer").open("wb") as out:
            tar = GzipTar(out)
            tar.add_file(f"/file-{number}", (f"{number} " * size).encode()[:size])
            layer = tar.finish()
        store.keep_layer(key, work / "layer", layer)
    return layer


def image_of(store: Store, layers: int, repeated: int = 0) -> Image:
    """An image of the layers 0, 1, ...; the first `repeated` ones occur once more."""
    stack = [layer_of(store, number) for number in [*range(layers), *range(repeated)]]
    diff_ids = [layer.diff_id for layer in stack]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs}
    return keep_image(canonical_json(config), tuple(stack), store)
