"""Runs inside an image's interpreter, never in ours: reads sources, answers with their bytecode.

Sent as text to any Python from 3.8 on, so it imports nothing but the standard library and nothing of
trtforge. Frames are a length (4 bytes, big-endian) and that many bytes. First it says which Python it is;
then, for each pair of frames (path, source) on standard input, it answers with one frame: the .pyc file
(unchecked-hash, PEP 552), or nothing if the source does not compile. It ends when its input does.

The order of sources decides some bits of the bytecode: marshal marks objects that are referred to more than
once at that moment. The same sources in the same order give the same bytes.
"""

import importlib.util
import marshal
import struct
import sys

UNCHECKED_HASH = 0b01


def pyc(path: str, source: bytes) -> bytes:
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (
        Exception
    ):  # a syntax of another Python, a test's broken file, nested too deep: compileall skips it
        return b""
    head = importlib.util.MAGIC_NUMBER + struct.pack("<I", UNCHECKED_HASH)
    return head + importlib.util.source_hash(source) + marshal.dumps(code)


def read_frame() -> "bytes | None":
    length = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(struct.unpack(">I", length)[0]) if length else None


def write_frame(data: bytes) -> None:
    sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
    sys.stdout.buffer.flush()


def main() -> None:
    write_frame("{}.{} {}".format(*sys.version_info[:2], sys.implementation.cache_tag).encode())
    while (path := read_frame()) is not None:
        write_frame(pyc(path.decode(), read_frame() or b""))


if __name__ == "__main__":
    main()
