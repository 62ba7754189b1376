"""A tar written into gzip holds what was put in, whatever way it came, and is the same bytes everywhere."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tarfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wheel_factory import raw_deflate
from trtforge.layers.gzip_tar import MEMBER, GzipTar, Piece, compress_tar, stored
from trtforge.oci import EPOCH, Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def written(
    fill: Callable[[GzipTar], None], prefix: str = "/", uid: int = 0, gid: int = 0
) -> tuple[bytes, Layer]:
    out = io.BytesIO()
    tar = GzipTar(out, prefix, uid, gid)
    fill(tar)
    layer = tar.finish()
    return out.getvalue(), layer


def entries_of(blob: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as tar:
        return {info.name: info for info in tar}


def content_of(blob: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as tar:
        file = tar.extractfile(name)
        assert file
        return file.read()


def pieces_of(content: bytes, cut: int) -> Iterator[Piece]:
    """`content` as deflate pieces; the plain side lags behind, as inflating does."""
    deflated = raw_deflate(content)
    yield Piece(deflated[:cut], b"")
    yield Piece(deflated[cut:], content[: len(content) // 2])
    yield Piece(b"", content[len(content) // 2 :])


@given(st.binary(max_size=5000), st.integers(0, 5000))
def test_a_copied_stream_is_the_file(content: bytes, cut: int) -> None:
    blob, layer = written(
        lambda tar: tar.add_deflated("/a/b", len(content), zlib.crc32(content), pieces_of(content, cut))
    )
    assert content_of(blob, "a/b") == content
    assert layer == Layer(
        digest_of(blob), digest_of(gzip.decompress(blob)), len(blob), len(gzip.decompress(blob))
    )


@given(st.lists(st.binary(min_size=1, max_size=200_000), max_size=4))
def test_stored_blocks_inflate_to_what_went_in(chunks: list[bytes]) -> None:
    content = b"".join(chunks)
    stream = b"".join(
        piece.deflated for piece in stored((Piece(b"", chunk) for chunk in chunks), len(content))
    )
    inflater = zlib.decompressobj(-15)
    if content:
        assert inflater.decompress(stream) == content
        assert inflater.eof
        assert not inflater.unused_data


def test_folders_that_the_image_has_keep_their_modes_and_owners() -> None:
    out = io.BytesIO()
    known = [("/opt", 0o711, 3, 4), ("/opt/env/lib", 0o2775, 1, 50), ("/opt/env/lib/file", 0o700, 9, 9)]
    tar = GzipTar(out, "/opt/env", 7, 8, known)
    tar.add_file("/opt/env/lib/file", b"")
    tar.finish()
    found = {name: (info.mode, info.uid, info.gid) for name, info in entries_of(out.getvalue()).items()}
    assert found == {
        "opt": (0o711, 3, 4),
        "opt/env": (0o755, 7, 8),
        "opt/env/lib": (0o2775, 1, 50),
        "opt/env/lib/file": (0o644, 7, 8),
    }


def test_a_stream_of_another_size_than_promised_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bytes came instead of 6"):
        written(lambda tar: tar.add_deflated("/a", 6, zlib.crc32(b"hello"), pieces_of(b"hello", 2)))


def test_files_folders_and_links_come_as_they_were_put_in() -> None:
    def fill(tar: GzipTar) -> None:
        tar.add_file("/opt/x/run", b"#!/bin/sh\n", executable=True)
        tar.add_file("/opt/x/data", b"")
        tar.add_symlink("/opt/x/link", "../target")
        tar.add_directory("/opt/x/deep/er")
        tar.add_directory("/opt/x/deep")

    entries = entries_of(written(fill)[0])
    assert {name: (info.type, info.mode) for name, info in entries.items()} == {
        "opt": (tarfile.DIRTYPE, 0o755),
        "opt/x": (tarfile.DIRTYPE, 0o755),
        "opt/x/run": (tarfile.REGTYPE, 0o755),
        "opt/x/data": (tarfile.REGTYPE, 0o644),
        "opt/x/link": (tarfile.SYMTYPE, 0o777),
        "opt/x/deep": (tarfile.DIRTYPE, 0o755),
        "opt/x/deep/er": (tarfile.DIRTYPE, 0o755),
    }
    assert entries["opt/x/link"].linkname == "../target"
    assert {info.mtime for info in entries.values()} == {EPOCH}


def test_only_the_prefix_and_what_is_below_belong_to_the_user() -> None:
    def fill(tar: GzipTar) -> None:
        tar.add_file("/opt/venv/bin/x", b"")
        tar.add_file("/opt/venv-of-another", b"")

    entries = entries_of(written(fill, "/opt/venv", 1000, 1001)[0])
    assert {name for name, info in entries.items() if (info.uid, info.gid) == (1000, 1001)} == {
        "opt/venv",
        "opt/venv/bin",
        "opt/venv/bin/x",
    }
    assert {(info.uid, info.gid) for name, info in entries.items() if not name.startswith("opt/venv/")} >= {
        (0, 0)
    }


@pytest.mark.parametrize("name", ["/" + "x" * 101, "/" + "/".join(["y" * 200] * 3), "/é", "/\udcff"])
def test_long_and_foreign_names_survive(name: str) -> None:
    assert content_of(written(lambda tar: tar.add_file(name, b"here"))[0], name.strip("/")) == b"here"


def test_ordinary_names_need_no_extended_header() -> None:
    _, layer = written(lambda tar: tar.add_file("/" + "x" * 100, b""))
    assert layer.unpacked == 3 * 512


def test_tar_reads_it() -> None:
    blob, _ = written(lambda tar: tar.add_file("/a/b", b"content"))
    listed = subprocess.run(["tar", "-tvzf", "-"], input=blob, capture_output=True, check=True)
    assert not listed.stderr
    assert listed.stdout.decode().splitlines()[1].endswith("7 1980-01-01 00:00 a/b")


def test_the_bytes_are_the_ones_that_are_published() -> None:
    def fill(tar: GzipTar) -> None:
        for number in range(2000):
            tar.add_file(
                f"/opt/venv/file-{number}", b"%d\n" % (number * number) * 100, executable=number % 2 == 0
            )
        tar.add_file("/opt/venv/" + "é" * 100, b"a PAX header")

    _, layer = written(fill, "/opt/venv", 1000, 1000)
    # If this changes though the code did not, libdeflate's output did: see `wheel_layer.FORMAT`.
    assert layer.digest == "sha256:7a9bcbcd02e4334dbb1daeaecaec9557a5d808b555db7b50a7abd5159f40cb69"


def tar_stream(size: int) -> bytes:
    return random.Random(1).randbytes(size // 4) * 4


@pytest.mark.parametrize("size", [0, 10, MEMBER, MEMBER + 1, 3 * MEMBER + 100])
def test_a_tar_made_elsewhere_is_compressed(size: int) -> None:
    source, out = tar_stream(size), io.BytesIO()
    done: list[int] = []
    layer = compress_tar(io.BytesIO(source), out, advance=done.append)
    assert subprocess.run(["gzip", "-dc"], input=out.getvalue(), capture_output=True).stdout == source
    assert layer == Layer(digest_of(out.getvalue()), digest_of(source), len(out.getvalue()), len(source))
    assert sum(done) == len(source)


class Trickle(io.RawIOBase):
    """A pipe whose reads are short and end anywhere."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content, self._random = io.BytesIO(content), random.Random(2)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, self._random.randint(1, 1 << 20)))


def test_neither_short_reads_nor_threads_show_in_the_bytes() -> None:
    source = tar_stream(2 * MEMBER + 99)
    outs = [io.BytesIO() for _ in range(3)]
    layers = [
        compress_tar(io.BytesIO(source), outs[0], jobs=1),
        compress_tar(io.BytesIO(source), outs[1], jobs=5),
        compress_tar(cast("BinaryIO", Trickle(source)), outs[2]),
    ]
    assert layers[0] == layers[1] == layers[2]
    assert outs[0].getvalue() == outs[1].getvalue() == outs[2].getvalue()


def test_the_bytes_of_a_compressed_tar_are_the_ones_that_are_published() -> None:
    source = b"".join(b"%d\n" % (number * number) for number in range(300_000))
    # If this changes though the code did not, libdeflate's output did: OS layers change with it.
    layer = compress_tar(io.BytesIO(source), io.BytesIO())
    assert layer.digest == "sha256:f4f42b4b922c973bbd66eaca9bcb69178eff76f14710c2849efe998108c47d1f"
