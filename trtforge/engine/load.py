"""From the store into an Engine: only the layers that it lacks are sent, and what came of it is looked at."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from trtforge.engine.docker_archive import docker_archive, sent_layers
from trtforge.engine.errors import EngineSays
from trtforge.errors import BuildError, EnvironmentLack, ForgeError

if TYPE_CHECKING:
    from trtforge.engine.docker_archive import LoadableImage
    from trtforge.engine.engine import Engine
    from trtforge.oci import Digest
    from trtforge.progress import Progress
    from trtforge.store import Store


def load(engine: Engine, image: LoadableImage, store: Store, progress: Progress) -> str:
    """Put `image` into `engine`; see `Engine.load`."""
    diff_ids = [layer.diff_id for layer in image.layers]
    # The containerd image store keeps blobs, not chains of layers: it needs the whole archive.
    present = 0 if engine.containerd_store() else engine.layers_present(diff_ids)
    had = {tag: engine.find_id(tag) for tag in image.tags}
    try:
        try:
            _send(engine, image, store, present, progress)
        except BuildError as error:
            if not present or error.fact("engine") is None:
                raise
            # The image that had the leading layers may have been removed meanwhile.
            _send(engine, image, store, 0, progress)
        return _verify(engine, image, diff_ids)
    except ForgeError:
        # The containerd image store gives the tag even to what it could not unpack.
        with suppress(ForgeError):
            for tag in (tag for tag in image.tags if engine.find_id(tag) != had[tag]):
                engine.remove(tag)
        raise


def _send(engine: Engine, image: LoadableImage, store: Store, present: int, progress: Progress) -> None:
    size = sum(layer.unpacked for layer in sent_layers(image, present))
    _check_room(engine, image.name, size)
    kept = f" ({present} of {len(image.layers)} layers are there)" if present else ""
    with (
        engine.errors(f"load {image.name}"),
        progress.task(f"load {image.name} into the Engine{kept}", size) as advance,
    ):
        for event in engine.api.load_image(docker_archive(image, store, present, advance)):
            advance(0)  # unpacking takes longer than sending, and can be ended too
            if "error" in event:
                raise EngineSays(event["error"])


def _check_room(engine: Engine, name: str, size: int) -> None:
    """See that the Engine's disk, where it can be seen from here, has room for `size` bytes of layers.

    Raises:
        EnvironmentLack: it has not.
    """
    folder = engine.folder()
    if folder is None:
        return
    needed, free = 2 * size, shutil.disk_usage(folder).free  # the archive lies beside what is unpacked of it
    if needed > free:
        raise EnvironmentLack(
            f"the Engine's disk has no room to load {name}",
            ("needed", f"{needed / 1e9:.1f} GB"),
            ("free", f"{free / 1e9:.1f} GB under {folder}"),
            ("next", "docker system df says what is there; docker image rm or prune frees some"),
        )


def _verify(engine: Engine, image: LoadableImage, diff_ids: list[Digest]) -> str:
    with engine.errors(f"look at {image.name}, just loaded"):
        found = engine.api.inspect_image(image.name)
    same = found["RootFS"].get("Layers") == diff_ids if engine.containerd_store() else found["Id"] == image.id
    if not same:
        raise BuildError(
            f"the Engine made another image of {image.name} than was sent",
            ("sent", image.id),
            ("found", found["Id"]),
        )
    return str(found["Id"])
