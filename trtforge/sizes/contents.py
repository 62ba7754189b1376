"""What is in a layer, package by package: exact, from the layer's own bytes.

A tar says of each file where it begins, and a gzip file of several members where each ends; so every byte on
either side belongs to a file, and every file to the package that installed it: a wheel's RECORD or dpkg's
lists, which are in the same layer, say which. What no package installed has a row of its own.

Sources: pax(1); RFC 1952, section 2.2; RECORD (PEP 376, PEP 627); deb-list in dpkg-query(1), --listfiles.
"""

from __future__ import annotations

import bisect
import io
import json
import posixpath
import re
import tarfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, NamedTuple, cast

from installer.records import parse_record_file
from isal import isal_zlib
from packaging.utils import canonicalize_name

from trtforge.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trtforge.oci import Layer
    from trtforge.store import Store

Kind = Literal["wheel", "debian", "bytecode", "links", "files"]
"""What a part of a layer is. files: what no package installed, and bytecode and links are not."""

FORMAT = 1
"""Raise it when the same layer would be told otherwise."""

_CHUNK = 1 << 20

_NotGzip = cast("type[Exception]", isal_zlib.error)  # isal's stubs take it for an instance

_RECORD = re.compile(r"(?P<root>.*/)?(?P<name>[^/]+)-[^-/]+\.dist-info/RECORD")
_DPKG_LIST = re.compile(r"var/lib/dpkg/info/(?P<name>[^/:]+)(:[^/]+)?\.list")
_GZIP = 31
"""zlib's wbits for a gzip header and trailer (zlib.h, inflateInit2)."""

BYTECODE, LINKS, OTHER = "bytecode", "links", "other files"
"""The names of parts that are no package's."""


@dataclass(frozen=True)
class Part:
    """What one package, or one other thing, has in a layer.

    name: the package's, in canonical form; or what else it is ("bytecode").
    compressed: bytes of the blob; on_disk: bytes of the tar.
    """

    name: str
    kind: Kind
    compressed: int
    on_disk: int


def layer_contents(layer: Layer, store: Store) -> tuple[Part, ...] | None:
    """The parts of `layer`, the largest first, whose sums are its sizes; None: the store lacks it.

    It is read once, and what was found kept.
    """
    kept = store.root / "sizes" / f"{layer.digest.removeprefix('sha256:')}.json"
    try:
        told = json.loads(kept.read_text(encoding="utf-8"))
        if told["format"] == FORMAT:
            return tuple(Part(**part) for part in told["parts"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, or not what we write
        pass
    if not store.holds(layer):
        return None
    with store.blob(layer.digest).open("rb") as blob:
        parts = read_contents(blob)
    text = json.dumps({"format": FORMAT, "parts": [asdict(part) for part in parts]}, sort_keys=True)
    store.write_text(kept, text)
    return parts


def read_contents(blob: BinaryIO) -> tuple[Part, ...]:
    """The parts of a layer, the largest first.

    Of a gzip member that several files share, each has its share by size.

    Args:
        blob: a gzip-compressed tar, at its beginning.

    Raises:
        BuildError: it is none, or ends early.
    """
    stream = _Inflating(blob)
    places: list[_Place] = []
    owners: dict[str, _Owner] = {}
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=_CHUNK) as tar:
            for member in tar:
                path = member.name.removeprefix("./").strip("/")
                places.append(_Place(member.offset, path, member.type))
                if found := _RECORD.fullmatch(path):
                    owner = _Owner(canonicalize_name(found["name"]), "wheel")
                    owners |= dict.fromkeys(_recorded(_text(tar, member), found["root"] or ""), owner)
                elif found := _DPKG_LIST.fullmatch(path):
                    owner = _Owner(found["name"], "debian")
                    owners |= dict.fromkeys([path, *_listed(_text(tar, member))], owner)
        stream.drain()
    except (tarfile.TarError, _NotGzip, EOFError, ValueError) as error:
        problem = f"a layer cannot be read: {error}"
        raise BuildError(problem, ("next", "python build.py gc, then build it anew")) from error
    return _parts(places, owners, stream)


class _Owner(NamedTuple):
    name: str
    kind: Kind


class _Place(NamedTuple):
    """A member of the tar: where its header begins, its path, and its type flag."""

    offset: int
    path: str
    type: bytes


def _parts(places: list[_Place], owners: Mapping[str, _Owner], stream: _Inflating) -> tuple[Part, ...]:
    """Each byte goes to whom the member belongs whose header it follows; the first has what is before it."""
    sums: dict[_Owner, tuple[int, int]] = defaultdict(lambda: (0, 0))
    end, owner = stream.unpacked, _Owner(OTHER, "files")
    for number, place in reversed([*enumerate(places)]):
        # From the end, as a folder is there for what comes after it.
        if place.type != tarfile.DIRTYPE:
            owner = _owner(place, owners)
        begin = place.offset if number else 0
        compressed, on_disk = sums[owner]
        size = stream.compressed_at(end) - stream.compressed_at(begin)
        sums[owner] = compressed + size, on_disk + end - begin
        end = begin
    if end:
        sums[owner] = stream.compressed_at(end), end
    parts = [Part(*owner, *sizes) for owner, sizes in sums.items()]
    return tuple(sorted(parts, key=lambda part: (-part.compressed, -part.on_disk, part.name, part.kind)))


def _owner(place: _Place, owners: Mapping[str, _Owner]) -> _Owner:
    path = place.path
    if owner := owners.get(path) or owners.get(path.removeprefix("usr/")):
        return owner
    if path.endswith(".pyc"):
        return _Owner(BYTECODE, "bytecode")
    return _Owner(LINKS, "links") if place.type == tarfile.SYMTYPE else _Owner(OTHER, "files")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member)
    return content.read().decode("utf-8", "surrogateescape") if content else ""


def _recorded(record: str, root: str) -> Iterator[str]:
    """The paths that a RECORD in `root` names."""
    for path, _, _ in parse_record_file(io.StringIO(record, newline="")):
        yield posixpath.normpath(posixpath.join(f"/{root}", path)).lstrip("/")


def _listed(text: str) -> Iterator[str]:
    """The paths that a list of dpkg names. Older packages say bin/ for usr/bin/: see `_owner`."""
    return (line.strip("/") for line in text.splitlines())


class _Inflating:
    """A gzip file's content, for `tarfile` to read; it notes where each member of the gzip file ends."""

    def __init__(self, blob: BinaryIO) -> None:
        self._blob = blob
        self._inflater = isal_zlib.decompressobj(wbits=_GZIP)
        self._waiting = b""
        self._read = 0
        self.unpacked = 0
        self._ends = [(0, 0)]

    def read(self, size: int) -> bytes:
        """At most `size` bytes more; b"" at the end."""
        while True:
            if self._inflater.eof:
                rest = self._inflater.unused_data
                self._ends.append((self.unpacked, self._read - len(rest)))
                self._inflater, self._waiting = isal_zlib.decompressobj(wbits=_GZIP), rest
            if not self._waiting:
                self._waiting = self._blob.read(_CHUNK)
                self._read += len(self._waiting)
                if not self._waiting:
                    if self._ends[-1] != (self.unpacked, self._read):
                        raise EOFError("it ends early")
                    return b""
            plain: bytes = self._inflater.decompress(self._waiting, size)
            self._waiting = b"" if self._inflater.eof else self._inflater.unconsumed_tail
            if plain:
                self.unpacked += len(plain)
                return plain

    def drain(self) -> None:
        """Read what is after the end of the tar."""
        while self.read(_CHUNK):
            pass

    def compressed_at(self, offset: int) -> int:
        """How many compressed bytes hold the first `offset` bytes of the content."""
        number = bisect.bisect_left(self._ends, (offset,))
        if self._ends[number][0] == offset:
            while number + 1 < len(self._ends) and self._ends[number + 1][0] == offset:
                number += 1  # a member without content is of what comes before it
            return self._ends[number][1]
        (begin, at), (end, then) = self._ends[number - 1], self._ends[number]
        return at + (then - at) * (offset - begin) // (end - begin)
