"""Small shared libraries with GPU code, built byte by byte, as a linker lays them out.

Their "code" is marked bytes; the layout is that of PyTorch's libraries: one read-only segment with something
before `.nv_fatbin` and something behind it, then a writable one with the wrappers.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from trtforge.slim.elf import HEADER, RELOCATION, SECTION, SEGMENT, SYMBOL
from trtforge.slim.fatbin import CONTAINER, ENTRY, MAGIC

PAGE = 4096
KINDS = {"compute": 1, "sm": 2}
SUFFIXES = {"": 0, "a": 0x100000, "f": 0x200000}


@dataclass(frozen=True)
class Code:
    """An entry: its architecture ("sm_90a") and the bytes of its payload."""

    architecture: str
    payload: bytes

    def pack(self, version: int = 0x0101) -> bytes:
        kind, _, number = self.architecture.partition("_")
        suffix = number.lstrip("0123456789")
        capability, flags = int(number.removesuffix(suffix)), 0x11 | SUFFIXES[suffix]
        fields = (
            KINDS[kind],
            version,
            ENTRY.size,
            len(self.payload),
            0,
            0,
            7,
            1,
            capability,
            0,
            0,
            flags,
            0,
            0,
        )
        return ENTRY.pack(*fields) + self.payload


def code(architecture: str, size: int = 2048, salt: str = "") -> Code:
    """Code of `size` bytes that no other code has."""
    seed = hashlib.sha256(f"{architecture} {size} {salt}".encode()).digest()
    return Code(architecture, (seed * (size // len(seed) + 1))[:size])


def container(*codes: Code) -> bytes:
    body = b"".join(one.pack() for one in codes)
    return CONTAINER.pack(MAGIC, 1, CONTAINER.size, len(body)) + body


@dataclass
class Library:
    """What to build.

    containers: the code of each.
    before, behind: bytes of other read-only data around them.
    stored: whether wrappers hold the address too, beside their relocation.
    """

    containers: list[list[Code]]
    before: bytes = b"before" * 9
    behind: bytes = b"behind" * 9
    stored: bool = True
    names: list[str] = field(default_factory=list)

    def build(self) -> bytes:
        return _build(self)


@dataclass
class _Part:
    name: str
    type: int
    flags: int
    data: bytes
    link: int = 0
    entsize: int = 0
    address: int = 0
    offset: int = 0


def _build(library: Library) -> bytes:
    blobs = [container(*codes) for codes in library.containers]
    count = len(blobs)
    relocations = _Part(".rela.dyn", 4, 2, bytes(RELOCATION.size * (count + 1)), entsize=RELOCATION.size)
    before = _Part(".rodata", 1, 2, library.before + bytes(-len(library.before) % 8))
    fatbins = _Part(".nv_fatbin", 1, 2, b"".join(blobs))
    behind = _Part(".eh_frame", 1, 2, library.behind + bytes(-len(library.behind) % 8))
    dynamic = _Part(".dynamic", 6, 3, bytes(16 * 4), entsize=16)
    wrappers = _Part(".nvFatBinSegment", 1, 3, bytes(24 * count))
    data = _Part(".data", 1, 3, bytes(16))
    strings = b"\0fatbinData\0" + b"".join(name.encode() + b"\0" for name in library.names)
    symbols = _Part(".symtab", 2, 0, bytes(SYMBOL.size * (1 + count + len(library.names))), 9, SYMBOL.size)
    strtab = _Part(".strtab", 3, 0, strings)
    sections = [
        _Part("", 0, 0, b""),
        relocations,
        before,
        fatbins,
        behind,
        dynamic,
        wrappers,
        data,
        symbols,
        strtab,
    ]
    sections.append(_Part(".shstrtab", 3, 0, b""))
    names = b"".join(part.name.encode() + b"\0" for part in sections)
    sections[-1].data = names

    offset = HEADER.size + 4 * SEGMENT.size
    for part in (relocations, before, fatbins, behind):
        part.offset = part.address = offset
        offset += len(part.data)
    end_of_code = offset
    start_of_data = offset
    for part in (dynamic, wrappers, data):
        part.offset, part.address = offset, offset + PAGE
        offset += len(part.data)
    end_of_data = offset
    for part in sections[8:]:
        part.offset = offset
        offset += len(part.data)
    shoff = offset + -offset % 8

    addresses, at = [], fatbins.address
    for blob in blobs:
        addresses.append(at)
        at += len(blob)
    rows = [(wrappers.address + 24 * i + 8, 8, address) for i, address in enumerate(addresses)]
    rows.append((data.address, 8, before.address))
    relocations.data = b"".join(RELOCATION.pack(*row) for row in rows)
    dynamic.data = struct.pack(
        "<8Q", 7, relocations.address, 8, len(relocations.data), 9, RELOCATION.size, 0, 0
    )
    wrappers.data = b"".join(
        struct.pack("<IIQQ", 0x466243B1, 1, address if library.stored else 0, 0) for address in addresses
    )
    data.data = struct.pack("<QQ", before.address, 0x1122334455667788)
    symbols.data = SYMBOL.pack(0, 0, 0, 0, 0, 0)
    symbols.data += b"".join(SYMBOL.pack(1, 0, 0, 3, address, 0) for address in addresses)
    at = len(b"\0fatbinData\0")
    for name in library.names:
        symbols.data += SYMBOL.pack(at, 0x12, 0, 2, before.address, 8)
        at += len(name) + 1

    segments = [
        (1, 4, 0, 0, end_of_code, end_of_code, PAGE),
        (
            1,
            6,
            start_of_data,
            start_of_data + PAGE,
            end_of_data - start_of_data,
            end_of_data - start_of_data + 64,
            PAGE,
        ),
        (2, 6, dynamic.offset, dynamic.address, len(dynamic.data), len(dynamic.data), 8),
        (0x6474E551, 6, 0, 0, 0, 0, 16),
    ]
    image = bytearray(shoff + len(sections) * SECTION.size)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    sizes = HEADER.size, SEGMENT.size, len(segments), SECTION.size, len(sections), len(sections) - 1
    HEADER.pack_into(image, 0, ident, 3, 62, 1, 0, HEADER.size, shoff, 0, *sizes)
    for i, (kind, flags, where, address, filesz, memsz, align) in enumerate(segments):
        at = HEADER.size + i * SEGMENT.size
        SEGMENT.pack_into(image, at, kind, flags, where, address, address, filesz, memsz, align)
    at = 0
    for i, part in enumerate(sections):
        image[part.offset : part.offset + len(part.data)] = part.data
        facts = (
            part.type,
            part.flags,
            part.address,
            part.offset,
            len(part.data),
            part.link,
            0,
            8,
            part.entsize,
        )
        SECTION.pack_into(image, shoff + i * SECTION.size, at, *facts)
        at += len(part.name) + 1
    return bytes(image)
