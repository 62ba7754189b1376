"""A layer with wheels and the bytecode of their modules.

Small wheels come so: one that changes moves one small layer, instead of itself and the bytecode of all. A
large wheel and its bytecode are apart (`wheel_layer`, `bytecode`), so that a new Python, which compiles
anew, does not move the large one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from trtforge.layers.bytecode import FORMAT as BYTECODE_FORMAT
from trtforge.layers.bytecode import add_bytecode
from trtforge.layers.gzip_tar import GzipTar
from trtforge.layers.wheel_layer import FORMAT as WHEEL_FORMAT
from trtforge.layers.wheel_layer import PinnedWheel, add_pinned, cut_facts, label, size_of
from trtforge.oci import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.layers.image_python import ImagePython
    from trtforge.layers.install_target import InstallTarget
    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.store import Store


FORMAT = 2
"""Raise it when the same wheels, target and interpreter give other bytes than before, beyond what the formats
of the two parts say."""


def compiled_in_store(
    store: Store,
    wheels: Sequence[PinnedWheel],
    target: InstallTarget,
    python: ImagePython,
    progress: Progress,
    jobs: int = 2,
) -> Layer:
    """The layer of `wheels` and their bytecode, from the store if it was made before.

    Raises:
        HashMismatch, UnsafeWheel, CorruptWheel: see `wheel_layer.layer_in_store`. Nothing is kept.
        BuildError: see `bytecode.bytecode_layer`. Nothing is kept.
    """

    def write(out: BinaryIO) -> Layer:
        command = python.enter()
        with progress.task(label(wheels), size_of(wheels)) as advance, store.work_folder() as work:
            tar = GzipTar(out, target.prefix, target.uid, target.gid, target.directories)
            add_pinned(wheels, target, tar, advance, work)
            # Compiling goes on under the same label; its bytes are not the wheels'.
            add_bytecode(
                [(wheel.path, wheel.cut) for wheel in wheels],
                target,
                command,
                tar,
                jobs,
                lambda _: advance(0),
            )
            return tar.finish()

    return store.made_layer(compiled_key(wheels, target, python.identity), write)


def compiled_key(wheels: Sequence[PinnedWheel], target: InstallTarget, identity: str) -> str:
    """What the layer is a function of, as the store's key."""
    facts = {
        "wheels": [wheel.sha256 for wheel in wheels],
        "target": target.facts(),
        "interpreter": identity,
        "formats": [FORMAT, WHEEL_FORMAT, BYTECODE_FORMAT],
        **cut_facts(wheels),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()
