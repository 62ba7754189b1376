"""A wheel's layer: the wheel's own deflate streams, framed as the gzip members of a tar.

A zip stores each member deflated, with its CRC-32 and size; a gzip member is a header, a deflate stream and
exactly those two numbers (RFC 1952, section 2.3). Several gzip members in a row are one valid gzip file. So
the compressed layer needs no compression: bytes are copied, and only tar headers are new.

Everything is still inflated once, to hash it: the layer's diff ID, and RECORD's hash of every file. What a
cut leaves out of the layer is not; the wheel's own hash is over it all the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from trtforge.errors import CorruptWheel, HashMismatch, UnsafeWheel
from trtforge.layers.cut import WHOLE, Cut
from trtforge.layers.gzip_tar import GzipTar
from trtforge.layers.layer_destination import Into, LayerDestination, Places
from trtforge.layers.wheel_archive import WheelArchive
from trtforge.layers.wheel_contents import WheelContents, install_wheel
from trtforge.oci import canonical_json
from trtforge.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.layers.install_target import InstallTarget
    from trtforge.oci import Layer
    from trtforge.progress import Advance, Progress
    from trtforge.store import Store

FORMAT = 1
"""Raise it when the same wheels and target give other bytes than before; stored layers are then made anew."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel file, the SHA-256, in hexadecimal, that the lock gives it, and what of it a layer holds."""

    path: Path
    sha256: str
    cut: Cut = WHOLE


def wheel_layer(
    wheels: Sequence[Path], target: InstallTarget, out: BinaryIO, advance: Advance = ignore
) -> Layer:
    """Write `wheels`, as installed under `target`, to `out` as one gzip-compressed tar.

    The result depends on nothing but the wheels' bytes, their order and `target`. What is written is only
    good if this returns.

    Args:
        wheels: one, or several that share a layer; their directories are written once.
        out: where the blob goes; only written to.
        advance: told the compressed bytes copied.

    Raises:
        UnsafeWheel: a member would land outside the prefix, repeats, hides something, is not named in RECORD,
            or is in two of the wheels with different content.
        CorruptWheel: a CRC, size or hash differs from what the archive or RECORD says.
    """
    tar = GzipTar(out, target.prefix, target.uid, target.gid, target.directories)
    into = Into(target, tar, Places(), advance)
    for wheel in wheels:
        _add_wheel(wheel, None, WHOLE, into)
    return tar.finish()


def layer_in_store(
    store: Store, wheels: Sequence[PinnedWheel], target: InstallTarget, progress: Progress
) -> Layer:
    """The layer of `wheels`, from the store if it was made before.

    Raises:
        HashMismatch: a wheel is not the one that is pinned. Nothing is kept.
        UnsafeWheel, CorruptWheel: see `wheel_layer`. Nothing is kept.
        StaleFileRule: a wheel's cut is of another one. Nothing is kept.
    """

    def write(out: BinaryIO) -> Layer:
        with progress.task(label(wheels), size_of(wheels)) as advance, store.work_folder() as work:
            tar = GzipTar(out, target.prefix, target.uid, target.gid, target.directories)
            add_pinned(wheels, target, tar, advance, work)
            store.checked.update(wheel.sha256 for wheel in wheels)
            return tar.finish()

    return store.made_layer(layer_key(wheels, target), write)


def add_pinned(
    wheels: Sequence[PinnedWheel], target: InstallTarget, tar: GzipTar, advance: Advance, work: Path
) -> None:
    """Write what `wheels` install to `tar`, which is only good if this returns. `work`: for unfinished files.

    Raises:
        HashMismatch: a wheel is not the one that is pinned.
        UnsafeWheel, CorruptWheel: see `wheel_layer`.
        StaleFileRule: a wheel's cut is of another one.
        NotUnderstood, NothingRuns: a library cannot be slimmed (see `slim_library`).
    """
    into = Into(target, tar, Places(), advance, work)
    try:
        for wheel in wheels:
            _add_wheel(wheel.path, wheel.sha256, wheel.cut, into)
    except (UnsafeWheel, CorruptWheel):
        # That it is another file than the one pinned explains more than what is odd about it.
        for wheel in wheels:
            verify(wheel)
        raise


def _add_wheel(path: Path, sha256: str | None, cut: Cut, into: Into) -> None:
    """Write what the wheel installs by its `cut`; `sha256`: what the file must have, if anything."""
    with WheelArchive(path) as archive:
        contents = WheelContents(archive, cut)
        install_wheel(contents, LayerDestination(contents, into))
        if sha256 is not None:
            _compare(path, sha256, archive.sha256())


def layer_key(wheels: Sequence[PinnedWheel], target: InstallTarget) -> str:
    """What the layer of `wheels` is a function of, as the store's key."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "wheels": [wheel.sha256 for wheel in wheels],
        "target": target.facts(),
        **cut_facts(wheels),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def cut_facts(wheels: Sequence[PinnedWheel]) -> dict[str, Any]:
    """What a layer's key says of the cuts of `wheels`, by the wheel's hash: nothing where all are whole."""
    cuts = {wheel.sha256: wheel.cut.facts() for wheel in wheels if wheel.cut}
    return {"cuts": cuts} if cuts else {}


def verify(wheel: PinnedWheel, advance: Advance = ignore) -> None:
    """Read all of `wheel` and check its hash; `advance` is told the bytes read.

    Raises:
        HashMismatch: it is not the file that is pinned.
    """
    found = hashlib.sha256()
    with wheel.path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            advance(len(chunk))
    _compare(wheel.path, wheel.sha256, found.hexdigest())


def _compare(path: Path, expected: str, actual: str) -> None:
    if actual != expected:
        raise HashMismatch(path.name, expected, actual)


def size_of(wheels: Sequence[PinnedWheel]) -> int:
    """Bytes of the files."""
    return sum(wheel.path.stat().st_size for wheel in wheels)


def label(wheels: Sequence[PinnedWheel]) -> str:
    """What a person is told of making the layer of `wheels`."""
    if len(wheels) != 1:
        return f"layer of {len(wheels)} wheels"
    return " ".join(("layer", *wheels[0].path.name.split("-")[:2]))
