"""Fatbins: the containers of GPU code in a library's section `.nv_fatbin`, and what is in them.

A container is a header (u32 magic, u16 version, u16 size of the header, u64 size of what follows) and its
entries, one behind the other; an entry is a header (u16 kind, u16 version, u32 size of the header, u64 size
of the payload, ..., u32 compute capability at +28, u64 flags at +40, ...) and its payload, compressed or
not. There is no published specification: this is what `fatbinary` of CUDA 12.8 and 13.0 writes and
`cuobjdump` reads. All places within an entry are relative to the entry, so it can be moved whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.slim.elf import Section, Source

CONTAINER = struct.Struct("<IHHQ")
MAGIC, VERSION = 0xBA55ED50, 1

ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
_ENTRY_VERSION = 0x0101
_MAX_ENTRY_HEADER = 64 << 10
_ALIGN = 8

_KINDS: dict[int, Literal["compute", "sm"]] = {1: "compute", 2: "sm"}
_ONE_ARCHITECTURE, _FAMILY = 0x100000, 0x200000
"""Flags of code built for sm_90a, and for sm_100f."""
_OTHER_FLAGS = 0x1 | 0x2 | 0x10 | 0x1000 | 0x2000 | 0x8000 | 0x1000000
"""64-bit, with debug information, for Linux, three ways of compression, a header with more: all that
`fatbinary` was seen to write. They do not decide where code runs."""


@dataclass(frozen=True)
class Entry:
    """The code for one architecture.

    offset: where it begins in the file. size: bytes, its header included.
    kind: "sm" is machine code, "compute" is PTX.
    capability: 86 for 8.6. suffix: "a" runs on that capability alone, "f" on its family.
    """

    offset: int
    size: int
    kind: Literal["compute", "sm"]
    capability: int
    suffix: Literal["", "a", "f"]

    @property
    def architecture(self) -> str:
        """As compilers name it: "sm_90a", "compute_80"."""
        return f"{self.kind}_{self.capability}{self.suffix}"

    def runs_on(self, capability: int) -> bool:
        """Whether a GPU of `capability` can run it (CUDA C++ Programming Guide, "Binary Compatibility")."""
        if self.suffix == "a":
            return self.capability == capability
        if self.kind == "sm" or self.suffix == "f":
            return self.capability // 10 == capability // 10 and self.capability <= capability
        return self.capability <= capability


@dataclass(frozen=True)
class Container:
    """The code of one translation unit for all architectures; offset and size as of an `Entry`."""

    offset: int
    size: int
    entries: tuple[Entry, ...]


def read_containers(source: Source, section: Section) -> tuple[Container, ...]:
    """All containers of `section`, which they fill.

    Raises:
        NotUnderstood: a byte of it belongs to nothing that is known.
    """
    containers = []
    at, end = section.offset, section.offset + section.size
    while at < end:
        if end - at < CONTAINER.size:
            raise source.fault(at, "something follows the last fatbin container")
        magic, version, header, size = CONTAINER.unpack(source.read(at, CONTAINER.size, "a fatbin container"))
        if magic != MAGIC:
            raise source.fault(at, "what is in .nv_fatbin is no fatbin container")
        if (version, header) != (VERSION, CONTAINER.size):
            raise source.fault(at, f"the fatbin container is of unknown version {version}")
        if size > end - at - header or size % _ALIGN:
            raise source.fault(at, "the fatbin container lies about its size")
        containers.append(Container(at, header + size, tuple(_entries(source, at + header, size))))
        at += header + size
    return tuple(containers)


def _entries(source: Source, at: int, size: int) -> Iterator[Entry]:
    end = at + size
    while at < end:
        if end - at < ENTRY.size:
            raise source.fault(at, "something follows the last entry of a fatbin container")
        fields = ENTRY.unpack(source.read(at, ENTRY.size, "a fatbin entry"))
        kind, version, header, payload, compressed, *_, capability, _, _, flags, _, _ = fields
        if kind not in _KINDS or version != _ENTRY_VERSION:
            raise source.fault(at, f"the fatbin entry is of unknown kind {kind}, version {version:#x}")
        if not ENTRY.size <= header <= _MAX_ENTRY_HEADER or header % _ALIGN or payload % _ALIGN:
            raise source.fault(at, "the fatbin entry has a header or payload of an unknown form")
        if header + payload > end - at or compressed > payload:
            raise source.fault(at, "the fatbin entry lies about its size")
        if flags & ~(_ONE_ARCHITECTURE | _FAMILY | _OTHER_FLAGS):
            raise source.fault(at, f"the fatbin entry has unknown flags {flags:#x}")
        bits = flags & (_ONE_ARCHITECTURE | _FAMILY)
        if bits == _ONE_ARCHITECTURE | _FAMILY or not 10 <= capability < 1000:
            raise source.fault(at, "the fatbin entry is for an unknown architecture")
        suffix: Literal["", "a", "f"] = "a" if bits == _ONE_ARCHITECTURE else "f" if bits else ""
        yield Entry(at, header + payload, _KINDS[kind], capability, suffix)
        at += header + payload
