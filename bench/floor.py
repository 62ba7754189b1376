"""The least that any tool must do with wheels: read, inflate and hash them once. Nothing of ours is in it.

python bench/floor.py THREADS WHEEL...
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from isal import isal_zlib

CHUNK = 1 << 20


def floor(wheel: Path) -> int:
    """SHA-256 of the file and SHA-256 of all that is in it; bytes inflated."""
    content, inflated = hashlib.sha256(), 0
    with zipfile.ZipFile(wheel) as archive, wheel.open("rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset)
            name, extra = struct.unpack("<26xHH", file.read(30))
            file.seek(name + extra, 1)
            inflater = isal_zlib.decompressobj(wbits=-15) if member.compress_type else None
            left = member.compress_size
            while left:
                chunk = file.read(min(CHUNK, left))
                left -= len(chunk)
                plain = inflater.decompress(chunk) if inflater else chunk
                content.update(plain)
                inflated += len(plain)
    with wheel.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return inflated


def main() -> None:
    threads, wheels = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    with ThreadPoolExecutor(threads) as pool:
        largest_first = sorted(wheels, key=lambda wheel: -wheel.stat().st_size)
        print(sum(pool.map(floor, largest_first)))


if __name__ == "__main__":
    main()
