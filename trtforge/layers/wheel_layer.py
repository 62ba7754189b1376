"""A wheel's layer: the wheel's own deflate streams, framed as the gzip members of a tar.

A zip stores each member deflated, with its CRC-32 and size; a gzip member is a header, a deflate stream and
exactly those two numbers (RFC 1952, section 2.3). Several gzip members in a row are one valid gzip file. So
the compressed layer needs no compression: bytes are copied, and only tar headers are new.

Everything is still inflated once, to hash it: the layer's diff ID, and RECORD's hash of every file.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from installer.destinations import WheelDestination
from installer.records import RecordEntry
from installer.scripts import Script
from installer.utils import construct_record_file, fix_shebang

from trtforge.errors import CorruptWheel, HashMismatch, UnsafeWheel
from trtforge.layers.gzip_tar import GzipTar, Piece, stored
from trtforge.layers.wheel_archive import WheelArchive, why_unsafe
from trtforge.layers.wheel_contents import (
    MemberStream,
    WheelContents,
    install_wheel,
    place,
    record_hash,
    reserved,
    scheme_root,
)
from trtforge.oci import canonical_json
from trtforge.progress import ignore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from installer.scripts import ScriptSection
    from installer.utils import Scheme

    from trtforge.layers.install_target import InstallTarget
    from trtforge.oci import Layer
    from trtforge.progress import Advance, Progress
    from trtforge.store import Store

FORMAT = 1
"""Raise it when the same wheels and target give other bytes than before; stored layers are then made anew."""

_PYTHON = b"#!python"

_CHUNK = 1 << 20

MAX_SCRIPT = 16 << 20
"""Bytes of a `#!python` script, which is rewritten in memory; text, so far below."""


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel file and the SHA-256, in hexadecimal, that the lock gives it."""

    path: Path
    sha256: str


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
    add_wheels([(wheel, None) for wheel in wheels], target, tar, advance)
    return tar.finish()


def layer_in_store(
    store: Store, wheels: Sequence[PinnedWheel], target: InstallTarget, progress: Progress
) -> Layer:
    """The layer of `wheels`, from the store if it was made before.

    Raises:
        HashMismatch: a wheel is not the one that is pinned. Nothing is kept.
        UnsafeWheel, CorruptWheel: see `wheel_layer`. Nothing is kept.
    """

    def write(out: BinaryIO) -> Layer:
        with progress.task(label(wheels), size_of(wheels)) as advance:
            tar = GzipTar(out, target.prefix, target.uid, target.gid, target.directories)
            add_pinned(wheels, target, tar, advance)
            store.checked.update(wheel.sha256 for wheel in wheels)
            return tar.finish()

    return store.made_layer(layer_key(wheels, target), write)


def add_wheels(
    wheels: Sequence[tuple[Path, str | None]], target: InstallTarget, tar: GzipTar, advance: Advance
) -> None:
    """Write what `wheels`, each with the hash it must have, if any, install to `tar`; see `wheel_layer`."""
    places = _Places()
    for path, sha256 in wheels:
        with WheelArchive(path) as archive:
            contents = WheelContents(archive)
            install_wheel(contents, _LayerDestination(contents, target, tar, places, advance))
            if sha256 is not None:
                _compare(path, sha256, archive.sha256())


def add_pinned(wheels: Sequence[PinnedWheel], target: InstallTarget, tar: GzipTar, advance: Advance) -> None:
    """Write what `wheels` install to `tar`, which is only good if this returns.

    Raises:
        HashMismatch: a wheel is not the one that is pinned.
        UnsafeWheel, CorruptWheel: see `wheel_layer`.
    """
    try:
        add_wheels([(wheel.path, wheel.sha256) for wheel in wheels], target, tar, advance)
    except (UnsafeWheel, CorruptWheel):
        # That it is another file than the one pinned explains more than what is odd about it.
        for wheel in wheels:
            verify(wheel)
        raise


def layer_key(wheels: Sequence[PinnedWheel], target: InstallTarget) -> str:
    """What the layer of `wheels` is a function of, as the store's key."""
    facts = {"format": FORMAT, "wheels": [wheel.sha256 for wheel in wheels], "target": target.facts()}
    return hashlib.sha256(canonical_json(facts)).hexdigest()


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


class _Written(NamedTuple):
    wheel: str
    sha256: bytes
    executable: bool


class _Places:
    """What has been put where, so that nothing is written twice, or as a file where a directory is."""

    def __init__(self) -> None:
        self._files: dict[str, _Written] = {}
        self._directories: dict[str, str] = {}

    def is_free(self, path: str, wheel: str, member: str) -> bool:
        """Whether no file is at `path` yet.

        Raises:
            UnsafeWheel: a directory is there, or a file is where a directory must be.
        """
        if path in self._directories:
            raise UnsafeWheel(wheel, member, f"{path} is a directory in {self._directories[path]}")
        parent = posixpath.dirname(path)
        while parent not in self._directories and parent != "/":
            if parent in self._files:
                raise UnsafeWheel(wheel, member, f"{parent} is a file in {self._files[parent].wheel}")
            self._directories[parent] = wheel
            parent = posixpath.dirname(parent)
        return path not in self._files

    def fill(self, path: str, member: str, written: _Written) -> None:
        """Remember what is at `path`. Two wheels may put the same file there.

        Raises:
            UnsafeWheel: the files differ, or one wheel has both.
        """
        known = self._files.setdefault(path, written)
        if known is not written and (known.wheel == written.wheel or known[1:] != written[1:]):
            raise UnsafeWheel(written.wheel, member, f"{known.wheel} has another file at {path}")


class _LayerDestination(WheelDestination):
    """Where `installer` writes to: the tar of a layer."""

    def __init__(
        self, wheel: WheelContents, target: InstallTarget, tar: GzipTar, places: _Places, advance: Advance
    ) -> None:
        self._archive, self._distribution = wheel.archive, wheel.distribution
        self._target, self._reserved = target, reserved(target)
        self._tar, self._places, self._advance = tar, places, advance

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if "/" in name or why_unsafe(name):
            raise UnsafeWheel(self._archive.name, "entry_points.txt", f"{name!r} is no name for a script")
        _, content = Script(name, module, attr, section).generate(self._target.interpreter, "posix")
        return self._write("scripts", name, content, executable=True)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        path = str(path)
        if not isinstance(stream, MemberStream):
            return self._write(scheme, path, stream.read(), is_executable)
        if scheme == "scripts" and self._archive.head(stream.member, len(_PYTHON)) == _PYTHON:
            with fix_shebang(io.BytesIO(stream.content(MAX_SCRIPT)), self._target.interpreter) as fixed:
                return self._write(scheme, path, fixed.read(), is_executable)
        return self._copy(scheme, path, stream, is_executable)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        def prefix_for(other: Scheme) -> str | None:
            start = scheme_root(scheme, self._target, self._distribution)
            root = scheme_root(other, self._target, self._distribution)
            return None if other == scheme else posixpath.relpath(root, start) + "/"

        with construct_record_file(records, prefix_for) as record:
            self._write(scheme, record_file_path, record.read(), executable=False)

    def _write(self, scheme: str, path: str, content: bytes, executable: bool) -> RecordEntry:
        at = self._place(scheme, path)
        sha256 = hashlib.sha256(content).digest()
        if self._places.is_free(at, self._archive.name, path):
            self._tar.add_file(at, content, executable=executable)
        self._places.fill(at, path, _Written(self._archive.name, sha256, executable))
        return RecordEntry(path, record_hash(sha256), len(content))

    def _copy(self, scheme: str, path: str, stream: MemberStream, executable: bool) -> RecordEntry:
        at = self._place(scheme, path)
        member, pieces = stream.member, self._watched(stream.pieces())
        if self._places.is_free(at, self._archive.name, member.name):
            streamed = pieces if member.deflated else stored(pieces, member.size)
            self._tar.add_deflated(at, member.size, member.crc, streamed, executable=executable)
        else:
            for _ in pieces:
                pass
        sha256 = stream.sha256.digest()
        self._places.fill(at, member.name, _Written(self._archive.name, sha256, executable))
        return RecordEntry(path, record_hash(sha256), member.size)

    def _place(self, scheme: str, path: str) -> str:
        at = place(scheme, path, self._target, self._distribution)
        if at in self._reserved:
            raise UnsafeWheel(self._archive.name, path, f"it would replace {at}, which belongs to the image")
        return at

    def _watched(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._advance(len(piece.deflated))
            yield piece
