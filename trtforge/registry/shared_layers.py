"""Layers that machines make for one another, found by the key of what they are made from.

    registry.example/team/layers:<key of the layer's source>

is an artifact whose one blob is the layer, and whose annotations say what an image's configuration needs of
it. So any machine assembles an image from layers that others made, with neither wheels nor blobs at hand,
and the registry mounts the blob into the image's repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.errors import BuildError
from trtforge.image import UNPACKED
from trtforge.oci import LAYER_GZIP, MANIFEST, Digest, Layer
from trtforge.registry.artifact import EMPTY, artifact_manifest, read_manifest
from trtforge.registry.push import send_blob

if TYPE_CHECKING:
    from trtforge.progress import Progress
    from trtforge.registry.repository import Repository
    from trtforge.store import Store

KIND = "application/vnd.trtforge.layer"
DIFF_ID = "io.trtforge.diff-id"
"""Annotation of a shared layer: digest of its tar."""


class SharedLayers:
    """The layers in one repository, which holds nothing else."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def find(self, key: str) -> Layer | None:
        """The layer made from `key`, if its blob is there too; what is malformed is not there."""
        found = self.repository.find_manifest(key)
        if found is None:
            return None
        try:
            manifest = read_manifest(found.body, f"{self.repository.place}:{key}")
            blob, said = manifest.layers[0], manifest.annotations
            layer = Layer(blob.digest, Digest(said[DIFF_ID]), blob.size, int(said[UNPACKED]))
        except (BuildError, KeyError, ValueError, IndexError):
            return None
        return layer if self.repository.blob_size(layer.digest) == layer.size else None

    def keep(self, key: str, layer: Layer, store: Store, progress: Progress, name: str = "a layer") -> None:
        """Have `layer`, whose blob is in the store, there for others under `key`; `name` it to people."""
        if self.find(key) == layer:
            return
        with progress.task(f"share {name}", layer.size) as advance:
            send_blob(layer, self.repository, store, advance)
        described = {"mediaType": LAYER_GZIP, "digest": layer.digest, "size": layer.size}
        said = {DIFF_ID: layer.diff_id, UNPACKED: str(layer.unpacked)}
        self.repository.put_blob(EMPTY)
        self.repository.put_manifest(artifact_manifest(KIND, [described], annotations=said), MANIFEST, key)
