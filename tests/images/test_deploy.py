"""The image that runs engines from a program of one's own: no torch, and the least of TensorRT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.base_factory import cells_with_base
from tests.conftest import PROJECT
from tests.lock_factory import PYTHON3, lock_of, pin
from tests.test_locking import Indexes, pick, run
from trtforge.availability import Availability
from trtforge.dockerfile import read_dockerfile
from trtforge.errors import CompatibilityError
from trtforge.image import check_followable
from trtforge.index.uv import Sources
from trtforge.layers.sources import LinksSource
from trtforge.lock import Lock, LockedCell
from trtforge.recipe import Recipes

if TYPE_CHECKING:
    from trtforge.cells import Cells
    from trtforge.matrix import Matrix


def test_rtx_is_small_as_it_is_so_the_image_has_all_of_it_and_no_torch(cells: Cells) -> None:
    cell = pick(cells, cuda="12.1", tensorrt="rtx", variant="deploy")
    system, image = Recipes(PROJECT, cells).chain(cell, lock_of(cells, cell))
    assert image.parent == system
    assert image.refs == ("trtforge/deploy:rtx1.7.1.116-cu12.1-ampere", "trtforge/deploy:cu12.1-ampere")
    pins = {one.name for source in image.sources.values() for one in source.pins}
    assert {"tensorrt-rtx-cu12-libs", "trtkit"} <= pins
    assert not any("torch" in name for name in pins)
    assert "opt/trtforge/deploy/health.py" in image.files
    check_followable(image.dockerfile)
    said = {one.name: one for one in read_dockerfile(image.dockerfile)}
    assert said["HEALTHCHECK"].health_check()["Test"] == ["CMD", "python", "/opt/trtforge/deploy/health.py"]
    assert said["USER"].value == "1000:1000"
    assert "EXPOSE" not in said


def test_of_the_full_library_it_has_the_lean_runtime_and_the_cuda_library(cells: Cells) -> None:
    cell = pick(cells, cuda="12.8", arch="hopper", tensorrt="full", variant="deploy")
    assert cells.library(cell).module == "tensorrt_lean"
    names = (
        "tensorrt-lean-cu12-libs",
        "tensorrt-lean-cu12-bindings",
        "tensorrt-lean-cu12",
        "nvidia-cuda-runtime-cu12",
    )
    pins = {name: pin(name, cell.tensorrt, 5, digit) for name, digit in zip(names, "bcde", strict=True)}
    lock = Lock(
        inputs="x",
        os={"debian12": (PYTHON3,)},
        sets={"all": tuple(one.filename for one in pins.values())},
        wheels={one.filename: one for one in pins.values()},
        cells={
            cells.name(cell): LockedCell(axes=cell.axes(), state="locked", tensorrt="all", image="deploy")
        },
    )
    *_, image = Recipes(PROJECT, cells).chain(cell, lock)
    links = [(one.pin.name, one.folder) for one in image.sources.values() if isinstance(one, LinksSource)]
    assert links == [(names[0], "tensorrt_lean_libs"), (names[3], "nvidia/cuda_runtime/lib")]
    told = json.loads(image.files["opt/smoke/expected.json"])["tensorrt"]
    assert (told["flavour"], told["module"], told["libs"]) == ("full", "tensorrt_lean", names[0])


def test_other_variants_have_the_whole_library(cells: Cells) -> None:
    for variant in ("runtime", "devel", "jupyter", "ssh", "serve"):
        cell = pick(cells, cuda="12.8", arch="hopper", tensorrt="full", variant=variant)
        assert cells.library(cell).module == "tensorrt"


def test_the_lean_packages_are_locked_in_the_version_of_the_whole(cells: Cells) -> None:
    indexes = Indexes()
    cell = pick(cells, cuda="12.8", arch="hopper", tensorrt="full", variant="deploy")
    lock = run(cells, indexes, cell)
    version = cell.tensorrt
    assert indexes.asked[0][:3] == [
        (f"tensorrt-lean-cu12-libs=={version}", "nvidia", True),
        (f"tensorrt-lean-cu12-bindings=={version}", "default", True),
        (f"tensorrt-lean-cu12=={version}", "default", False),
    ]
    (locked,) = lock.cells.values()
    assert locked.tensorrt == f"tensorrt-lean-cu12-{version}-for-deploy-py3.11"


def test_where_nvidia_s_index_is_silent_the_cell_is_unlocked_and_says_so(cells: Cells) -> None:
    cell = pick(cells, cuda="12.8", arch="hopper", tensorrt="full", variant="deploy")
    (locked,) = run(cells, Indexes(down="nvidia"), cell).cells.values()
    assert (locked.state, "nvidia" in locked.reason) == ("unlocked", True)


def test_it_is_the_lean_library_whose_index_is_asked(cells: Cells) -> None:
    asked = []

    def answers(url: str, _patience: float, _sources: Sources) -> str | None:
        asked.append(url)
        return None

    sources = Sources(indexes=cells.matrix.indexes)
    for variant in ("deploy", "serve"):
        cell = pick(cells, cuda="12.8", arch="hopper", tensorrt="full", variant=variant)
        assert Availability(cells, Lock(inputs="x"), sources, answers)(cell) is None
    assert [url.rstrip("/").rpartition("/")[2] for url in asked] == [
        "tensorrt-lean-cu12-libs",
        "tensorrt-cu12-libs",
    ]


def test_it_needs_an_os_of_ours_and_has_nothing_to_slim(matrix: Matrix, cells: Cells) -> None:
    with pytest.raises(CompatibilityError) as caught:
        cells_with_base(matrix).choose({"os": ("acme-torch",), "variant": ("deploy",)})
    assert caught.value.rule == "no-torch-on-an-os-of-ours"
    with pytest.raises(CompatibilityError) as slim:
        cells.choose({"code": ("slim",), "variant": ("deploy",)})
    assert slim.value.rule == "slim-is-of-torch"
