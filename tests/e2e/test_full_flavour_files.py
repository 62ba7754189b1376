"""Which files of the full TensorRT an image keeps: those for its own GPUs.

The wheel is a stand-in with the real one's file names, whose stub libraries need one another; it comes from a
loopback index that stands in for NVIDIA's, and is made a layer as in a build.
"""

from __future__ import annotations

import csv
import tarfile
from typing import TYPE_CHECKING

import pytest

from smoke.checks import libraries, loader
from tests.loopback_index import loopback_index, tiny_wheel
from tests.tensorrt_stand_in import LIBS_TAG, stand_in_libs
from trtforge.cell_cuts import own_cuts
from trtforge.cells import Cell, Cells
from trtforge.errors import StaleFileRule
from trtforge.file_rules import FileRule
from trtforge.index.fetch import fetch
from trtforge.index.resolve import Need, Sources, resolve
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import LinksSource, WheelSource
from trtforge.locking import PLATFORM
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.index.pins import Pin
    from trtforge.layers.cut import Cut
    from trtforge.matrix import Matrix

pytestmark = pytest.mark.e2e

SPLIT, MONOLITHIC = "10.16.1.11", "10.13.3.9.post1"
RESOURCE = "libnvinfer_builder_resource"
NAME = "tensorrt-cu12-libs"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the stand-in for NVIDIA's index."""
    folder = tmp_path_factory.mktemp("nvidia")
    for version in (SPLIT, MONOLITHIC):
        stand_in_libs(folder, version=version)
    # One as if NVIDIA had renamed the files.
    files = {f"tensorrt_libs/{name}": b"" for name in ("__init__.py", "libnvinfer.so.10")}
    tiny_wheel(folder, NAME, "10.17.0.1", tag=LIBS_TAG, files=files)
    with loopback_index(folder) as served:
        yield served.url


class House:
    """Locks and fetches wheels of the index, and makes layers of them."""

    def __init__(self, index: str, root: Path) -> None:
        self.root, self.store = root, Store(root / "store")
        self.sources = Sources(indexes={"nvidia": index})
        self.target = InstallTarget("3.11")

    def pin(self, version: str) -> Pin:
        needs = [Need(f"{NAME}=={version}", index="nvidia", wheel_only=True)]
        (pin,) = resolve(needs, constraints=(), python="3.11", platform=PLATFORM, sources=self.sources)
        fetch([pin], self.store, self.sources, Silent(), python="3.11", platform=PLATFORM)
        return pin

    def site_packages(self, pin: Pin, cut: Cut, name: str) -> Path:
        """The layer of `pin`, unpacked."""
        layer = self.maker.make(WheelSource((pin,), self.target, cuts=(cut,)))
        with tarfile.open(self.store.blob(layer.digest)) as tar:
            tar.extractall(self.root / name, filter="tar")
        return self.root / name / self.target.site_packages.lstrip("/")

    @property
    def maker(self) -> LayerMaker:
        return LayerMaker(self.store, Silent(), jobs=1)


@pytest.fixture
def house(index: str, tmp_path: Path) -> House:
    return House(index, tmp_path)


def cell(cells: Cells, arch: str, version: str) -> Cell:
    (choice,) = cells.choose({"cuda": ("12.8",), "arch": (arch,), "tensorrt": (version,)})
    return choice.cell


def resources(site: Path) -> set[str]:
    """The builder resources in an image, by the part of their name that tells them apart."""
    found = {path.name for path in (site / "tensorrt_libs").iterdir() if path.name.startswith(RESOURCE)}
    (info,) = site.glob("*.dist-info")
    with (info / "RECORD").open(newline="") as record:
        named = {row[0].rpartition("/")[2] for row in csv.reader(record)}
    assert found == {name for name in named if name.startswith(RESOURCE)}, "RECORD says what is there"
    return {name.removeprefix(RESOURCE).partition(".so")[0] for name in found}


@pytest.mark.parametrize(
    ("arch", "version", "kept"),
    [
        ("ampere", SPLIT, {"_sm80", "_sm86", "_ptx"}),
        ("hopper", SPLIT, {"_sm90", "_ptx"}),
        ("ampere", MONOLITHIC, {""}),
    ],
)
def test_an_image_keeps_the_files_of_its_gpus(
    house: House, cells: Cells, arch: str, version: str, kept: set[str]
) -> None:
    of, pin = cell(cells, arch, version), house.pin(version)
    cuts = own_cuts(cells, of, [pin])
    site = house.site_packages(pin, cuts[NAME], "image")
    assert resources(site) == kept
    assert loader.missing_resources([site / "tensorrt_libs"], list(cells.sm(of)), {}) == []
    files, faults = libraries.read(str(site))
    assert len(files) == 3 + len(kept)
    assert (faults, libraries.unresolved(files, str(site), lambda _: None)) == ([], [])


def test_the_loader_gets_links_to_what_is_there(house: House, cells: Cells) -> None:
    pin = house.pin(SPLIT)
    (cut,) = own_cuts(cells, cell(cells, "hopper", SPLIT), [pin]).values()
    layer = house.maker.make(LinksSource(pin, "tensorrt_libs", house.target, cut))
    with tarfile.open(house.store.blob(layer.digest)) as tar:
        links = {one.name.rpartition("/")[2] for one in tar if one.issym()}
    assert {name for name in links if name.startswith(RESOURCE)} == {
        f"{RESOURCE}_sm90.so.10.16.1",
        f"{RESOURCE}_ptx.so.10.16.1",
    }


def test_a_wheel_whose_files_have_other_names_is_not_silently_whole(house: House, cells: Cells) -> None:
    pin = house.pin("10.17.0.1")
    (cut,) = own_cuts(cells, cell(cells, "ampere", SPLIT), [pin]).values()
    with pytest.raises(StaleFileRule) as caught:
        house.site_packages(pin, cut, "image")
    assert caught.value.rule == "tensorrt-other-architectures"
    assert caught.value.wheel == pin.filename
    assert "10.17.0.1" in str(caught.value.fact("wheel"))


def test_a_rule_that_takes_a_needed_library_fails_and_is_named(
    house: House, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"packages": [NAME], "because": "it looks unneeded", "source": "nobody", "saves": "642 MB on disk"}
    wrong = FileRule.model_validate({"id": "too-much", "drop": ["tensorrt_libs/libnvinfer.so.*"], **rule})
    cells = Cells(matrix.model_copy(update={"files": [*matrix.files, wrong]}))
    pin = house.pin(SPLIT)
    cuts = own_cuts(cells, cell(cells, "hopper", SPLIT), [pin])
    site = house.site_packages(pin, cuts[NAME], "image")
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(site))
    left_out = [
        {"package": NAME, "rule": one.rule, "drop": one.drop, "keep": one.keep} for one in cuts[NAME].left_out
    ]
    with pytest.raises(AssertionError) as caught:
        libraries.check({"left_out": left_out})
    for user in ("libnvinfer_plugin.so.10", "libnvonnxparser.so.10"):
        assert (
            f"tensorrt_libs/{user} needs libnvinfer.so.10, which the image does not have: "
            f"the file rule too-much leaves tensorrt_libs/libnvinfer.so.* of {NAME} out"
        ) in str(caught.value)
