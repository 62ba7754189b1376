"""What each package has in a layer: exact to the byte, whatever the layer was made of."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wheel_factory import ZipMember, make_wheel
from trtforge.errors import BuildError
from trtforge.layers.compiled_wheel_layer import compiled_in_store
from trtforge.layers.gzip_tar import GzipTar, compress_tar
from trtforge.layers.image_python import ImagePython
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_layer import PinnedWheel
from trtforge.progress import Silent
from trtforge.sizes.contents import Part, layer_contents, read_contents
from trtforge.store import Store

if TYPE_CHECKING:
    from trtforge.oci import Layer

TARGET = InstallTarget(f"{sys.version_info.major}.{sys.version_info.minor}")


def sums(parts: tuple[Part, ...]) -> tuple[int, int]:
    return sum(part.compressed for part in parts), sum(part.on_disk for part in parts)


def bundle(folder: Path, store: Store) -> Layer:
    """A layer of two wheels with their bytecode."""
    members = {
        "one_half": [
            ZipMember("one_half/__init__.py", b"x = 1\n" * 500),
            ZipMember("one_half/a.bin", bytes(9000)),
        ],
        "other": [
            ZipMember("other.py", b"y = 2\n"),
            ZipMember("other-1.0.data/scripts/tool", b"#!python\n"),
        ],
    }
    wheels = [make_wheel(folder, content, name) for name, content in members.items()]
    pinned = [PinnedWheel(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()) for wheel in wheels]
    return compiled_in_store(store, pinned, TARGET, ImagePython("os", lambda: [sys.executable]), Silent())


def test_wheels_in_a_bundle_and_their_bytecode_are_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    layer = bundle(tmp_path, store)
    parts = layer_contents(layer, store)
    assert parts
    assert {(part.name, part.kind) for part in parts} == {
        ("one-half", "wheel"),
        ("other", "wheel"),
        ("bytecode", "bytecode"),
    }
    assert sums(parts) == (layer.size, layer.unpacked)
    of = {part.name: part.on_disk for part in parts}
    assert of["one-half"] > 9000 + 3000
    with gzip.open(store.blob(layer.digest)) as stream, tarfile.open(fileobj=stream) as tree:
        blocks = {member.name: 512 + -(-member.size // 512) * 512 for member in tree if member.isfile()}
    compiled = sum(size for name, size in blocks.items() if name.endswith(".pyc"))
    # Two folders are there for bytecode alone, and the tar ends with two empty blocks.
    assert of["bytecode"] == compiled + 2 * 512 + 1024


def test_a_layer_is_read_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    layer = bundle(tmp_path, store)
    first = layer_contents(layer, store)
    store.blob(layer.digest).unlink()
    assert layer_contents(layer, store) == first
    (kept,) = (store.root / "sizes").iterdir()
    kept.write_text("{}")
    assert layer_contents(layer, store) is None


def tar_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return raw.getvalue()


def layer_of(tar: bytes) -> tuple[Layer, bytes]:
    out = io.BytesIO()
    return compress_tar(io.BytesIO(tar), out), out.getvalue()


def test_debian_packages_are_told_apart_by_dpkgs_lists() -> None:
    layer, blob = layer_of(
        tar_of(
            {
                "usr/bin/bash": b"b" * 5000,
                "usr/lib/libc.so.6": b"c" * 7000,
                "etc/passwd": b"root",
                "usr/lib/python3/__pycache__/x.cpython-311.pyc": b"p",
                "var/lib/dpkg/info/bash.list": b"/.\n/bin\n/bin/bash\n",
                "var/lib/dpkg/info/libc6:amd64.list": b"/.\n/usr/lib\n/usr/lib/libc.so.6\n",
            },
            {"usr/bin/sh": "dash"},
        )
    )
    parts = read_contents(io.BytesIO(blob))
    named = {
        ("libc6", "debian"): 512 + 7168 + 1024,
        ("bash", "debian"): 512 + 5120 + 1024,
        ("other files", "files"): 1024,
        ("bytecode", "bytecode"): 1024,
    }
    links = layer.unpacked - sum(named.values())  # the link, and the end of the tar
    expected = {**named, ("links", "links"): links}
    assert {(part.name, part.kind): part.on_disk for part in parts} == expected
    assert sums(parts) == (layer.size, layer.unpacked)


NAMES = st.from_regex(r"[a-zé]{1,130}(/[a-z]{1,9}){0,2}", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8), st.integers(1, 3000))
def test_parts_add_up_to_the_layer_wherever_its_gzip_members_end(files: dict[str, bytes], cut: int) -> None:
    tar = tar_of(files)
    blob = b"".join(gzip.compress(tar[at : at + cut], mtime=0) for at in range(0, len(tar), cut))
    assert sums(read_contents(io.BytesIO(blob))) == (len(blob), len(tar))


@given(
    st.lists(
        st.tuples(NAMES, st.binary(max_size=2000)), max_size=6, unique_by=lambda one: one[0].split("/")[0]
    )
)
def test_parts_of_a_layer_of_ours_add_up(files: list[tuple[str, bytes]]) -> None:
    out = io.BytesIO()
    tar = GzipTar(out)
    for name, content in files:
        tar.add_file(f"/{name}", content)
    layer = tar.finish()
    assert sums(read_contents(io.BytesIO(out.getvalue()))) == (layer.size, layer.unpacked)


@pytest.mark.parametrize("damage", ["ends early", "is no gzip", "is no tar"])
def test_a_damaged_layer_is_told(damage: str) -> None:
    _, blob = layer_of(tar_of({"a": bytes(range(256)) * 40}))
    bad = {"ends early": blob[:-9], "is no gzip": b"x" + blob, "is no tar": gzip.compress(b"y" * 2000)}[
        damage
    ]
    with pytest.raises(BuildError, match="a layer cannot be read"):
        read_contents(io.BytesIO(bad))


def test_memory_does_not_grow_with_the_layer() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        with path.open("wb") as out:
            compress_tar(io.BytesIO(tar_of({"zeros": bytes(192 << 20)})), out)
        tracemalloc.start()
        with path.open("rb") as blob:
            read_contents(blob)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 24 << 20
