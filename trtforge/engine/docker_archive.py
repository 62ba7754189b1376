"""An image as a docker-archive: what `docker load` reads, made on the fly from the store's blobs.

Format: a tar with manifest.json, the image configuration and one uncompressed tar for each layer ("Combined
Image JSON + Filesystem Changeset Format" in Docker's image specification v1.2). The Engine looks at a layer's
file only when it lacks that layer, so the leading layers it already has need not be sent.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isal import igzip, igzip_lib

from trtforge.engine.tar_stream import CHUNK, Member, tar_stream
from trtforge.errors import BuildError
from trtforge.oci import Digest, Layer, canonical_json, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from trtforge.progress import Advance
    from trtforge.store import Store


@dataclass(frozen=True)
class LoadableImage:
    """An image whose layers are in the store.

    config: the image configuration (OCI config.md), as its digest was computed from.
    layers: bottom first; their diff IDs are the configuration's.
    tags: "name:tag" each, at least one.
    """

    config: bytes
    layers: tuple[Layer, ...]
    tags: tuple[str, ...]

    @property
    def id(self) -> Digest:
        """The image's ID in an Engine with the classic image store."""
        return digest_of(self.config)

    @property
    def name(self) -> str:
        """What to call it when talking to a person."""
        return self.tags[0]


def docker_archive(image: LoadableImage, store: Store, present: int, advance: Advance) -> Iterator[bytes]:
    """The archive of `image` without its first `present` layers; `advance` is told the layer bytes sent.

    Raises:
        BuildError: a layer's blob is missing, cannot be read or is damaged.
    """
    return tar_stream(_members(image, store, present, advance))


def sent_layers(image: LoadableImage, present: int) -> tuple[Layer, ...]:
    """The layers an archive without the first `present` ones holds, each once."""
    return tuple({layer.diff_id: layer for layer in image.layers[present:]}.values())


def _members(image: LoadableImage, store: Store, present: int, advance: Advance) -> Iterator[Member]:
    config_name = f"{_hex(image.id)}.json"
    manifest = canonical_json(
        [
            {
                "Config": config_name,
                "RepoTags": list(image.tags),
                "Layers": [_file_name(layer) for layer in image.layers],
            }
        ]
    )
    yield Member("manifest.json", len(manifest), [manifest])
    yield Member(config_name, len(image.config), [image.config])
    for layer in sent_layers(image, present):
        yield Member(_file_name(layer), layer.unpacked, _inflated(layer, store, advance))


def _inflated(layer: Layer, store: Store, advance: Advance) -> Iterator[bytes]:
    blob = store.blob(layer.digest)
    try:
        with blob.open("rb") as raw:
            hashed = _Hashed(raw)
            with igzip.open(hashed, "rb") as file:  # type: ignore[no-untyped-call]
                while chunk := file.read(CHUNK):
                    yield chunk
                    advance(len(chunk))
            if hashed.digest() != layer.digest:
                raise ValueError("it is not what its name says")
    except FileNotFoundError as error:
        raise BuildError(
            "a layer is not in the store any more",
            ("blob", str(blob)),
            ("next", "run the same command again: the layer is made anew"),
        ) from error
    except (OSError, EOFError, ValueError, zlib.error, igzip_lib.IsalError) as error:  # type: ignore[misc]
        blob.unlink(missing_ok=True)
        raise BuildError(
            f"a layer in the store was damaged, and is dropped: {error}",
            ("blob", str(blob)),
            ("next", "run the same command again: the layer is made anew"),
        ) from error


class _Hashed(io.RawIOBase):
    """Reads a file and hashes what was read, so that loading an image also checks its blobs."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        count = self._file.readinto(view)
        self._sha256.update(view[:count])
        return count

    def digest(self) -> Digest:
        """Of the whole file, whose rest is read for it."""
        while self.read(CHUNK):
            pass
        return Digest(f"sha256:{self._sha256.hexdigest()}")


def _file_name(layer: Layer) -> str:
    return f"{_hex(layer.diff_id)}/layer.tar"


def _hex(digest: Digest) -> str:
    return digest.removeprefix("sha256:")
