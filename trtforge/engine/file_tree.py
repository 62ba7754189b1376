"""What a tar unpacks to, as a value that can be compared: path -> entry."""

from __future__ import annotations

import hashlib
import stat
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["file", "folder", "symlink", "device", "fifo"]


@dataclass(frozen=True)
class Entry:
    """One file system object.

    mode: permission bits. uid, gid: numeric owner. size: bytes, 0 for all but files.
    content: sha256 of a file (hexadecimal), target of a symlink, "major:minor" of a device, else "".
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    content: str


def file_tree(tar: Iterable[bytes]) -> dict[str, Entry]:
    """The entries of an uncompressed tar, given in chunks. A hard link is the file it links to."""
    tree: dict[str, Entry] = {}
    with tarfile.open(fileobj=cast("IO[bytes]", _Chunks(tar)), mode="r|") as archive:
        for member in archive:
            path = member.name.removeprefix("./").rstrip("/")
            if member.islnk():
                tree[path] = tree[member.linkname.removeprefix("./")]
            elif path not in ("", "."):
                tree[path] = _entry(archive, member)
    return tree


class _Chunks:
    """Chunks as the file that tarfile's streaming mode reads; it takes what it gets, of any length but 0."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = (chunk for chunk in chunks if chunk)

    def read(self, _size: int) -> bytes:
        return next(self._chunks, b"")


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    kind: Kind
    size, content = 0, ""
    if member.isfile():
        kind, size = "file", member.size
        file = archive.extractfile(member)
        assert file is not None, "a regular member has contents"
        content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    elif member.issym():
        kind, content = "symlink", member.linkname
    elif member.isdir():
        kind = "folder"
    elif member.isfifo():
        kind = "fifo"
    else:
        kind, content = "device", f"{member.devmajor}:{member.devminor}"
    return Entry(kind, stat.S_IMODE(member.mode), member.uid, member.gid, size, content)


def differences(ours: dict[str, Entry], theirs: dict[str, Entry], ignore: Iterable[str] = ()) -> list[str]:
    """One line for each path that differs, sorted; empty when the trees are equal."""
    skipped = set(ignore)
    return [
        f"{path}: {ours.get(path, 'absent')} / {theirs.get(path, 'absent')}"
        for path in sorted((ours.keys() | theirs.keys()) - skipped)
        if ours.get(path) != theirs.get(path)
    ]
