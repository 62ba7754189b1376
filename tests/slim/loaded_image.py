"""What is in memory once a library is loaded at address 0: an independent, simple reading of its segments."""

from __future__ import annotations

import struct


def memory(data: bytes) -> dict[range, bytes]:
    """Address range -> the bytes at its beginning, of each loaded segment; the others are zero."""
    (phoff,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    loaded = {}
    for i in range(count):
        kind, _, offset, address, _, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", data, phoff + 56 * i)
        if kind == 1:
            loaded[range(address, address + memsz)] = data[offset : offset + filesz]
    return loaded


def at(image: dict[range, bytes], address: int, size: int) -> bytes:
    """`size` bytes at `address`."""
    if not size:
        return b""
    for where, data in image.items():
        if address in where and address + size <= where.stop:
            return data[address - where.start : address - where.start + size].ljust(size, b"\0")
    raise LookupError(f"nothing is loaded at {address:#x}")


def sections(data: bytes) -> dict[str, tuple[int, int, int]]:
    """Name -> address, offset and size."""
    (shoff,) = struct.unpack_from("<Q", data, 40)
    count, names_in = struct.unpack_from("<HH", data, 60)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + 64 * i) for i in range(count)]
    names = rows[names_in][4]
    return {
        data[names + row[0] : data.index(0, names + row[0])].decode("latin-1"): (row[3], row[4], row[5])
        for row in rows
    }


def registered(data: bytes) -> list[list[tuple[int, bytes]]]:
    """What the CUDA runtime is given: of each wrapper's container, in order, (capability, payload) of each
    entry. The relocations decide where a wrapper points, as they do when a library is loaded."""
    image, named = memory(data), sections(data)
    address, _, size = named[".nvFatBinSegment"]
    tags = _dynamic(data)
    rows = struct.iter_unpack("<QQq", at(image, tags[7], tags[8]))  # DT_RELA, DT_RELASZ
    points = {target: addend for target, kind, addend in rows if kind == 8}
    found = []
    for slot in range(address + 8, address + size, 24):
        start = points[slot]
        magic, _, header, length = struct.unpack("<IHHQ", at(image, start, 16))
        assert magic == 0xBA55ED50
        entries, where = [], start + header
        while where < start + header + length:
            _, _, head, payload = struct.unpack("<HHIQ", at(image, where, 16))
            (capability,) = struct.unpack("<I", at(image, where + 28, 4))
            entries.append((capability, at(image, where + head, payload)))
            where += head + payload
        found.append(entries)
    return found


def _dynamic(data: bytes) -> dict[int, int]:
    """The tags of the dynamic segment."""
    phoff, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    headers = [struct.unpack_from("<IIQQQQQQ", data, phoff + 56 * i) for i in range(count)]
    (found,) = [row for row in headers if row[0] == 2]
    tags: dict[int, int] = {}
    for at_tag in range(found[2], found[2] + found[5] // 16 * 16, 16):
        tag, value = struct.unpack_from("<QQ", data, at_tag)
        if not tag:
            break
        tags.setdefault(tag, value)
    return tags
