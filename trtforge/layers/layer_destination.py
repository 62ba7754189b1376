"""Where `installer` writes a wheel's files to: the tar of a layer, together with other wheels'."""

from __future__ import annotations

import hashlib
import io
import posixpath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from installer.destinations import WheelDestination
from installer.records import RecordEntry
from installer.scripts import Script
from installer.utils import construct_record_file, fix_shebang

from trtforge.errors import UnsafeWheel
from trtforge.layers.gzip_tar import GzipTar, Piece, stored
from trtforge.layers.slim_member import slimmed
from trtforge.layers.wheel_archive import why_unsafe
from trtforge.layers.wheel_contents import (
    MemberStream,
    WheelContents,
    place,
    record_hash,
    reserved,
    scheme_root,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from installer.scripts import ScriptSection
    from installer.utils import Scheme

    from trtforge.layers.install_target import InstallTarget
    from trtforge.progress import Advance

_PYTHON = b"#!python"

MAX_SCRIPT = 16 << 20
"""Bytes of a `#!python` script, which is rewritten in memory; text, so far below."""


class _Written(NamedTuple):
    wheel: str
    sha256: bytes
    executable: bool


class Places:
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


class Into(NamedTuple):
    """The layer that wheels are written to, one after the other; `work` is for files in progress."""

    target: InstallTarget
    tar: GzipTar
    places: Places
    advance: Advance
    work: Path | None = None


class LayerDestination(WheelDestination):
    """Where `installer` writes to: the tar of a layer.

    What the wheel's cut leaves to a layer below is not written: only RECORD names it.
    """

    def __init__(self, wheel: WheelContents, into: Into) -> None:
        self._archive, self._distribution, self._cut = wheel.archive, wheel.distribution, wheel.cut
        self._target, self._reserved = into.target, reserved(into.target)
        self._tar, self._places, self._advance, self._work = into.tar, into.places, into.advance, into.work

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:
        if "/" in name or why_unsafe(name):
            raise UnsafeWheel(self._archive.name, "entry_points.txt", f"{name!r} is no name for a script")
        _, content = Script(name, module, attr, section).generate(self._target.interpreter, "posix")
        return self._write("scripts", name, content, executable=True, here=not self._cut.gives_back)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        path = str(path)
        if not isinstance(stream, MemberStream):
            return self._write(scheme, path, stream.read(), is_executable, here=not self._cut.gives_back)
        here = self._cut.holds(stream.member.name)
        if scheme == "scripts" and self._archive.head(stream.member, len(_PYTHON)) == _PYTHON:
            with fix_shebang(io.BytesIO(stream.content(MAX_SCRIPT)), self._target.interpreter) as fixed:
                return self._write(scheme, path, fixed.read(), is_executable, here=here)
        if here and self._cut.slims(stream.member.name):
            return self._slim(scheme, path, stream, is_executable)
        return self._copy(scheme, path, stream, is_executable, here=here)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        def prefix_for(other: Scheme) -> str | None:
            start = scheme_root(scheme, self._target, self._distribution)
            root = scheme_root(other, self._target, self._distribution)
            return None if other == scheme else posixpath.relpath(root, start) + "/"

        with construct_record_file(records, prefix_for) as record:
            self._write(scheme, record_file_path, record.read(), executable=False)

    def _write(
        self, scheme: str, path: str, content: bytes, executable: bool, *, here: bool = True
    ) -> RecordEntry:
        at = self._place(scheme, path)
        sha256 = hashlib.sha256(content).digest()
        if here and self._places.is_free(at, self._archive.name, path):
            self._tar.add_file(at, content, executable=executable)
        self._places.fill(at, path, _Written(self._archive.name, sha256, executable))
        return RecordEntry(path, record_hash(sha256), len(content))

    def _copy(
        self, scheme: str, path: str, stream: MemberStream, executable: bool, *, here: bool
    ) -> RecordEntry:
        at = self._place(scheme, path)
        member, pieces = stream.member, self._watched(stream.pieces())
        if not here and (sha256 := stream.recorded()):  # checked where the layer below was made
            return RecordEntry(path, record_hash(sha256), member.size)
        if here and self._places.is_free(at, self._archive.name, member.name):
            streamed = pieces if member.deflated else stored(pieces, member.size)
            self._tar.add_deflated(at, member.size, member.crc, streamed, executable=executable)
        else:
            for _ in pieces:
                pass
        sha256 = stream.sha256.digest()
        self._places.fill(at, member.name, _Written(self._archive.name, sha256, executable))
        return RecordEntry(path, record_hash(sha256), member.size)

    def _slim(self, scheme: str, path: str, stream: MemberStream, executable: bool) -> RecordEntry:
        """Write the library without the code of other GPUs."""
        at, name = self._place(scheme, path), stream.member.name
        with slimmed(stream, self._cut.sm, self._work, self._advance) as slim:
            if self._places.is_free(at, self._archive.name, name):
                with slim.path.open("rb") as file:
                    self._tar.add_stream(at, slim.size, file, executable=executable)
        self._places.fill(at, name, _Written(self._archive.name, slim.sha256, executable))
        return RecordEntry(path, record_hash(slim.sha256), slim.size)

    def _place(self, scheme: str, path: str) -> str:
        at = place(scheme, path, self._target, self._distribution)
        if at in self._reserved:
            raise UnsafeWheel(self._archive.name, path, f"it would replace {at}, which belongs to the image")
        return at

    def _watched(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._advance(len(piece.deflated))
            yield piece
