"""A tar made on the fly: headers computed, contents passed through, nothing gathered in memory or on disk."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.errors import BuildError
from trtforge.oci import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Member:
    """One file or folder of a tar.

    name: path inside the tar, no leading slash.
    size: bytes that `chunks` will give; a tar says it before the contents.
    chunks: the contents; consumed once. None: a folder.
    mode: permission bits.
    """

    name: str
    size: int
    chunks: Iterable[bytes] | None
    mode: int = 0o644


def tar_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """The bytes of a tar with `members`, in their order; owner is root, the time is `oci.EPOCH`.

    Raises:
        BuildError: a member's contents are not as long as it said.
    """
    for member in members:
        yield _header(member)
        done = 0
        for chunk in member.chunks or ():
            done += len(chunk)
            if done > member.size:
                break
            yield chunk
        if done != member.size:
            raise BuildError(
                f"{member.name} is not {member.size} bytes long as expected",
                ("found", f"at least {done} bytes"),
            )
        yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def file_chunks(path: Path) -> Iterator[bytes]:
    """The contents of the file `path`.

    Raises:
        BuildError: it cannot be read. (An OSError would look like a broken connection to the HTTP client
            that consumes the stream.)
    """
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}", ("file", str(path))) from error


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.type = tarfile.DIRTYPE if member.chunks is None else tarfile.REGTYPE
    info.size = member.size
    info.mode = member.mode
    info.mtime = EPOCH
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
