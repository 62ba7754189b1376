"""A reader of shared libraries: ELF64, little-endian, x86-64; it believes nothing that it can check.

Sources: System V ABI, "Object Files" and "Program Loading and Dynamic Linking" (gabi); the x86-64 psABI.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trtforge.slim.errors import NotUnderstood

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")
_DYNAMIC = struct.Struct("<qQ")

PT_LOAD, PT_DYNAMIC, PT_PHDR = 1, 2, 6
SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_NOBITS, SHT_DYNSYM = 0, 2, 3, 8, 11
SHF_ALLOC = 2
R_X86_64_RELATIVE = 8

_IDENT = b"\x7fELF\x02\x01\x01"
_ET_DYN, _EM_X86_64 = 3, 62
_DT_NULL, _DT_RELA, _DT_RELASZ, _DT_RELAENT, _DT_REL, _DT_PLTREL = 0, 7, 8, 9, 17, 20
_DT_PLTRELSZ, _DT_JMPREL, _DT_RELR = 2, 23, 36
_PAGE, _MAX_ALIGN = 4096, 1 << 30
_MAX_TABLE = 256 << 20
"""Bytes of a table (relocations, symbols) that are held in memory; torch's largest has 24 MB."""


class Source:
    """A library's bytes, read where they are asked for and never beyond the end.

    name: its file name, for messages. size: bytes.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.fd = file.fileno()
        self.size = os.fstat(self.fd).st_size

    def read(self, offset: int, size: int, what: str) -> bytes:
        """`size` bytes at `offset`.

        Raises:
            NotUnderstood: they are not all in the file, or too many to be `what`.
        """
        if size > _MAX_TABLE:
            raise self.fault(offset, f"{what} has {size} bytes, which is too much")
        if offset + size > self.size:
            raise self.fault(offset, f"{what} reaches beyond the end of the file")
        data = os.pread(self.fd, size, offset)
        if len(data) != size:
            raise self.fault(offset, f"{what} cannot be read whole")
        return data

    def fault(self, offset: int, reason: str) -> NotUnderstood:
        return NotUnderstood(self.name, offset, reason)


@dataclass(frozen=True)
class Segment:
    """A program header. Numbers are bytes, or addresses as linked; `at` is its own place in the file."""

    at: int
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    filesz: int
    memsz: int
    align: int

    @property
    def end(self) -> int:
        """Where its bytes end in the file."""
        return self.offset + self.filesz

    def pack(self) -> bytes:
        numbers = self.offset, self.address, self.physical, self.filesz, self.memsz, self.align
        return SEGMENT.pack(self.type, self.flags, *numbers)


@dataclass(frozen=True)
class Section:
    """A section header, likewise."""

    at: int
    index: int
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    entsize: int

    @property
    def end(self) -> int:
        """Where its bytes end in the file."""
        return self.offset + (0 if self.type in (SHT_NULL, SHT_NOBITS) else self.size)


class Relocation(NamedTuple):
    """What the dynamic loader writes to `target`; `at` is the entry's own place in the file."""

    at: int
    target: int
    type: int
    symbol: int
    addend: int


class Symbol(NamedTuple):
    """A symbol; `at` is its own place in the file, `name` counts into the table's names, `section` is the
    index of the one that defines it."""

    at: int
    name: int
    type: int
    section: int
    value: int


@dataclass(frozen=True)
class Elf:
    """A library's layout. Segments and sections are in the order of their tables."""

    source: Source
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    segments_at: int
    sections_at: int

    @property
    def loaded(self) -> list[Segment]:
        return [segment for segment in self.segments if segment.type == PT_LOAD]

    def section(self, name: str) -> Section | None:
        """The section of that name.

        Raises:
            NotUnderstood: there are several.
        """
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise self.source.fault(found[1].at, f"it has two sections {name}")
        return found[0] if found else None

    def offset_of(self, address: int, size: int, what: str) -> int:
        """Where in the file the `size` bytes lie that are loaded at `address`.

        Raises:
            NotUnderstood: no segment loads them.
        """
        for segment in self.loaded:
            if segment.address <= address and address + size <= segment.address + segment.filesz:
                return address - segment.address + segment.offset
        raise self.source.fault(0, f"{what} at address {address:#x} is not loaded from the file")

    def relocations(self) -> Iterator[Relocation]:
        """All that the dynamic loader applies.

        Raises:
            NotUnderstood: they are of a form that is not known, or not where they are said to be.
        """
        tags = self._dynamic()
        if odd := sorted(tags.keys() & {_DT_REL, _DT_RELR}):
            raise self.source.fault(0, f"its relocations are of another form than RELA (tag {odd[0]})")
        if (
            tags.get(_DT_PLTREL, _DT_RELA) != _DT_RELA
            or tags.get(_DT_RELAENT, RELOCATION.size) != RELOCATION.size
        ):
            raise self.source.fault(0, "its relocations are of another form than RELA")
        for start, length in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
            if start not in tags:
                continue
            size = tags.get(length, 0)
            at = self.offset_of(tags[start], size, "the relocation table")
            if size % RELOCATION.size:
                raise self.source.fault(at, "its relocation table has a broken last entry")
            table = self.source.read(at, size, "the relocation table")
            for index, (target, info, addend) in enumerate(RELOCATION.iter_unpack(table)):
                yield Relocation(at + index * RELOCATION.size, target, info & 0xFFFFFFFF, info >> 32, addend)

    def symbols(self, table: Section) -> Iterator[Symbol]:
        """All of a symbol table, from its second entry on (the first is empty)."""
        if table.entsize != SYMBOL.size or table.size % SYMBOL.size:
            raise self.source.fault(table.at, f"the symbol table {table.name} is malformed")
        entries = self.source.read(table.offset, table.size, "a symbol table")
        for index, (name, info, _, section, value, _size) in enumerate(SYMBOL.iter_unpack(entries)):
            if index:
                yield Symbol(table.offset + index * SYMBOL.size, name, info & 0xF, section, value)

    def names(self, table: Section) -> bytes:
        """The names that the symbols of `table` count into; see `text_at`."""
        strings = self.sections[table.link] if table.link < len(self.sections) else None
        if strings is None or strings.type != SHT_STRTAB:
            raise self.source.fault(table.at, f"the symbol table {table.name} has no names")
        return self.source.read(strings.offset, strings.size, "the names of symbols")

    def _dynamic(self) -> dict[int, int]:
        found = [segment for segment in self.segments if segment.type == PT_DYNAMIC]
        if len(found) != 1:
            raise self.source.fault(self.segments_at, "it has not exactly one dynamic segment")
        (segment,) = found
        table = self.source.read(segment.offset, segment.filesz, "the dynamic segment")
        tags: dict[int, int] = {}
        for tag, value in _DYNAMIC.iter_unpack(table[: len(table) // _DYNAMIC.size * _DYNAMIC.size]):
            if tag == _DT_NULL:
                break
            tags.setdefault(tag, value)
        return tags


def read_elf(source: Source) -> Elf:
    """The layout of a shared library.

    Raises:
        NotUnderstood: it is truncated, is no shared library for x86-64 Linux, or contradicts itself.
    """
    header = source.read(0, HEADER.size, "the ELF header")
    (
        ident,
        kind,
        machine,
        version,
        _,
        phoff,
        shoff,
        _,
        ehsize,
        phentsize,
        phnum,
        shentsize,
        shnum,
        shstrndx,
    ) = HEADER.unpack(header)
    if not ident.startswith(_IDENT) or version != 1:
        raise source.fault(0, "it is no 64-bit little-endian ELF file")
    if (kind, machine) != (_ET_DYN, _EM_X86_64):
        raise source.fault(16, "it is no shared library for x86-64")
    if (ehsize, phentsize, shentsize) != (HEADER.size, SEGMENT.size, SECTION.size):
        raise source.fault(52, "its headers have unknown sizes")
    if not 0 < phnum < 0xFFFF or not 0 < shnum < 0xFF00 or shstrndx >= shnum:
        raise source.fault(56, "it has no segments or no sections, or more than the header can count")
    segments = tuple(_segments(source, phoff, phnum))
    sections = tuple(_sections(source, shoff, shnum, shstrndx))
    elf = Elf(source, segments, sections, phoff, shoff)
    _check_segments(elf)
    _check_sections(elf)
    tables = [
        (0, HEADER.size, "the ELF header"),
        (phoff, phoff + phnum * SEGMENT.size, "the program headers"),
    ]
    tables.append((shoff, shoff + shnum * SECTION.size, "the section headers"))
    parts = [(one.offset, one.end, f"section {one.name}") for one in sections if one.end > one.offset]
    _apart(source, [*tables, *parts])
    return elf


def _segments(source: Source, phoff: int, count: int) -> Iterator[Segment]:
    table = source.read(phoff, count * SEGMENT.size, "the program header table")
    for index, (kind, flags, *numbers) in enumerate(SEGMENT.iter_unpack(table)):
        yield Segment(phoff + index * SEGMENT.size, kind, flags, *numbers)


def _sections(source: Source, shoff: int, count: int, names_in: int) -> Iterator[Section]:
    rows = list(SECTION.iter_unpack(source.read(shoff, count * SECTION.size, "the section header table")))
    if rows[names_in][1] != SHT_STRTAB:
        raise source.fault(shoff, "its sections have no names")
    names = source.read(rows[names_in][4], rows[names_in][5], "the names of sections")
    for index, (name, kind, flags, address, offset, size, link, _, _, entsize) in enumerate(rows):
        at = shoff + index * SECTION.size
        if name >= len(names):
            raise source.fault(at, "the name of a section lies outside of the names")
        yield Section(
            at,
            index,
            text_at(names, name).decode("utf-8", "replace"),
            kind,
            flags,
            address,
            offset,
            size,
            link,
            entsize,
        )


def _check_segments(elf: Elf) -> None:
    source = elf.source
    for one in elf.segments:
        if one.end > source.size:
            raise source.fault(one.at, "a segment reaches beyond the end of the file")
        if one.type == PT_LOAD and one.filesz > one.memsz:
            raise source.fault(one.at, "a segment has more bytes in the file than in memory")
    loaded = elf.loaded
    for one in loaded:
        if not _PAGE <= one.align <= _MAX_ALIGN or one.align & (one.align - 1):
            raise source.fault(one.at, f"a segment is aligned to {one.align}, not to pages")
        if (one.offset - one.address) % one.align:
            raise source.fault(one.at, "a segment's offset and address do not agree")
    for before, after in pairwise(loaded):
        if before.address + before.memsz > after.address:
            raise source.fault(after.at, "segments overlap in memory, or are not in order")
    _apart(source, [(one.offset, one.end, "a segment") for one in loaded if one.filesz])


def _check_sections(elf: Elf) -> None:
    source = elf.source
    for one in elf.sections:
        if one.end > source.size:
            raise source.fault(one.at, f"section {one.name} reaches beyond the end of the file")
        if not one.flags & SHF_ALLOC or one.end == one.offset:
            continue
        if elf.offset_of(one.address, one.size, f"section {one.name}") != one.offset:
            raise source.fault(one.at, f"section {one.name} is not loaded to its address")


def _apart(source: Source, parts: Iterable[tuple[int, int, str]]) -> None:
    end, last = 0, ""
    for start, stop, name in sorted(parts):
        if start < end:
            raise source.fault(start, f"{name} overlaps {last}")
        end, last = stop, name


def text_at(names: bytes, at: int) -> bytes:
    """The string of a string table that begins at `at`."""
    end = names.find(b"\0", at)
    return names[at : end if end >= 0 else len(names)]
