"""What the dynamic linker reads of an ELF file: the libraries it needs, and where it looks for them.

Only headers and the dynamic section are read, so that a library of a gigabyte costs some pages. Sources: the
System V ABI (gabi, chapters 4 and 5), ld.so(8).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"\x7fELF"

_HEADER = struct.Struct("<16x2x2xI8xQ8xI2xHH")  # e_version, e_phoff, e_flags, e_phentsize, e_phnum
_SEGMENT = struct.Struct("<II6Q")  # p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
_ENTRY = struct.Struct("<qQ")  # d_tag, d_val

_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 0, 1, 5, 10, 14, 15, 29

_MOST = 64 << 20
"""Bytes of a dynamic section and its strings that are read; the largest known have some megabytes."""


class Linkage(NamedTuple):
    """soname: "" where the file has none. rpath, runpath: folders, `$ORIGIN` as it stands there."""

    soname: str
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]


class BadElf(ValueError):
    """An ELF file contradicts itself, or ends too early."""


def linkage(path: str) -> Linkage | None:
    """What the ELF file at `path` is linked with; None: it is no ELF file of this machine's kind.

    Raises:
        BadElf: its headers or its dynamic section cannot be read.
        OSError: the file cannot.
    """
    with Path(path).open("rb") as file:
        ident = file.read(16)
        if ident[:4] != MAGIC or ident[4:6] != b"\x02\x01":  # 64 bits, little-endian
            return None
        size = os.fstat(file.fileno()).st_size
        return _linkage(file, size)


def _linkage(file: BinaryIO, size: int) -> Linkage:
    _, offset, _, entry_size, count = _HEADER.unpack(_read(file, size, 0, _HEADER.size))
    if count and entry_size != _SEGMENT.size:
        raise BadElf(f"its program headers have {entry_size} bytes each, not {_SEGMENT.size}")
    table = _read(file, size, offset, count * _SEGMENT.size)
    segments = list(_SEGMENT.iter_unpack(table))
    dynamic = [(at, length) for kind, _, at, _, _, length, _, _ in segments if kind == _DYNAMIC]
    if not dynamic:
        return Linkage("", (), (), ())
    found: dict[int, list[int]] = {}
    at, length = dynamic[0]
    body = _read(file, size, at, length - length % _ENTRY.size)
    for tag, value in _ENTRY.iter_unpack(body):
        if tag == _END:
            break
        found.setdefault(tag, []).append(value)
    wanted = [value for tag in (_NEEDED, _SONAME, _RPATH, _RUNPATH) for value in found.get(tag, ())]
    if not wanted:
        return Linkage("", (), (), ())
    if _STRTAB not in found or _STRSZ not in found:
        raise BadElf("its dynamic section has no strings")
    start = _offset_of(found[_STRTAB][0], segments)
    strings = _read(file, size, start, found[_STRSZ][0])

    def texts(tag: int) -> tuple[str, ...]:
        return tuple(_string(strings, value) for value in found.get(tag, ()))

    def folders(tag: int) -> tuple[str, ...]:
        return tuple(folder for text in texts(tag) for folder in text.split(":") if folder)

    soname = texts(_SONAME)
    return Linkage(soname[0] if soname else "", texts(_NEEDED), folders(_RPATH), folders(_RUNPATH))


def _read(file: BinaryIO, size: int, offset: int, length: int) -> bytes:
    if length > _MOST or offset + length > size:
        raise BadElf("it ends before what its headers name")
    file.seek(offset)
    return file.read(length)


def _offset_of(address: int, segments: list[tuple[int, ...]]) -> int:
    """Where in the file lies what is loaded at `address`."""
    for kind, _, offset, start, _, length, _, _ in segments:
        if kind == _LOAD and start <= address < start + length:
            return offset + address - start
    raise BadElf("no segment holds the strings of its dynamic section")


def _string(strings: bytes, start: int) -> str:
    end = strings.find(b"\0", start)
    if end < 0:
        raise BadElf("a string of its dynamic section has no end")
    return strings[start:end].decode("utf-8", "replace")
