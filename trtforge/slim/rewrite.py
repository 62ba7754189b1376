"""Writing a library without some of its GPU code, so that everything else keeps its address.

The entries that stay move to the front of `.nv_fatbin`; whole pages behind them leave the file. What lay
behind those pages moves forward in the file and stays where it was in memory, so the segment becomes two with
a hole between them. The second one needs a program header more than the table has room for, so the table
moves into the space that became free, where the same segment loads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trtforge.slim.elf import PT_LOAD, PT_PHDR, SEGMENT
from trtforge.slim.fatbin import CONTAINER, MAGIC, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from trtforge.slim.elf import Elf, Section, Segment, Source
    from trtforge.slim.fatbin import Entry
    from trtforge.slim.references import Pointer

_CHUNK = 1 << 20
_U64 = struct.Struct("<Q")
_E_PHOFF, _E_SHOFF, _E_PHNUM = 32, 40, 56
_SH_OFFSET, _SH_SIZE = 24, 32
"""Where fields are in the ELF header and in a section header."""


@dataclass(frozen=True)
class Layout:
    """Where things are in the new file.

    starts: address of each container, in order, before and after.
    end: where the code that stays ends. table: where the program headers go.
    gone: the bytes of the old file that leave it; both ends lie on a page.
    """

    starts: dict[int, int]
    end: int
    table: int
    gone: range

    def at(self, offset: int) -> int:
        """Where what was at `offset` is now."""
        if offset <= self.gone.start:
            return offset
        return max(self.gone.start, offset - len(self.gone))


def lay_out(
    elf: Elf, fatbins: Section, staying: Sequence[Sequence[Entry]], starts: Sequence[int]
) -> Layout | None:
    """Where things go; None if no whole page becomes free.

    Args:
        staying: the entries of each container that stay.
        starts: addresses of the containers.

    Raises:
        NotUnderstood: a segment that is not known to follow shares the section.
    """
    sizes = [CONTAINER.size + sum(entry.size for entry in entries) for entries in staying]
    moved, at = {}, fatbins.address
    for start, size in zip(starts, sizes, strict=True):
        moved[start] = at
        at += size
    end = fatbins.offset + sum(sizes)
    page = max(segment.align for segment in elf.loaded)
    table = _up(end, 8)
    first = _up(table + (len(elf.segments) + 1) * SEGMENT.size, page)
    gone = range(first, fatbins.end // page * page)
    if not gone:
        return None
    for segment in elf.segments:
        around = segment.type == PT_LOAD and segment.offset <= fatbins.offset and fatbins.end <= segment.end
        if not around and segment.offset < fatbins.end and fatbins.offset < segment.end:
            raise elf.source.fault(segment.at, "a segment that is not known shares .nv_fatbin")
    return Layout(moved, end, table, gone)


def write(
    elf: Elf,
    fatbins: Section,
    staying: Sequence[Sequence[Entry]],
    found: Sequence[Pointer],
    layout: Layout,
    out: BinaryIO,
) -> None:
    """Write the library to `out`, an empty file, in the new layout."""
    source = elf.source
    _copy(source, out, 0, fatbins.offset)
    for entries in staying:
        out.write(CONTAINER.pack(MAGIC, VERSION, CONTAINER.size, sum(entry.size for entry in entries)))
        for entry in entries:
            _copy(source, out, entry.offset, entry.size)
    out.write(bytes(layout.gone.start - layout.end))
    out.write(bytes(fatbins.end - layout.gone.stop))
    _copy(source, out, fatbins.end, source.size - fatbins.end)
    for at, data in _patches(elf, fatbins, found, layout):
        out.seek(at)
        out.write(data)


def copy(source: Source, out: BinaryIO) -> None:
    """Write the library to `out` as it is."""
    _copy(source, out, 0, source.size)


def _patches(
    elf: Elf, fatbins: Section, found: Sequence[Pointer], layout: Layout
) -> Iterator[tuple[int, bytes]]:
    """(place in the new file, bytes) of all that is different, but for the code."""
    for pointer in found:
        yield layout.at(pointer.at), _U64.pack(layout.starts[pointer.target])
    segments = _segments(elf, fatbins, layout)
    yield layout.at(elf.segments_at), bytes(len(elf.segments) * SEGMENT.size)
    yield layout.table, b"".join(segment.pack() for segment in segments)
    yield _E_PHOFF, _U64.pack(layout.table)
    yield _E_SHOFF, _U64.pack(layout.at(elf.sections_at))
    yield _E_PHNUM, struct.pack("<H", len(segments))
    for section in elf.sections:
        yield layout.at(section.at) + _SH_OFFSET, _U64.pack(layout.at(section.offset))
    yield layout.at(fatbins.at) + _SH_SIZE, _U64.pack(layout.end - fatbins.offset)


def _segments(elf: Elf, fatbins: Section, layout: Layout) -> list[Segment]:
    segments: list[Segment] = []
    table = 0
    for one in elf.segments:
        if one.type == PT_LOAD and one.offset <= fatbins.offset < one.end:
            before, until = layout.gone.start - one.offset, layout.gone.stop - one.offset
            table = one.address + layout.table - one.offset
            segments.append(replace(one, filesz=before, memsz=before))
            if one.memsz > until:
                sizes = {"filesz": one.filesz - until, "memsz": one.memsz - until}
                moved = {"address": one.address + until, "physical": one.physical + until}
                segments.append(replace(one, offset=layout.gone.start, **moved, **sizes))
        else:
            segments.append(replace(one, offset=layout.at(one.offset)))
    size = len(segments) * SEGMENT.size
    its_own = {"offset": layout.table, "address": table, "physical": table, "filesz": size, "memsz": size}
    return [replace(one, **its_own) if one.type == PT_PHDR else one for one in segments]


def _copy(source: Source, out: BinaryIO, offset: int, size: int) -> None:
    while size > 0:
        data = source.read(offset, min(_CHUNK, size), "what is copied")
        out.write(data)
        offset, size = offset + len(data), size - len(data)


def _up(number: int, to: int) -> int:
    return -(-number // to) * to
