"""Where a zip's members lie, read so strictly that no two readers can disagree about it.

`zipfile` reads the central directory; everything it takes on trust is checked here: that the archive starts
with its first member and ends with its directory, that the members fill the space between without gap or
overlap, and that what stands before each member says the same as the directory. So there is one way to read
the archive, and no room for a second one in the same bytes.

Source: APPNOTE.TXT 6.3.10 (sections 4.3.7 local header, 4.3.9 data descriptor, 4.3.12 central directory,
4.3.14 and 4.3.15 zip64, 4.3.16 end of central directory, 4.5.3 zip64 extra field).
"""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]
    """Takes offset and size, returns exactly that many bytes of the archive."""

MAX_DIRECTORY = 64 << 20
"""Bytes of central directory: `zipfile` holds it in memory. The largest known wheels (torch, 12,000 files)
have about 2 MiB."""

_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")

_ENCRYPTED, _HAS_DESCRIPTOR, _PATCH, _STRONG_ENCRYPTION, _UTF8, _MASKED = 0x1, 0x8, 0x20, 0x40, 0x800, 0x2000
_MEANINGFUL = _ENCRYPTED | _HAS_DESCRIPTOR | _PATCH | _STRONG_ENCRYPTION | _UTF8 | _MASKED
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF

ARCHIVE = "(the archive itself)"
"""Stands for the member in the report of a fault that no single member has."""


class ZipFault(Exception):
    """The archive is not what a wheel may be; `unsafe` if it could mislead, otherwise it is just broken."""

    def __init__(self, member: str, reason: str, *, unsafe: bool = True) -> None:
        super().__init__(f"{member}: {reason}")
        self.member, self.reason, self.unsafe = member, reason, unsafe


class Entry(NamedTuple):
    """A member: what the directory says of it, and the offset of its first byte of data."""

    info: zipfile.ZipInfo
    start: int


def entries(file: BinaryIO, read: Read, size: int) -> Iterator[Entry]:
    """The members of the zip `file`, `size` bytes long, in the order they lie in it.

    Raises:
        ZipFault: the archive is unsafe or broken.
    """
    directory, count = _end_of_archive(read, size)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError, ValueError) as error:
        raise ZipFault(ARCHIVE, f"its directory cannot be read: {error}", unsafe=False) from error
    if len(infos) != count:
        raise ZipFault(ARCHIVE, f"its directory has {len(infos)} members and claims {count}")
    offsets = [*(info.header_offset for info in infos), directory]
    if offsets[0] != 0:
        raise ZipFault(ARCHIVE, "it does not start with a member")
    for info, end in zip(infos, offsets[1:], strict=True):
        yield Entry(info, _start_of_data(read, info, end))


def _end_of_archive(read: Read, size: int) -> tuple[int, int]:
    """Offset of the central directory, and how many members it has."""
    at = size - _END.size
    if at < 0:
        raise ZipFault(ARCHIVE, "it is too short for a zip", unsafe=False)
    magic, disk, first, here, count, length, offset, comment = _END.unpack(read(at, _END.size))
    if magic != b"PK\5\6" or comment:
        raise ZipFault(ARCHIVE, "it does not end with the end of a zip: cut short, or something was appended")
    if disk or first or here != count:
        raise ZipFault(ARCHIVE, "it is a part of a split archive")
    end = at
    locator = at - _LOCATOR64.size
    if locator >= _END64.size and read(locator, 4) == b"PK\6\7":
        end = locator - _END64.size
        _, locator_disk, there, disks = _LOCATOR64.unpack(read(locator, _LOCATOR64.size))
        end64 = _END64.unpack(read(end, _END64.size))
        magic, _, _, _, disk, first, here64, count64, length64, offset64 = end64
        same = count in (_FULL16, count64) and length in (_FULL32, length64) and offset in (_FULL32, offset64)
        if magic != b"PK\6\6" or there != end or locator_disk or disk or first or disks > 1 or not same:
            raise ZipFault(ARCHIVE, "its zip64 end contradicts its end")
        if here64 != count64:
            raise ZipFault(ARCHIVE, "it is a part of a split archive")
        count, length, offset = count64, length64, offset64
    if offset + length != end:
        raise ZipFault(ARCHIVE, "bytes that belong to nothing lie at its start or behind its directory")
    if length > MAX_DIRECTORY:
        raise ZipFault(ARCHIVE, f"its directory has {length} bytes, over the limit of {MAX_DIRECTORY}")
    return offset, count


def _start_of_data(read: Read, info: zipfile.ZipInfo, end: int) -> int:
    """Where the data of `info` starts; all between its own header and `end` must agree with the directory."""
    name = info.orig_filename
    if info.flag_bits & (_ENCRYPTED | _STRONG_ENCRYPTION | _MASKED):
        raise ZipFault(name, "it is encrypted")
    if info.flag_bits & _PATCH or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ZipFault(name, f"it is compressed with method {info.compress_type}, which no wheel may use")
    if info.header_offset + _LOCAL.size > end:
        raise ZipFault(name, "it overlaps what follows it")
    header = _LOCAL.unpack(read(info.header_offset, _LOCAL.size))
    magic, _, flags, method, _, _, crc, compressed, plain, name_length, extra_length = header
    start: int = info.header_offset + _LOCAL.size + name_length + extra_length
    if magic != b"PK\3\4":
        raise ZipFault(name, "no member starts where the directory says", unsafe=False)
    if start + info.compress_size > end:
        raise ZipFault(name, "it overlaps what follows it")
    tail = read(info.header_offset + _LOCAL.size, name_length + extra_length)
    raw_name = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    if tail[:name_length] != raw_name:
        raise ZipFault(name, "its own header gives another name than the directory")
    if method != info.compress_type or (flags ^ info.flag_bits) & _MEANINGFUL:
        raise ZipFault(name, "its own header gives another method than the directory")
    descriptor = read(start + info.compress_size, min(end - start - info.compress_size, 32))
    facts = info.CRC, info.compress_size, info.file_size
    if flags & _HAS_DESCRIPTOR:
        if descriptor not in _descriptors(info):
            raise ZipFault(name, "behind it lies no data descriptor that agrees with the directory")
    elif descriptor:
        raise ZipFault(name, "bytes that belong to no member lie behind it")
    elif (crc, *_sizes(tail[name_length:], compressed, plain)) != facts:
        raise ZipFault(name, "its own header gives another CRC or size than the directory")
    return start


def _descriptors(info: zipfile.ZipInfo) -> Iterator[bytes]:
    """All ways to write the data descriptor of `info`: sizes of 4 or 8 bytes, with or without signature."""
    for sizes in ("<III", "<IQQ"):
        if sizes == "<IQQ" or max(info.compress_size, info.file_size) <= _FULL32:
            descriptor = struct.pack(sizes, info.CRC, info.compress_size, info.file_size)
            yield descriptor
            yield b"PK\7\x08" + descriptor


def _sizes(extra: bytes, compressed: int, plain: int) -> tuple[int, int]:
    """A local header's sizes, from its zip64 extra field where the header itself has no room for them."""
    while len(extra) >= 4 and _FULL32 in (compressed, plain):
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1 and length >= 16 and len(extra) >= 20:
            wide_plain, wide_compressed = struct.unpack_from("<QQ", extra, 4)
            return (
                wide_compressed if compressed == _FULL32 else compressed,
                wide_plain if plain == _FULL32 else plain,
            )
        extra = extra[4 + length :]
    return compressed, plain
