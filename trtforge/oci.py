"""The words of the OCI image specification that the rest of trtforge uses: digest, descriptor, layer.

Source: OCI image-spec 1.1 (descriptor.md, manifest.md, config.md, image-layout.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NewType

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hexadecimal digits."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"

EPOCH = 315532800
"""The one time that occurs in our images, in seconds (1980-01-01T00:00:00Z, the earliest a zip can say):
the build's own time must not leak in, or the same lock would not give the same digest."""


@dataclass(frozen=True)
class Layer:
    """A layer blob in the store.

    digest: sha256 of the compressed blob, as the manifest names it.
    diff_id: sha256 of the uncompressed tar, as the image configuration names it (config.md).
    size: bytes of the compressed blob.
    unpacked: bytes of the uncompressed tar.
    """

    digest: Digest
    diff_id: Digest
    size: int
    unpacked: int


def digest_of(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def canonical_json(value: Any) -> bytes:
    """`value` as JSON whose bytes depend on nothing but the value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def is_program(content: bytes) -> bool:
    """Whether a file that is copied into an image may be executed: it names its interpreter (execve(2)).

    The mode that it has in a checkout is an accident of how that was made.
    """
    return content.startswith(b"#!")
