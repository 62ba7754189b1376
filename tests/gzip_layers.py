"""Layers made by hand, for tests."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from trtforge.oci import Layer, digest_of

if TYPE_CHECKING:
    from trtforge.store import Store


def gzip_layer(store: Store, tar: bytes, members: int = 2) -> Layer:
    """Put `tar` into the store as a layer blob of several gzip members, as the ones made from wheels are."""
    step = max(1, -(-len(tar) // members))
    pieces = [tar[start : start + step] for start in range(0, len(tar), step)] or [b""]
    blob = b"".join(gzip.compress(piece, compresslevel=1, mtime=0) for piece in pieces)
    layer = Layer(digest_of(blob), digest_of(tar), len(blob), len(tar))
    store.write_blob(blob, layer.digest)
    return layer
