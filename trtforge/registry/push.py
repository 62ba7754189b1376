"""An image from the store into a registry; no Engine is needed, and nothing is sent that is there.

A manifest comes last: a registry shows an image when it is whole, and not before.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.errors import BuildError, DamagedFile
from trtforge.oci import MANIFEST, Digest
from trtforge.progress import Stoppable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.image import Image
    from trtforge.oci import Layer
    from trtforge.progress import Advance, Progress
    from trtforge.registry.repository import Repository
    from trtforge.store import Store

TRANSFERS = 4
"""Layers on their way at once, as in Docker and skopeo."""


_TAG_ATTEMPTS = 4


@dataclass(frozen=True)
class Pushed:
    """What a push did. digest: of the manifest. The others: bytes of layers, by the way they took.

    uploaded: sent. mounted: taken over from another repository. present: there already.
    """

    digest: Digest
    uploaded: int
    mounted: int
    present: int


def push_image(
    image: Image,
    tag: str,
    target: Repository,
    store: Store,
    progress: Progress,
    *,
    sources: Sequence[Repository] = (),
) -> Pushed:
    """Have `image` in the repository `target` as `tag`.

    A layer that is not there is mounted from one of `sources`; else sent from the store; else, if the store
    has not got it, fetched from one of `sources` and sent.

    Raises:
        BuildError: neither the store nor a source has a layer; or another image took the tag meanwhile.
        DamagedFile: a blob in the store is not what its digest says; it was dropped.
        EnvironmentLack: the registry does not answer or refuses.
    """
    sizes = {"uploaded": 0, "mounted": 0, "present": 0}
    layers = {layer.digest: layer for layer in image.layers}
    guarded = Stoppable(progress)
    with ThreadPoolExecutor(TRANSFERS, "push") as pool, ExitStack() as transfers:
        transfers.callback(guarded.stop)
        here = transfers.enter_context(target.branch())
        there = [transfers.enter_context(source.branch()) for source in sources]
        with guarded.task(f"push {target.name}", sum(layer.size for layer in layers.values())) as advance:
            # The largest first: the end of the work is then shared by small ones.
            order = sorted(layers.values(), key=lambda layer: -layer.size)
            jobs = {pool.submit(_have_layer, layer, here, there, store, advance): layer for layer in order}
            try:
                for job in as_completed(jobs):
                    sizes[job.result()] += jobs[job].size
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        here.put_blob(image.config)
        _put_tagged(here, tag, image, _manifest(image, store))
    return Pushed(image.digest, **sizes)


def _have_layer(
    layer: Layer, target: Repository, sources: Sequence[Repository], store: Store, advance: Advance
) -> str:
    """Bring one layer to `target`; the way it took."""
    if target.blob_size(layer.digest) is not None:
        advance(layer.size)
        return "present"
    holders = [source for source in sources if source.blob_size(layer.digest) is not None]
    for source in holders:
        if source.host == target.host and target.mount(layer.digest, source.name):
            advance(layer.size)
            return "mounted"
    if store.holds(layer):
        send_blob(layer, target, store, advance)
    elif holders:
        with store.work_folder() as work:
            holders[0].save_blob(layer.digest, work / "layer", lambda _fetched: None)
            target.upload(layer.digest, work / "layer", advance)
    else:
        raise BuildError(
            f"the layer {layer.digest} is neither in the store nor in a registry",
            ("next", "run the same command again: it is made anew"),
        )
    return "uploaded"


def send_blob(layer: Layer, target: Repository, store: Store, advance: Advance) -> None:
    """Upload the blob of `layer` from the store; one that turns out to be damaged is dropped there."""
    try:
        target.upload(layer.digest, store.blob(layer.digest), advance)
    except DamagedFile:
        store.blob(layer.digest).unlink(missing_ok=True)
        raise


def _manifest(image: Image, store: Store) -> bytes:
    body = store.read_blob(image.digest)
    if body is None:
        raise BuildError(
            f"the store has lost the manifest {image.digest}",
            ("next", "run the same command again: it is made anew"),
        )
    return body


def _put_tagged(target: Repository, tag: str, image: Image, manifest: bytes) -> None:
    """Write the manifest under `tag`, again if somebody who has finished with the same tag removes it just
    then: two who publish one image have the same staging tag."""
    found: Digest | None = None
    for attempt in range(_TAG_ATTEMPTS):
        time.sleep(0.05 * attempt)
        target.put_manifest(manifest, MANIFEST, tag)
        found = target.find_digest(tag)
        if found == image.digest:
            return
    raise BuildError(
        f"{target.place}:{tag} is not what was just pushed",
        ("pushed", image.digest),
        ("found", found or "nothing"),
        ("next", "see who else writes this tag, then run the same command again"),
    )
