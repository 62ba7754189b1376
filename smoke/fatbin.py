"""Which GPU code a shared library holds, read from its section `.nv_fatbin`.

Containers (u32 magic, u16 version, u16 header, u64 size) hold entries (u16 kind, 1 PTX or 2 machine code,
u16, u32 header, u64 payload, and at 28 the compute capability), as in trtforge/slim/fatbin.py.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

MAGIC = 0xBA55ED50

_SECTION = struct.Struct("<IIQQQQ")  # name, type, flags, address, offset, size
_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQ12xI")
_KINDS = {1: "compute", 2: "sm"}


def architectures(library: str) -> dict[str, int]:
    """Architecture ("sm_86", "compute_90") -> bytes of its code in `library`; without suffixes as in sm_90a.

    Raises:
        ValueError: it has no such section, or it cannot be read to its end.
    """
    found: dict[str, int] = {}
    with Path(library).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, end = _section(data)
        while at < end:
            magic, _, header, size = _CONTAINER.unpack_from(data, at)
            if magic != MAGIC:
                raise ValueError(f"there is no fatbin container at byte {at}")
            inside, at = at + header, at + header + size
            while inside < at:
                kind, _, head, payload, capability = _ENTRY.unpack_from(data, inside)
                name = f"{_KINDS[kind]}_{capability}"
                found[name] = found.get(name, 0) + payload
                inside += head + payload
    return found


def _section(data: mmap.mmap) -> tuple[int, int]:
    (table,) = struct.unpack_from("<Q", data, 40)
    width, count, names_in = struct.unpack_from("<HHH", data, 58)
    rows = [_SECTION.unpack_from(data, table + index * width) for index in range(count)]
    names = rows[names_in][4]
    for name, _, _, _, offset, size in rows:
        start = names + name
        if data[start : start + 11] == b".nv_fatbin\0":
            return offset, offset + size
    raise ValueError("it has no section .nv_fatbin")
