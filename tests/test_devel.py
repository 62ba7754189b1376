"""The variant that compiles: its image upon the cell's own, its packages, its CUDA toolkit, its locks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.base_factory import cells_with_base
from tests.conftest import PROJECT
from tests.lock_factory import PYTHON3, lock_of, pin
from tests.test_locking import Indexes, pick
from tests.test_recipe import on_a_registry_image
from trtforge.dockerfile import read_dockerfile
from trtforge.errors import CompatibilityError, EnvironmentLack, MatrixError
from trtforge.image import check_followable
from trtforge.index.uv import Sources
from trtforge.layers.sources import LinksSource, PackagesSource, ToolkitSource, WheelSource
from trtforge.locking import Locking
from trtforge.matrix import load_matrix
from trtforge.progress import Silent
from trtforge.publishing.catalogue import IMAGES
from trtforge.publishing.facts import facts_of
from trtforge.recipe import Recipes
from trtforge.system.apt import FlatRepository, sources_of
from trtforge.system.os_packages import OsPackage, OsSuite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.cells import Cell, Cells
    from trtforge.lock import Lock
    from trtforge.matrix import Matrix
    from trtforge.recipe import Recipe


def package(name: str, version: str, digit: str) -> OsPackage:
    return OsPackage(
        name=name, version=version, filename=f"{name}_{version}_amd64.deb", sha256=digit * 64, size=1
    )


GCC, NVCC = package("gcc", "12.2", "b"), package("nvidia-cuda-toolkit", "12.4.131", "c")
CMAKE, HEADERS = pin("cmake", "4.4", 30_000_000, "c"), pin("nvidia-cuda-runtime-cu12", "12.4.127", 900, "d")
RUNTIME = pin("nvidia-cuda-runtime-cu12", "12.8.90", 900, "e").model_copy(
    update={"filename": "nvidia_cuda_runtime_cu12-12.8.90-py3-none-any.whl"}
)


def devel(cells: Cells, **request: str) -> Cell:
    return pick(cells, **{"cuda": "12.4", "tensorrt": "rtx", "variant": "devel", **request})


def lock_with(cells: Cells, cell: Cell) -> Lock:
    """The lock of the factory, with what such a cell needs besides."""
    lock = lock_of(cells, cell)
    locked = lock.cells[cells.name(cell)].model_copy(
        update={"added": "added", "packages": "packages", "toolkit": "toolkit"}
    )
    return lock.model_copy(
        update={
            "packages": {"packages": (GCC,), "toolkit": (NVCC,)},
            "sets": lock.sets
            | {"base": (*lock.sets["base"], RUNTIME.filename)}
            | {"added": (CMAKE.filename,), "toolkit": (HEADERS.filename,)},
            "wheels": lock.wheels | {one.filename: one for one in (CMAKE, HEADERS, RUNTIME)},
            "cells": {cells.name(cell): locked},
        }
    )


def chain(cells: Cells, **request: str) -> Sequence[Recipe]:
    cell = devel(cells, **request)
    return Recipes(PROJECT, cells).chain(cell, lock_with(cells, cell))


# The chain


def test_it_stands_on_the_very_image_that_the_same_cell_runs_with(cells: Cells) -> None:
    *below, image = chain(cells)
    runtime = devel(cells, variant="runtime")
    lock = lock_with(cells, devel(cells))
    own = lock_of(cells, runtime).cells
    assert tuple(below) == Recipes(PROJECT, cells).chain(runtime, lock.model_copy(update={"cells": own}))
    assert [one.image for one in below] == ["os", "pytorch-cuda", "tensorrt"]
    assert image.parent == below[-1]
    assert image.refs == ("trtforge/devel:rtx1.7.1.116-pt2.9.1-cu12.4-ampere", "trtforge/devel:cu12.4-ampere")


def test_it_adds_packages_a_toolkit_and_wheels(cells: Cells) -> None:
    *_, image = chain(cells)
    by_kind = {type(source): source for source in image.sources.values()}
    packages, toolkit, links = by_kind[PackagesSource], by_kind[ToolkitSource], by_kind[LinksSource]
    assert isinstance(packages, PackagesSource)
    assert packages.packages == (GCC,)
    assert packages.system.packages == (PYTHON3,)
    assert isinstance(toolkit, ToolkitSource)
    assert (toolkit.packages, toolkit.pins) == ((NVCC,), (HEADERS,))
    assert (toolkit.parts.home, toolkit.parts.gcc) == ("/usr/local/cuda-12.4", "12")
    assert isinstance(links, LinksSource)
    assert links.pin == RUNTIME  # programs load torch's library, not the older one of the toolkit
    assert CMAKE in {
        one for source in image.sources.values() if isinstance(source, WheelSource) for one in source.pins
    }


def test_its_tests_are_those_below_and_of_what_it_adds(cells: Cells) -> None:
    *_, below, image = chain(cells)
    before, after = (json.loads(one.files["opt/smoke/expected.json"]) for one in (below, image))
    assert after["image"] == "devel"
    assert after["toolkit"] == {"cuda": "12.4", "home": "/usr/local/cuda-12.4"}
    assert after["packages"] == before["packages"] | {"cmake": "4.4"}
    assert (after["torch"], after["sm"], after["projects"]) == (
        before["torch"],
        before["sm"],
        before["projects"],
    )


def test_its_dockerfile_says_where_the_compiler_is(cells: Cells) -> None:
    *_, image = chain(cells)
    check_followable(image.dockerfile)
    said = {one.name: one for one in read_dockerfile(image.dockerfile)}
    assert said["HEALTHCHECK"].health_check()["Test"] == ["CMD", "nvcc", "--version"]
    assert 'CUDA_HOME="/usr/local/cuda-12.4"' in image.dockerfile
    assert "/opt/venv/bin:/usr/local/cuda-12.4/bin:" in image.dockerfile
    assert "USER" not in said  # the one of the image below, who is not root


def test_the_catalogue_knows_all_that_it_adds(cells: Cells) -> None:
    cell = devel(cells)
    made = chain(cells)
    facts = facts_of(cell, made, cells)[made[-1].key]
    assert facts.axes["variant"] == "devel"
    assert {"gcc", "nvidia-cuda-toolkit", "cmake", "nvidia-cuda-runtime-cu12"} <= facts.packages.keys()


def test_the_catalogue_looks_in_the_repository_of_every_image(matrix: Matrix) -> None:
    assert {"os", "pytorch-cuda", *matrix.images.last()} <= {*IMAGES}


# Which cells


@pytest.mark.parametrize(
    ("cuda", "system", "gcc"),
    [
        ("12.4", "debian12", "12"),
        ("12.4", "debian13", "13"),
        ("11.8", "debian12", "11"),
        ("13.0", "debian13", "14"),
    ],
)
def test_the_compiler_is_one_that_both_the_system_and_nvcc_know(
    cells: Cells, cuda: str, system: str, gcc: str
) -> None:
    cell = pick(cells, cuda=cuda, os=system, variant="devel")
    assert cells.facts(cell)["gcc"] == gcc
    assert f"g++-{gcc}" in cells.added(cell).packages
    assert cells.packages_name(cell) == f"devel-on-{system}-gcc{gcc}"


def test_every_cuda_has_a_toolkit_whose_compiler_knows_it(matrix: Matrix) -> None:
    assert matrix.toolkits.keys() == matrix.axes.cuda.keys()
    for cuda, toolkit in matrix.toolkits.items():
        named = [*toolkit.packages, *toolkit.wheels]
        assert any("nvcc" in one or "toolkit" in one for one in named), cuda
        assert bool(toolkit.packages) == (toolkit.of is not None)


def test_it_needs_an_os_of_packages(matrix: Matrix, cells: Cells) -> None:
    with_row, cell = on_a_registry_image(cells)
    for system, where in ((cell.os, with_row), ("acme-torch", cells_with_base(matrix))):
        with pytest.raises(CompatibilityError) as caught:
            where.choose({"os": (system,), "variant": ("devel",)})
        assert caught.value.rule == "packages-need-an-os-of-ours"


def test_an_image_that_compiles_needs_a_toolkit_for_each_cuda(tmp_path: Path) -> None:
    text = (PROJECT / "matrix.yaml").read_text(encoding="utf-8")
    (tmp_path / "matrix.yaml").write_text(
        text.replace('  "12.4":\n    gcc', '  "12.5":\n    gcc'), encoding="utf-8"
    )
    with pytest.raises(MatrixError) as refused:
        load_matrix(tmp_path / "matrix.yaml")
    assert "images: devel: there is no toolkit for CUDA 12.4" in (refused.value.fact("at") or "")


# Locking


class Archives(Indexes):
    """`Indexes`, whose apt answers with what it was asked for."""

    def __init__(self, down: str = "") -> None:
        super().__init__()
        self.unreachable, self.resolved = down, list[tuple[str, tuple[str, ...], bool]]()

    def packages(
        self, suite: OsSuite, names: Sequence[str], held: Sequence[OsPackage] = ()
    ) -> tuple[OsPackage, ...]:
        self.resolved.append((suite.title, tuple(names), bool(held)))
        return (PYTHON3, *(package(name, "1", "b") for name in names if held))

    def alone(self, origin: OsSuite | FlatRepository, names: Sequence[str]) -> tuple[OsPackage, ...]:
        if self.unreachable and self.unreachable in origin.title:
            raise EnvironmentLack(f"no packages of {origin.title} from its mirror")
        self.resolved.append((origin.title, tuple(names), False))
        return tuple(package(name, "1", "c") for name in names)


def lock(cells: Cells, archives: Archives, *wanted: Cell, old: Lock | None = None, **how: Any) -> Lock:
    run = Locking(
        cells,
        old or lock_of(cells).model_copy(update={"cells": {}}),
        Sources(cells.matrix.indexes, None),
        Silent(),
        bring=lambda reference: pytest.fail(reference),
        wheels=archives.wheels,
        packages=archives.packages,
        alone=archives.alone,
        **how,
    )
    return run.lock(wanted, "inputs")


def test_a_cell_is_locked_upon_the_sets_of_the_one_that_runs(cells: Cells) -> None:
    archives = Archives()
    cell, runtime = devel(cells), devel(cells, variant="runtime")
    made = lock(cells, archives, cell, runtime)
    locked, below = made.cells[cells.name(cell)], made.cells[cells.name(runtime)]
    assert (locked.base, locked.tensorrt, locked.image) == (below.base, below.tensorrt, "tensorrt")
    assert (below.upon, below.added, below.packages, below.toolkit) == ("", "", "", "")
    assert (locked.upon, locked.packages, locked.toolkit) == (
        "devel",
        "devel-on-debian12-gcc12",
        "toolkit-12.4",
    )
    assert {one.name for one in made.pins(locked.added)} == {"cmake", "ninja", "setuptools"}
    assert not {one.name for one in made.packages[locked.packages]} & {"python3"}
    assert [title for title, *_ in archives.resolved] == [
        "debian bookworm",
        "debian bookworm",
        "debian trixie",
    ]
    assert archives.resolved[1][2]  # the packages come to the locked system, which stays
    assert {one.name for one in made.pins("toolkit-12.4")} == {
        "nvidia-cuda-nvcc-cu12",
        "nvidia-cuda-runtime-cu12",
        "nvidia-cuda-cccl-cu12",
    }
    assert made.pruned() == made


def test_what_both_need_is_asked_for_once(cells: Cells) -> None:
    archives = Archives()
    lock(cells, archives, devel(cells), devel(cells, arch="turing"))
    assert len(archives.resolved) == 3
    assert len(archives.asked) == 4  # the base, TensorRT, what devel adds, the toolkit


def test_a_repository_that_is_not_reached_leaves_its_cells_unlocked_and_says_why(cells: Cells) -> None:
    archives = Archives(down="developer.download.nvidia.com")
    reached, not_reached = devel(cells), devel(cells, cuda="12.8")
    made = lock(cells, archives, reached, not_reached)
    assert made.cells[cells.name(reached)].state == "locked"
    locked = made.cells[cells.name(not_reached)]
    assert locked.state == "unlocked"
    assert "developer.download.nvidia.com" in locked.reason


def test_what_is_to_stay_is_not_asked_for_again(cells: Cells) -> None:
    cell = devel(cells)
    old = lock(cells, Archives(), cell)
    archives = Archives()
    stay = (*old.sets, *old.os, *old.packages)
    assert lock(cells, archives, cell, old=old, stay=stay) == old
    assert archives.resolved == []


def test_a_repository_without_suites_is_one_line() -> None:
    flat = FlatRepository("https://example.org/cuda", "/keys.gpg")
    assert sources_of(flat, flat.address) == "deb [signed-by=/keys.gpg] https://example.org/cuda /\n"
