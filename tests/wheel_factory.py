"""Wheels for tests: sound ones in every shape a zip allows, and ones that lie in one chosen place."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import struct
import tarfile
import unicodedata
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import installer
from hypothesis import strategies as st
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from trtforge.layers.install_target import InstallTarget

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TARGET = InstallTarget("3.11")
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {purelib}\nTag: py3-none-any\n"

Tree = dict[str, tuple[int, bytes | None]]
"""Path -> permissions, and content (None: a directory)."""


@dataclass(frozen=True)
class ZipMember:
    """A member as it is to be written; every field from `data` on makes the archive lie."""

    name: str
    content: bytes = b""
    mode: int = 0o100644
    deflated: bool = True
    descriptor: str = ""  # struct format of the sizes: "<II" or "<QQ"; empty: no data descriptor
    signature: bytes = b"PK\7\x08"
    zip64: bool = False
    data: bytes | None = None
    size: int | None = None
    crc: int | None = None
    method: int | None = None
    flags: int = 0
    local_name: str | None = None
    local_crc: int | None = None
    behind: bytes = b""
    offset: int | None = None


def zip_of(members: Iterable[ZipMember]) -> bytes:
    """A zip with `members`, in order."""
    body, directory, count = bytearray(), bytearray(), 0
    for member in members:
        local, central = _member(member, len(body))
        body += local
        directory += central
        count += 1
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def _member(member: ZipMember, offset: int) -> tuple[bytes, bytes]:
    data = member.data
    if data is None:
        data = raw_deflate(member.content) if member.deflated else member.content
    crc = zlib.crc32(member.content) if member.crc is None else member.crc
    size = len(member.content) if member.size is None else member.size
    flags = member.flags | (0 if member.name.isascii() else 0x800) | (8 if member.descriptor else 0)
    method = member.method if member.method is not None else 8 * member.deflated
    extra = struct.pack("<HHQQ", 1, 16, size, len(data)) if member.zip64 else b""
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if member.zip64 else (len(data), size)
    fixed = struct.pack("<5H", 45, flags, method, 0, 33)
    local_crc = crc if member.local_crc is None else member.local_crc
    local_name = (member.local_name or member.name).encode()
    local_facts = (0, 0, 0) if member.descriptor else (local_crc, *sizes)
    local_extra = b"" if member.descriptor else extra
    local = b"PK\3\4" + fixed + struct.pack("<3I2H", *local_facts, len(local_name), len(local_extra))
    local += local_name + local_extra + data
    if member.descriptor:
        local += member.signature + struct.pack("<I" + member.descriptor[1:], crc, len(data), size)
    name = member.name.encode()
    central = (
        b"PK\1\2"
        + struct.pack("<H", 0x31E)
        + fixed
        + struct.pack("<3I2H", crc, *sizes, len(name), len(extra))
    )
    at = offset if member.offset is None else member.offset
    central += struct.pack("<3H2I", 0, 0, 0, member.mode << 16, at) + name + extra
    return local + member.behind, central


def raw_deflate(content: bytes, level: int = 6) -> bytes:
    """`content` as a raw deflate stream."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15)
    return deflater.compress(content) + deflater.flush()


def record_of(members: Iterable[ZipMember], dist_info: str) -> bytes:
    """The RECORD that names `members`."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for member in members:
        digest = base64.urlsafe_b64encode(hashlib.sha256(member.content).digest()).decode().rstrip("=")
        rows.writerow((member.name, f"sha256={digest}", len(member.content)))
    rows.writerow((f"{dist_info}/RECORD", "", ""))
    return text.getvalue().encode()


def wheel_members(
    members: Sequence[ZipMember],
    name: str = "demo",
    entry_points: str = "",
    record: bytes | None = None,
    purelib: bool = True,
) -> list[ZipMember]:
    """`members` and the .dist-info that makes them the wheel `name` 1.0."""
    dist_info = f"{name}-1.0.dist-info"
    wheel = WHEEL.format(purelib=str(purelib).lower()).encode()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    every = [*members, ZipMember(f"{dist_info}/METADATA", metadata), ZipMember(f"{dist_info}/WHEEL", wheel)]
    if entry_points:
        every.append(ZipMember(f"{dist_info}/entry_points.txt", entry_points.encode()))
    named = [member for member in every if not member.name.endswith("/")]
    record = record_of(named, dist_info) if record is None else record
    return [*every, ZipMember(f"{dist_info}/RECORD", record)]


def make_wheel(
    folder: Path,
    members: Sequence[ZipMember],
    name: str = "demo",
    entry_points: str = "",
    record: bytes | None = None,
    purelib: bool = True,
) -> Path:
    """Write the wheel of `wheel_members` to `folder`."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    wheel.write_bytes(zip_of(wheel_members(members, name, entry_points, record, purelib)))
    return wheel


_LETTERS = st.sampled_from("abcXYZ019_-+ .,\"'é漢ß😀")
_PART = (
    (st.text(_LETTERS, min_size=1, max_size=9) | st.text(_LETTERS, min_size=60, max_size=62))
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: text.strip(".") and not text.startswith(".wh."))
)
_PYTHON = st.sampled_from(
    [b"#!python\nprint('hi')\n", b"#!pythonw -E\nprint()", b"#!/bin/sh\n:\n", b"\x7fELF"]
)
_CONTENT = (
    st.binary(max_size=300) | st.just(b"") | st.binary(min_size=1, max_size=4).map(lambda data: data * 40_000)
)
_FOLDERS = ("demo/", "demo.libs/", "name/space/", "demo-1.0.data/purelib/p/", "demo-1.0.data/platlib/q/")


@st.composite
def wheels(draw: st.DrawFn) -> bytes:
    """The bytes of a sound wheel `demo` 1.0."""
    paths = draw(st.lists(st.builds(str.__add__, st.sampled_from(_FOLDERS), _paths()), max_size=8))
    paths += draw(st.lists(_paths().map("demo-1.0.data/headers/{}".format), max_size=2))
    paths += draw(st.lists(_paths().map("demo-1.0.data/data/share/{}".format), max_size=2))
    members = [draw(_members(path, _CONTENT)) for path in _without_clashes(paths)]
    scripts = draw(st.lists(_PART, max_size=3, unique=True))
    members += [draw(_members(f"demo-1.0.data/scripts/{name}", _PYTHON | _CONTENT)) for name in scripts]
    commands = draw(st.lists(st.sampled_from(["run", "run-gui", "x.y"]), max_size=2, unique=True))
    entry_points = "[console_scripts]\n" + "".join(f"demo {name} = demo.cli:main.sub\n" for name in commands)
    every = wheel_members(
        draw(st.permutations(members)), entry_points=entry_points, purelib=draw(st.booleans())
    )
    return zip_of(draw(_shape(member)) for member in every)


def _paths() -> st.SearchStrategy[str]:
    return st.lists(_PART, min_size=1, max_size=5).map("/".join)


def _members(name: str, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[ZipMember]:
    modes = st.sampled_from([0o100644, 0o100755, 0o100711, 0o100600, 0o100664, 0, 0o644])
    return st.builds(ZipMember, st.just(name), content, modes)


def _shape(member: ZipMember) -> st.SearchStrategy[ZipMember]:
    """`member`, written in any of the ways a zip knows."""
    return st.builds(
        lambda deflated, descriptor, signature, zip64: replace(
            member, deflated=deflated, descriptor=descriptor, signature=signature, zip64=zip64
        ),
        st.booleans(),
        st.sampled_from(["", "<II", "<QQ"]),
        st.sampled_from([b"", b"PK\7\x08"]),
        st.booleans(),
    )


def _without_clashes(paths: list[str]) -> list[str]:
    files: set[str] = set()
    folders: set[str] = set()
    kept = []
    for path in paths:
        above = {str(parent) for parent in Path(path).parents}
        if path not in files | folders and not above & files and "__pycache__" not in path:
            files.add(path)
            folders |= above
            kept.append(path)
    return kept


def installer_tree(wheels_in_order: Sequence[Path], folder: Path, target: InstallTarget = TARGET) -> Tree:
    """What PyPA's installer writes below `folder`."""
    for path in wheels_in_order:
        with WheelFile.open(path) as source, _umask(0o022):
            schemes = {
                "purelib": target.site_packages,
                "platlib": target.site_packages,
                "scripts": f"{target.prefix}/bin",
                "headers": f"{target.prefix}/include/site/python{target.python}/{source.distribution}",
                "data": target.prefix,
            }
            destination = SchemeDictionaryDestination(
                schemes, target.interpreter, "posix", destdir=str(folder)
            )
            source.validate_record()
            installer.install(source, destination, {"INSTALLER": b"trtforge\n"})
    return folder_tree(folder)


def folder_tree(folder: Path) -> Tree:
    """What is below `folder`."""
    tree: Tree = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
        content = path.read_bytes() if path.is_file() else None
        tree[path.relative_to(folder).as_posix()] = stat.S_IMODE(status.st_mode), content
    return tree


def layer_tree(blob: bytes | Path) -> Tree:
    """What a layer unpacks to, by Python's tarfile."""
    tree: Tree = {}
    source = io.BytesIO(blob) if isinstance(blob, bytes) else blob.open("rb")
    with source, tarfile.open(fileobj=source, mode="r:gz") as tar:
        for info in tar:
            assert info.name not in tree, f"{info.name} is there twice"
            assert info.isfile() or info.isdir()
            file = tar.extractfile(info)
            tree[info.name] = info.mode, file.read() if file else None
    return tree


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
