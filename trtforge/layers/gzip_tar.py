"""A tar that is written straight into gzip, and whose files may arrive already deflated.

Several gzip members in a row are one gzip file (RFC 1952, section 2.2), and a member is a header, a deflate
stream, a CRC-32 and a size (section 2.3). So a file that somebody else has deflated, such as a zip's member,
becomes part of a compressed tar by copying its bytes; only tar headers and small files are compressed here.

They are compressed with libdeflate, because its output depends on nothing but the data and the level: that
of zlib differs from host to host (zlib-ng, patched zlibs) and that of ISA-L from CPU to CPU.
"""

from __future__ import annotations

import hashlib
import struct
import tarfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import deflate

from trtforge.oci import EPOCH, Digest, Layer
from trtforge.progress import ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trtforge.progress import Advance

LEVEL = 6
"""libdeflate's default: on headers, bytecode and an OS tree the levels above it cost time and save little."""

MEMBER = 8 << 20
"""Bytes of tar in one gzip member of `compress_tar`: enough not to cost ratio, few enough to stream."""

_SMALL = 1 << 20
"""Bytes of headers and small files that are gathered into one gzip member, and of output into one write."""

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no flags, no time, no level, unknown system (RFC 1952, section 2.3)."""

_STORED_BLOCK = 65535
"""The most bytes a stored deflate block holds (RFC 1951, section 3.2.4)."""


class Piece(NamedTuple):
    """Some bytes of a deflate stream and what they inflate to; either may be empty when the other lags."""

    deflated: bytes
    plain: bytes


class GzipTar:
    """Writes a gzip-compressed tar of one image layer, front to back, and learns its digests on the way.

    Paths are absolute. Directories are written once, before the first thing in them. Times are `oci.EPOCH`,
    owners are numbers, modes are 0755 for directories and executables and 0644 for other files.

    What is at or below `prefix` belongs to uid:gid. The directories above it are written too, as root's with
    mode 0755: an engine that has to invent them while it unpacks the layer picks the mode itself (Docker
    20.10 takes 0777, later ones 0755), and in the image that mode would hide the one of the layers below.

    Args:
        out: where the compressed bytes go; only written to.
        prefix: absolute path of what belongs to `uid` and `gid`.
        directories: (path, mode, uid, gid) of each that is written otherwise, because the image has it so.
        level: of libdeflate, for what is compressed here.
    """

    def __init__(
        self,
        out: BinaryIO,
        prefix: str = "/",
        uid: int = 0,
        gid: int = 0,
        directories: Iterable[tuple[str, int, int, int]] = (),
        level: int = LEVEL,
    ) -> None:
        self._blob = _Blob(out)
        self._level = level
        self._prefix, self._uid, self._gid = prefix.strip("/"), uid, gid
        self._known = {path.strip("/"): facts for path, *facts in directories}
        self._diff = hashlib.sha256()
        self._unpacked = 0
        self._pending = bytearray()
        self._directories: set[str] = set()

    def add_directory(self, path: str) -> None:
        """Add the directory `path` and those above it, unless they are there already."""
        self._ensure(path.strip("/"))

    def add_file(self, path: str, content: bytes, *, executable: bool = False) -> None:
        """Add a file that is small enough to be held in memory and compressed here."""
        self._header(path, size=len(content), mode=0o755 if executable else 0o644)
        self._plain(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        if len(self._pending) >= _SMALL:
            self._flush()

    def add_symlink(self, path: str, target: str) -> None:
        """Add a symbolic link at `path` that points to `target`, which is taken literally."""
        self._header(path, kind=tarfile.SYMTYPE, linkname=target, mode=0o777)

    def add_deflated(
        self, path: str, size: int, crc: int, pieces: Iterable[Piece], *, executable: bool = False
    ) -> None:
        """Add a file whose content comes as a complete deflate stream (RFC 1951), which is copied.

        Args:
            size: bytes of the file.
            crc: its CRC-32.
            pieces: the stream, in order; whoever makes them answers for `size` and `crc`.

        Raises:
            ValueError: the pieces are not `size` bytes.
        """
        self._header(path, size=size, mode=0o755 if executable else 0o644)
        before = self._unpacked
        opened = False
        for deflated, plain in pieces:
            if size and deflated:
                if not opened:
                    self._flush()
                    self._blob.write(_GZIP_HEADER)
                    opened = True
                self._blob.write(deflated)
            self._diff.update(plain)
            self._unpacked += len(plain)
        if self._unpacked - before != size:
            raise ValueError(f"{path}: {self._unpacked - before} bytes came instead of {size}")
        if opened:
            self._blob.write(struct.pack("<II", crc, size & 0xFFFFFFFF))
        self._plain(bytes(-size % tarfile.BLOCKSIZE))

    def add_stream(
        self, path: str, size: int, source: BinaryIO, *, executable: bool = False, jobs: int = 2
    ) -> None:
        """Add a large file that is compressed here, in gzip members of 8 MiB; about 2 * `jobs` are in memory.

        Args:
            size: bytes of the file.
            source: its content, read to the end.
            jobs: threads that compress; the result does not depend on it.

        Raises:
            ValueError: `source` does not have `size` bytes.
        """
        self._header(path, size=size, mode=0o755 if executable else 0o644)
        self._flush()
        before = self._unpacked
        for block, compressed in _compressed(source, self._level, jobs):
            self._diff.update(block)
            self._unpacked += len(block)
            self._blob.write(compressed)
        if self._unpacked - before != size:
            raise ValueError(f"{path}: {self._unpacked - before} bytes came instead of {size}")
        self._plain(bytes(-size % tarfile.BLOCKSIZE))

    def finish(self) -> Layer:
        """Write the end of the tar; nothing can be added after it."""
        self._plain(bytes(2 * tarfile.BLOCKSIZE))
        self._flush()
        return self._blob.layer(self._diff.hexdigest(), self._unpacked)

    def _ensure(self, directory: str) -> None:
        if directory and directory not in self._directories:
            self._directories.add(directory)
            self._header(directory, kind=tarfile.DIRTYPE, mode=0o755)

    def _header(
        self, path: str, *, mode: int, size: int = 0, kind: bytes = tarfile.REGTYPE, linkname: str = ""
    ) -> None:
        name = path.strip("/")
        self._ensure(name.rpartition("/")[0])
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.type, info.linkname, info.mtime = size, mode, kind, linkname, EPOCH
        if not self._prefix or name == self._prefix or name.startswith(f"{self._prefix}/"):
            info.uid, info.gid = self._uid, self._gid
        if kind == tarfile.DIRTYPE and name in self._known:
            info.mode, info.uid, info.gid = self._known[name]
        # A PAX header goes before only where ustar cannot say it: names over 100 bytes or outside ASCII,
        # files of 8 GiB.
        self._plain(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _plain(self, data: bytes) -> None:
        self._diff.update(data)
        self._unpacked += len(data)
        self._pending += data

    def _flush(self) -> None:
        if self._pending:
            self._blob.write(deflate.gzip_compress(self._pending, self._level))
            self._pending.clear()


def stored(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """Turn the plain side of `pieces`, `size` bytes, into stored deflate blocks (RFC 1951, 3.2.4)."""
    done = 0
    for _, plain in pieces:
        blocks = []
        for start in range(0, len(plain), _STORED_BLOCK):
            block = plain[start : start + _STORED_BLOCK]
            done += len(block)
            blocks += [struct.pack("<BHH", done == size, len(block), len(block) ^ 0xFFFF), block]
        yield Piece(b"".join(blocks), plain)


def compress_tar(source: BinaryIO, out: BinaryIO, *, jobs: int = 2, advance: Advance = ignore) -> Layer:
    """Compress a tar that is made elsewhere; the result depends on its bytes alone.

    Holds about 2 * `jobs` members of 8 MiB in memory.

    Args:
        source: the uncompressed tar; read to its end, may be a pipe.
        out: where the blob goes; only written to.
        jobs: threads that compress.
        advance: told the bytes read.
    """
    blob, diff, unpacked = _Blob(out), hashlib.sha256(), 0
    for block, compressed in _compressed(source, LEVEL, jobs):
        diff.update(block)
        unpacked += len(block)
        advance(len(block))
        blob.write(compressed)
    return blob.layer(diff.hexdigest(), unpacked)


def _compressed(source: BinaryIO, level: int, jobs: int) -> Iterator[tuple[bytes, bytearray]]:
    """`source` in blocks of `MEMBER` bytes, each with itself as a gzip member; `jobs` threads compress."""
    waiting: deque[tuple[bytes, Future[bytearray]]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        for block in _blocks(source):
            waiting.append((block, pool.submit(deflate.gzip_compress, block, level)))
            if len(waiting) > jobs:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    """`source` in blocks of exactly `MEMBER` bytes but for the last: a pipe's short reads must not show."""
    block = bytearray()
    while data := source.read(MEMBER - len(block)):
        block += data
        if len(block) == MEMBER:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


class _Blob:
    """The compressed side: hashed, counted, and written in pieces worth a system call."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._waiting = bytearray()

    def write(self, data: bytes | bytearray) -> None:
        if len(data) < _SMALL // 4:
            self._waiting += data
            if len(self._waiting) >= _SMALL:
                self._flush()
        else:
            self._flush()
            self._put(data)

    def layer(self, diff_id: str, unpacked: int) -> Layer:
        """Write what is left; the blob is complete."""
        self._flush()
        digest = Digest(f"sha256:{self._sha256.hexdigest()}")
        return Layer(digest, Digest(f"sha256:{diff_id}"), self._size, unpacked)

    def _flush(self) -> None:
        self._put(self._waiting)
        self._waiting.clear()

    def _put(self, data: bytes | bytearray) -> None:
        self._sha256.update(data)
        self._size += len(data)
        self._out.write(data)
