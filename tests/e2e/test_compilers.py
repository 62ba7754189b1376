"""Compilers upon a real OS layer: a layer of Debian packages, and one with a CUDA toolkit, compile a kernel.

What is tested here is all that the image `devel` has but torch: its smoke tests do the rest.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.built_os import BOOKWORM, Built
from tests.conftest import PROJECT
from tests.test_locking import pick
from trtforge.cells import Cells
from trtforge.index.fetch import fetch
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import OsSource, PackagesSource, ToolkitSource
from trtforge.layers.toolkit_layer import ToolkitParts
from trtforge.locking import PLATFORM, toolkit_origin
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.store import Store
from trtforge.system.os_packages import OsPackage, resolve_alone, resolve_os
from trtforge.toolkit import home

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.oci import Layer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root"),
]

KERNEL = """\
#include <cuda_fp16.h>
__global__ void twice(__half *all) { all[threadIdx.x] = __hadd(all[threadIdx.x], all[threadIdx.x]); }
int main() { int count; return cudaGetDeviceCount(&count) == cudaSuccess ? 0 : 64; }
"""


@dataclass(frozen=True)
class Compilers:
    """The layers, and a folder with the file system that they make together."""

    packages: PackagesSource
    store: Store
    root: Path
    cuda: str

    def run(self, *command: str, status: int = 0) -> str:
        path = f"{home(self.cuda)}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            ["/usr/sbin/chroot", str(self.root), *command],
            env={"PATH": path, "NVCC_APPEND_FLAGS": "-cudart=shared"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def compilers(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Compilers:
    project, store = Project(PROJECT), built.store
    cells = Cells(project.matrix)
    cell = pick(cells, cuda="12.4", os="debian12", tensorrt="rtx", variant="devel")
    toolkit, system = cells.toolkit(cell), OsSource(BOOKWORM, built.locked)
    assert toolkit is not None
    wanted = [one for one in cells.added(cell).packages if one.startswith("g++")]
    packages = PackagesSource(system, new(resolve_os(BOOKWORM, wanted, built.locked), system))
    lock = project.read_lock(fresh=False)
    pins, origin = lock.pins(lock.cells[cells.name(cell)].toolkit), toolkit_origin(project.matrix, cell.cuda)
    assert origin is not None
    parts = ToolkitParts(home(cell.cuda), cells.facts(cell)["gcc"], tuple(toolkit.layout.items()))
    nvcc = resolve_alone(origin, toolkit.packages)
    source = ToolkitSource(parts, nvcc, origin, pins, InstallTarget(cell.python))
    fetch(pins, store, project.sources, Silent(), 2, python=cell.python, platform=PLATFORM)
    maker, root = LayerMaker(store, Silent(), 2), tmp_path_factory.mktemp("root")
    for one in (system, packages, source):
        unpack(maker.make(one), store, root)
    return Compilers(packages, store, root, cell.cuda)


def new(found: tuple[OsPackage, ...], system: OsSource) -> tuple[OsPackage, ...]:
    there = {package.name for package in system.packages}
    return tuple(package for package in found if package.name not in there)


def unpack(layer: Layer, store: Store, root: Path) -> None:
    with gzip.open(store.blob(layer.digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extraction_filter = lambda member, _path: member
        tar.extractall(root, numeric_owner=True)


def test_dpkg_and_apt_find_nothing_amiss(compilers: Compilers) -> None:
    listing = compilers.run(
        "dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Abbrev}\n"
    )
    locked = (*compilers.packages.system.packages, *compilers.packages.packages)
    assert {tuple(line.split()) for line in listing.splitlines()} == {
        (package.name, package.version, "ii") for package in locked
    }
    assert compilers.run("dpkg", "--audit") == ""
    compilers.run("apt-get", "check")


def test_its_own_nvcc_compiles_a_kernel_and_links_a_program(compilers: Compilers) -> None:
    assert f"release {compilers.cuda}," in compilers.run("nvcc", "--version")
    (compilers.root / "kernel.cu").write_text(KERNEL, encoding="utf-8")
    targets = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in ("80", "86")]
    compilers.run("nvcc", *targets, "-o", "/kernel", "/kernel.cu")
    code = compilers.run("cuobjdump", "--list-elf", "/kernel")
    assert "sm_80.cubin" in code
    assert "sm_86.cubin" in code
    library = f"LD_LIBRARY_PATH={home(compilers.cuda)}/lib64"
    compilers.run("env", library, "/kernel", status=64)  # it starts, and finds no GPU here


def test_the_same_packages_give_the_same_bytes(compilers: Compilers, tmp_path: Path) -> None:
    other = Store(tmp_path)
    for folder in ("oci", "layers", "debs"):
        shutil.copytree(compilers.store.root / folder, other.root / folder, copy_function=os.link)
    (other.root / "layers" / f"{compilers.packages.key}.json").unlink()
    before = os.umask(0o077)
    try:
        again = LayerMaker(other, Silent(), 2).make(compilers.packages)
    finally:
        os.umask(before)
    assert again == compilers.store.layer(compilers.packages.key)
