"""A CUDA toolkit's layer: files of packages and wheels in one folder, as the layout says."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from trtforge.errors import BuildError, HashMismatch
from trtforge.layers.toolkit_layer import ToolkitParts, layer_key, toolkit_layer
from trtforge.layers.wheel_layer import PinnedWheel
from trtforge.oci import EPOCH
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not here")

PARTS = ToolkitParts(
    "/usr/local/cuda-12.4",
    "12",
    (
        ("usr/bin", "bin"),
        ("usr/bin/nvcc", ""),
        ("usr/lib/kit/bin", "bin"),
        ("usr/lib/kit/bin/cicc", "nvvm/bin/cicc"),
        ("nvidia/runtime/include", "include"),
        ("nvidia/runtime/lib", "lib64"),
    ),
)


def deb_of(folder: Path, files: Mapping[str, str]) -> Path:
    root = folder / "deb"
    for path, text in {"DEBIAN/control": CONTROL, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
        (root / path).chmod(0o755 if "bin/" in path else 0o644)
    (root / "usr/bin/absolute").symlink_to("/etc/passwd")
    (root / "usr/bin/tool").symlink_to("ptxas")
    subprocess.run(["dpkg-deb", "--build", root, folder / "kit.deb"], check=True, capture_output=True)
    return folder / "kit.deb"


CONTROL = "Package: kit\nVersion: 1\nArchitecture: all\nMaintainer: us\nDescription: a kit\n"
FILES = {
    "usr/bin/nvcc": "Debian's wrapper",
    "usr/bin/ptxas": "ptxas",
    "usr/lib/kit/bin/nvcc": "nvcc",
    "usr/lib/kit/bin/cicc": "cicc",
    "usr/share/doc/kit/changelog": "not wanted",
}


def wheel_of(folder: Path, files: Mapping[str, str]) -> PinnedWheel:
    path = folder / "runtime-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return PinnedWheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


def text_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    contents = tar.extractfile(member)
    return contents.read().decode() if contents else ""


def made(store: Store, deb: Path, wheel: PinnedWheel) -> dict[str, tuple[tarfile.TarInfo, str]]:
    layer = toolkit_layer("key", PARTS, [deb], [wheel], store, Silent())
    with gzip.open(store.blob(layer.digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        return {one.name: (one, one.linkname if one.issym() else text_of(tar, one)) for one in tar}


WHEEL = {
    "nvidia/runtime/include/cuda_runtime.h": "#pragma once",
    "nvidia/runtime/include/__init__.py": "",
    "nvidia/runtime/lib/libcudart.so.12": "a library",
    "runtime-1.dist-info/METADATA": "Name: runtime",
}


def test_files_are_where_the_layout_says_and_others_left_out(tmp_path: Path) -> None:
    files = made(Store(tmp_path / "store"), deb_of(tmp_path, FILES), wheel_of(tmp_path, WHEEL))
    home = PARTS.home.strip("/")
    inside = {name.removeprefix(f"{home}/"): text for name, (one, text) in files.items() if not one.isdir()}
    assert inside.pop("bin/nvcc.profile").startswith("TOP ")
    assert inside.pop("lib64/libcudadevrt.a") == "!<arch>\n"
    assert inside == {
        "bin/nvcc": "nvcc",
        "bin/ptxas": "ptxas",
        "bin/tool": "ptxas",
        "nvvm/bin/cicc": "cicc",
        "include/cuda_runtime.h": "#pragma once",
        "lib64/libcudart.so.12": "a library",
        "lib64/libcudart.so": "libcudart.so.12",
        "bin/gcc": "/usr/bin/gcc-12",
        "bin/cc": "/usr/bin/gcc-12",
        "bin/g++": "/usr/bin/g++-12",
        "bin/c++": "/usr/bin/g++-12",
    }


def test_it_is_roots_and_of_no_time(tmp_path: Path) -> None:
    files = made(Store(tmp_path / "store"), deb_of(tmp_path, FILES), wheel_of(tmp_path, WHEEL))
    assert {(one.uid, one.gid, one.mtime) for one, _ in files.values()} == {(0, 0, EPOCH)}
    modes = {name.rpartition("/")[2]: one.mode for name, (one, _) in files.items()}
    assert (modes["nvcc"], modes["cuda_runtime.h"], modes["usr"]) == (0o755, 0o644, 0o755)
    names = list(files)
    assert all(not (up := name.rpartition("/")[0]) or names.index(up) < names.index(name) for name in names)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    deb, wheel = deb_of(tmp_path, FILES), wheel_of(tmp_path, WHEEL)
    first = toolkit_layer("key", PARTS, [deb], [wheel], Store(tmp_path / "one"), Silent())
    before = os.umask(0o077)
    try:
        second = toolkit_layer("key", PARTS, [deb], [wheel], Store(tmp_path / "two"), Silent())
    finally:
        os.umask(before)
    assert first == second


def test_a_toolkit_without_its_compiler_is_none(tmp_path: Path) -> None:
    files = {path: text for path, text in FILES.items() if path != "usr/lib/kit/bin/nvcc"}
    with pytest.raises(BuildError, match="no nvcc") as refused:
        toolkit_layer(
            "key",
            PARTS,
            [deb_of(tmp_path, files)],
            [wheel_of(tmp_path, WHEEL)],
            Store(tmp_path / "s"),
            Silent(),
        )
    assert "layout" in (refused.value.fact("next") or "")
    assert Store(tmp_path / "s").layer("key") is None


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel = PinnedWheel(wheel_of(tmp_path, WHEEL).path, "0" * 64)
    with pytest.raises(HashMismatch):
        toolkit_layer("key", PARTS, [deb_of(tmp_path, FILES)], [wheel], Store(tmp_path / "s"), Silent())


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.deb").write_bytes(b"nothing")
    wheel = wheel_of(tmp_path, WHEEL)
    with pytest.raises(BuildError, match=r"broken\.deb is not a Debian package"):
        toolkit_layer("key", PARTS, [tmp_path / "broken.deb"], [wheel], Store(tmp_path / "s"), Silent())


def test_the_key_is_of_all_that_decides_it() -> None:
    other = ToolkitParts(PARTS.home, "11", PARTS.layout)
    assert len({layer_key(PARTS, ["a"]), layer_key(PARTS, ["b"]), layer_key(other, ["a"])}) == 3
