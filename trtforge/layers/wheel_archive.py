"""A wheel's zip, read safely and in one pass: member after member, with nothing taken on trust.

A name is refused if it could land anywhere but below the place it is unpacked to, or if two readers could
take it for two things. Content is inflated once, its size and CRC-32 are checked, and the deflate stream must
end exactly where the member ends. The bytes that pass are hashed, so that reading all members in order also
tells whether the file is the one that was locked.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from isal import igzip_lib, isal_zlib

from trtforge.errors import CorruptWheel, UnsafeWheel
from trtforge.layers.gzip_tar import Piece
from trtforge.layers.zip_directory import ARCHIVE, ZipFault, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BROKEN = cast("type[Exception]", igzip_lib.error)
"""What a broken deflate stream raises (the stubs call it an instance)."""

CHUNK = 1 << 20
"""Bytes read, and bytes inflated, at a time."""

MAX_MEMBERS = 200_000
"""Files in one wheel; torch, the largest known, has 12,000. Every one costs memory before any is read."""

MAX_NAME, MAX_PATH = 255, 3800
"""Bytes of a file name and of a path: Linux takes 255 and 4095, and the prefix needs room."""

FREE_EXPANSION, MAX_EXPANSION = 1 << 30, 100
"""A wheel may inflate to 1 GiB, or to 100 times its own size if that is more: the largest known ones inflate
to twice their size, and deflate itself stops at 1032 times."""


@dataclass(frozen=True)
class Member:
    """A file in a wheel.

    name: its path in the archive, relative, with slashes.
    size: bytes when inflated.
    crc: CRC-32 of the inflated content.
    executable: whether the archive gives it an executable bit.
    deflated: whether it is deflated; otherwise it is stored as it is.
    start: offset of its data in the archive.
    compressed: bytes of its data.
    """

    name: str
    size: int
    crc: int
    executable: bool
    deflated: bool
    start: int
    compressed: int


class WheelArchive:
    """An open wheel. A context manager; closed at the end of the block.

    path: the file.
    name: its name, for messages.
    size: its bytes.
    members: the files in it, by name, in the order they lie in the archive. Directories are left out, as
        installers leave them out.

    Raises:
        UnsafeWheel: a name, a type or the layout of the archive is refused.
        CorruptWheel: the archive contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._file = path.open("rb")
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self._sha256 = hashlib.sha256()
            self._hashed = 0
            self.members = self._read_directory()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def pieces(self, member: Member) -> Iterator[Piece]:
        """The content of `member`, in pieces of about 1 MiB; of a stored member, both sides are the same.

        Raises:
            CorruptWheel: it is not what the archive says it is; known at the latest after the last piece.
            UnsafeWheel: something hides behind the end of its deflate stream.
        """
        self._hash_up_to(member.start)
        return self._inflate(member, self._pass)

    def read(self, member: Member, limit: int) -> bytes:
        """The content of a member that fits into memory.

        Raises:
            CorruptWheel: it is not what the archive says it is.
            UnsafeWheel: it has more than `limit` bytes.
        """
        if member.size > limit:
            raise UnsafeWheel(
                self.name, member.name, f"it has {member.size} bytes, over the limit of {limit}"
            )
        return b"".join(piece.plain for piece in self._inflate(member, self._read))

    def head(self, member: Member, count: int) -> bytes:
        """The first `count` bytes of `member`, unchecked."""
        start = self._read(member.start, min(member.compressed, CHUNK // 16))
        if not member.deflated:
            return start[:count]
        try:
            return bytes(igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE).decompress(start, count))
        except _BROKEN as error:
            raise self._corrupt(member, f"its deflate stream is broken: {error}") from error

    def sha256(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal; what `pieces` has read is not read again."""
        self._hash_up_to(self.size)
        return self._sha256.hexdigest()

    def _read_directory(self) -> dict[str, Member]:
        seen: set[str] = set()
        directories: set[str] = set()
        members: dict[str, Member] = {}
        try:
            for info, start in entries(self._file, self._read, self.size):
                name = info.orig_filename
                if len(seen) >= MAX_MEMBERS:
                    raise ZipFault(ARCHIVE, f"it has more than {MAX_MEMBERS} members")
                kind = stat.S_IFMT(info.external_attr >> 16)
                is_directory = name.endswith("/")
                if kind not in (0, stat.S_IFDIR if is_directory else stat.S_IFREG):
                    raise ZipFault(name, "it is neither a file nor a directory")
                if (reason := why_unsafe(name.removesuffix("/"))) is not None:
                    raise ZipFault(name, reason)
                same = unicodedata.normalize("NFC", name.removesuffix("/"))
                if same in seen:
                    raise ZipFault(name, "it is there twice")
                seen.add(same)
                if is_directory:
                    if info.file_size:
                        raise ZipFault(name, "it is a directory and has content")
                    directories.add(same)
                    continue
                directories.update(_parents(same))
                members[name] = _member(info, start)
            for name in members:
                if unicodedata.normalize("NFC", name) in directories:
                    raise ZipFault(name, "it is a file and a directory")
            unpacked = sum(member.size for member in members.values())
            if unpacked > max(FREE_EXPANSION, MAX_EXPANSION * self.size):
                raise ZipFault(
                    ARCHIVE, f"it inflates to {unpacked} bytes, over {MAX_EXPANSION} times its size"
                )
        except ZipFault as fault:
            error = UnsafeWheel if fault.unsafe else CorruptWheel
            raise error(self.name, fault.member, fault.reason) from fault
        return members

    def _inflate(self, member: Member, read: Callable[[int, int], bytes]) -> Iterator[Piece]:
        done, crc = 0, 0
        for piece in self._deflated(member, read) if member.deflated else self._stored(member, read):
            done += len(piece.plain)
            crc = isal_zlib.crc32(piece.plain, crc)
            if done > member.size:
                break
            yield piece
        if done != member.size:
            raise CorruptWheel(
                self.name, member.name, f"its content is not the {member.size} bytes it declares"
            )
        if crc != member.crc:
            raise self._corrupt(member, "its content does not have the CRC it declares")

    def _deflated(self, member: Member, read: Callable[[int, int], bytes]) -> Iterator[Piece]:
        inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        at, end = member.start, member.start + member.compressed
        while not inflater.eof:
            data = b""
            if inflater.needs_input:
                data = read(at, min(CHUNK, end - at))
                at += len(data)
                if not data:
                    raise self._corrupt(member, "its deflate stream is cut short")
            try:
                plain = inflater.decompress(data, CHUNK)
            except _BROKEN as error:
                raise CorruptWheel(
                    self.name, member.name, f"its deflate stream is broken: {error}"
                ) from error
            yield Piece(data, plain)
        if at != end or inflater.unused_data:
            raise UnsafeWheel(self.name, member.name, "something follows the end of its deflate stream")

    def _stored(self, member: Member, read: Callable[[int, int], bytes]) -> Iterator[Piece]:
        for at in range(0, member.compressed, CHUNK):
            data = read(member.start + at, min(CHUNK, member.compressed - at))
            yield Piece(data, data)

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise CorruptWheel(self.name, ARCHIVE, "it is cut short")
        return data

    def _pass(self, offset: int, size: int) -> bytes:
        """Read, and hash what is read for the first time; never leaves a gap behind it."""
        data = self._read(offset, size)
        if offset == self._hashed:
            self._sha256.update(data)
            self._hashed += size
        return data

    def _corrupt(self, member: Member, reason: str) -> CorruptWheel:
        return CorruptWheel(self.name, member.name, reason)

    def _hash_up_to(self, offset: int) -> None:
        while self._hashed < offset:
            self._pass(self._hashed, min(CHUNK, offset - self._hashed))


def why_unsafe(name: str) -> str | None:
    """Why the relative path `name` must not be written, or None if it may be."""
    parts = name.split("/")
    if not name:
        return "its name is empty"
    if "\0" in name or "\\" in name:
        return "its name has a NUL or a backslash"
    if name.startswith("/"):
        return "its path is absolute"
    if not {"", ".", ".."}.isdisjoint(parts):
        return "its path has an empty, '.' or '..' part"
    if any(part.startswith(".wh.") for part in parts):
        return "its name would delete files of lower layers (OCI image-spec, layer.md, whiteouts)"
    try:
        if len(name.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
            return f"its name is longer than {MAX_NAME} bytes, or its path longer than {MAX_PATH}"
    except UnicodeEncodeError:
        return "its name is not Unicode text"
    return None


def _parents(name: str) -> Iterator[str]:
    """The directories above `name`, nearest first."""
    while name := name.rpartition("/")[0]:
        yield name


def _member(info: zipfile.ZipInfo, start: int) -> Member:
    mode = info.external_attr >> 16
    return Member(
        name=info.orig_filename,
        size=info.file_size,
        crc=info.CRC,
        # As pip and installer have it: only a member that says it is a regular file can be executable.
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        start=start,
        compressed=info.compress_size,
    )
