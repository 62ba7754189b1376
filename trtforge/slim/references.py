"""What of a library points into its fatbins: everything that has to change when they move.

The CUDA runtime finds a container through a wrapper in the section `.nvFatBinSegment` (u32 magic, u32
version, u64 address of the container, u64 0), as nvcc's generated `crt/host_runtime.h` and `fatbinary.h`
declare it; the address is filled in by a relocation when the library is loaded.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from trtforge.slim.elf import R_X86_64_RELATIVE, SHT_DYNSYM, SHT_SYMTAB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.slim.elf import Elf, Section
    from trtforge.slim.fatbin import Container

WRAPPER = struct.Struct("<IIQQ")
_MAGIC, _VERSION = 0x466243B1, 1
_POINTER, _ADDEND, _VALUE = 8, 16, 8
"""Where the address is in a wrapper, in a relocation, in a symbol."""
_STT_SECTION = 3


class Pointer(NamedTuple):
    """The u64 at `at` in the file, which is the address of a container; `target` is that address."""

    at: int
    target: int


def pointers(elf: Elf, fatbins: Section, containers: Sequence[Container]) -> list[Pointer]:
    """All addresses of containers in the file; each container has at least one wrapper.

    Raises:
        NotUnderstood: something else points into `fatbins`, or a wrapper elsewhere.
    """
    starts = {fatbins.address + container.offset - fatbins.offset for container in containers}
    wrappers = dict(_wrappers(elf))
    found = list(_relocated(elf, fatbins, starts, wrappers))
    if missing := starts - {pointer.target for pointer in found}:
        at = min(missing) - fatbins.address + fatbins.offset
        raise elf.source.fault(at, "nothing points to the fatbin container")
    return [*found, *_symbols(elf, fatbins, starts)]


def _wrappers(elf: Elf) -> Iterator[tuple[int, tuple[int, int]]]:
    """Address of each wrapper's pointer -> (its place in the file, what the file has there)."""
    section = elf.section(".nvFatBinSegment")
    if section is None or section.size % WRAPPER.size:
        raise elf.source.fault(
            section.at if section else 0, "its section .nvFatBinSegment is missing or malformed"
        )
    rows = WRAPPER.iter_unpack(elf.source.read(section.offset, section.size, "the section .nvFatBinSegment"))
    for index, (magic, version, pointer, more) in enumerate(rows):
        at = section.offset + index * WRAPPER.size
        if (magic, version, more) != (_MAGIC, _VERSION, 0):
            raise elf.source.fault(at, f"a fatbin wrapper is of unknown version {version}")
        yield section.address + index * WRAPPER.size + _POINTER, (at + _POINTER, pointer)


def _relocated(
    elf: Elf, fatbins: Section, starts: set[int], wrappers: dict[int, tuple[int, int]]
) -> Iterator[Pointer]:
    inside = range(fatbins.address, fatbins.address + fatbins.size)
    section = elf.section(".nvFatBinSegment")
    assert section is not None
    filled = range(section.address, section.address + section.size)
    left = dict(wrappers)
    for one in elf.relocations():
        if one.target in inside or one.target + 7 in inside:
            raise elf.source.fault(one.at, "a relocation changes what is in .nv_fatbin")
        points = one.symbol == 0 and one.addend in inside
        if not points and one.target not in filled and one.target + 7 not in filled:
            continue
        relative = one.type == R_X86_64_RELATIVE and one.symbol == 0
        if not relative or one.addend not in starts or one.target not in left:
            raise elf.source.fault(one.at, "a relocation concerns .nv_fatbin in a way that is not known")
        at, stored = left.pop(one.target)
        if stored == one.addend:
            yield Pointer(at, one.addend)
        elif stored:
            raise elf.source.fault(at, "a fatbin wrapper and its relocation do not agree")
        yield Pointer(one.at + _ADDEND, one.addend)
    for at, _ in left.values():
        raise elf.source.fault(at, "a fatbin wrapper has no relocation")


def _symbols(elf: Elf, fatbins: Section, starts: set[int]) -> Iterator[Pointer]:
    for table in elf.sections:
        if table.type not in (SHT_SYMTAB, SHT_DYNSYM):
            continue
        for symbol in elf.symbols(table):
            if symbol.section != fatbins.index or symbol.type == _STT_SECTION:
                continue
            if table.type == SHT_DYNSYM or symbol.value not in starts:
                raise elf.source.fault(symbol.at, "a symbol concerns .nv_fatbin in a way that is not known")
            yield Pointer(symbol.at + _VALUE, symbol.value)
