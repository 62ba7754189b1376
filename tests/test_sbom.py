"""The bill of materials: all that layers are made from, and what of it an image has not as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.base_factory import FITTING, REFERENCE, cells_with_base
from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.test_cli import root, type_  # noqa: F401 (fixtures)
from tests.test_recipe import on_a_registry_image
from trtforge.cell_cuts import globs
from trtforge.cells import Cell
from trtforge.left_out import cuts_of
from trtforge.lock import Lock, read_lock
from trtforge.recipe import Recipes
from trtforge.sbom import sbom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.test_cli import Said
    from trtforge.cells import Cells
    from trtforge.lock import LockedCell
    from trtforge.matrix import Matrix
    from trtforge.system.os_packages import OsPackage

OWN = ("trtkit",)

VARIANTS = ("runtime", "slim", "devel", "jupyter", "ssh", "serve", "deploy")


@pytest.fixture(scope="module")
def lock() -> Lock:
    """matrix.lock itself: real packages."""
    return read_lock(PROJECT / "matrix.lock", None)


@pytest.fixture(scope="module")
def recipes(cells: Cells) -> Recipes:
    return Recipes(PROJECT, cells)


def locked_cell(lock: Lock, kind: str) -> Cell:
    """A locked cell of a variant, or the slim one."""
    wanted = {"code": "slim", "variant": "runtime"} if kind == "slim" else {"code": "all", "variant": kind}
    return next(
        Cell(**one.axes)
        for one in lock.cells.values()
        if one.state == "locked" and wanted.items() <= one.axes.items()
    )


def told(bill: str) -> dict[str, dict[str, Any]]:
    """The components by name; those of Debian by deb:name."""
    return {
        f"deb:{one['name']}" if one.get("purl", "").startswith("pkg:deb") else one["name"]: one
        for one in json.loads(bill)["components"]
    }


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in component.get("properties", ())}


def hash_of(component: dict[str, Any]) -> str:
    """Of the file that it is, or was made from."""
    (first,) = component.get("hashes") or component["pedigree"]["ancestors"][0]["hashes"]
    assert first["alg"] == "SHA-256"
    return str(first["content"])


def _packages(lock: Lock, locked: LockedCell) -> list[OsPackage]:
    """The Debian packages that a cell adds to its operating system."""
    return [one for name in (locked.packages, locked.toolkit) for one in lock.packages.get(name, ())]


@pytest.mark.parametrize("kind", VARIANTS)
def test_it_names_every_file_that_an_image_is_made_from(
    cells: Cells, recipes: Recipes, lock: Lock, kind: str
) -> None:
    cell = locked_cell(lock, kind)
    bill = sbom(recipes.chain(cell, lock), OWN)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    locked = lock.cells[cells.name(cell)]
    pins, cuts = cuts_of(cells, cell, lock)
    debs = [*lock.os[cell.os], *_packages(lock, locked)]
    toolkit = lock.pins(locked.toolkit) if locked.toolkit in lock.sets else ()
    hashes = [hash_of(one) for one in json.loads(bill)["components"] if one["name"] not in OWN]
    assert sorted(hashes) == sorted(
        [*(one.sha256 for one in (*pins, *toolkit)), *(one.sha256 for one in debs)]
    )
    components = told(bill)
    left_out = {
        name: tuple(
            glob
            for key, value in properties(one).items()
            if key.startswith("trtforge:left-out:")
            for part, mark in zip(value.split(", but for "), ("", "!"), strict=False)
            for glob in (f"{mark}{text}" for text in part.split(", "))
        )
        for name, one in components.items()
    }
    assert {name: set(found) for name, found in left_out.items() if found} == {
        name: set(wanted) for name, wanted in globs(cuts).items()
    }


def test_a_file_that_was_changed_is_an_ancestor(recipes: Recipes, lock: Lock) -> None:
    components = told(sbom(recipes.chain(locked_cell(lock, "slim"), lock), OWN))
    torch, tensorrt = components["torch"], components["tensorrt-rtx-cu12-libs"]
    assert "hashes" not in torch
    (ancestor,) = torch["pedigree"]["ancestors"]
    assert ancestor["purl"] == torch["purl"] == "pkg:pypi/torch@2.9.1"
    assert properties(torch)["trtforge:slimmed"].startswith("torch/lib/libtorch_cuda.so, ")
    assert properties(torch)["trtforge:slimmed"].endswith("GPU code of SM 89")
    assert "pedigree" not in tensorrt
    assert properties(tensorrt)["trtforge:image"] == "tensorrt"


def test_what_devel_gives_back_is_not_left_out(recipes: Recipes, lock: Lock) -> None:
    def headers(kind: str) -> bool:
        components = told(sbom(recipes.chain(locked_cell(lock, kind), lock), OWN))
        return "trtforge:left-out:torch-headers" in properties(components["torch"])

    assert (headers("runtime"), headers("devel")) == (True, False)


def test_where_packages_come_from_is_in_their_urls(recipes: Recipes, lock: Lock) -> None:
    components = told(sbom(recipes.chain(locked_cell(lock, "devel"), lock), OWN))
    tini = components["deb:tini"]["purl"]
    assert tini.startswith("pkg:deb/debian/tini@")
    assert tini.endswith("?arch=amd64&distro=bookworm")
    assert components["trtkit"]["purl"].startswith("pkg:generic/trtkit@")
    nvcc = properties(components["deb:nvidia-cuda-toolkit"])
    assert nvcc["trtforge:only-for"].startswith("the CUDA toolkit in /usr/local/cuda-")


def test_it_is_the_same_every_time_and_names_the_image(recipes: Recipes, lock: Lock) -> None:
    chain = recipes.chain(locked_cell(lock, "runtime"), lock)
    assert sbom(chain, OWN) == sbom(chain, OWN)
    bill = json.loads(sbom(chain, OWN))
    subject = bill["metadata"]["component"]
    assert f"{subject['name']}:{subject['version']}" == chain[-1].ref
    assert properties(subject)["trtforge:recipe-key"] == chain[-1].key
    assert bill["serialNumber"] != json.loads(sbom(chain[:-1], OWN))["serialNumber"]
    everything = {one["ref"]: one for one in bill["dependencies"]}[subject["bom-ref"]]["dependsOn"]
    assert len(everything) == len(bill["components"])


def test_a_brought_base_is_told_as_far_as_it_is_known(matrix: Matrix) -> None:
    cells = cells_with_base(matrix)
    (choice,) = cells.choose({"os": ("acme-torch",), "tensorrt": ("rtx",), "arch": ("ampere",)})
    lock = lock_of(cells, choice.cell).model_copy(update={"bases": {"acme-torch": FITTING}})
    bill = sbom(Recipes(PROJECT, cells).chain(choice.cell, lock), OWN)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    components = told(bill)
    base = components[REFERENCE.partition("@")[0]]
    assert hash_of(base) == "a" * 64
    assert "by name and version" in properties(base)["trtforge:known-of-its-contents"]
    assert components["torch"]["version"] == "2.9.1+cu128"
    assert "hashes" not in components["torch"]


def test_of_a_system_from_a_registry_nothing_is_known(cells: Cells) -> None:
    with_row, cell = on_a_registry_image(cells)
    components = told(sbom(Recipes(PROJECT, with_row).chain(cell, lock_of(with_row, cell)), OWN))
    assert properties(components["registry.example/debian"])["trtforge:known-of-its-contents"] == "nothing"


# Typed


def test_it_is_printed_or_written(type_: Callable[[str], Said], root: Path) -> None:  # noqa: F811 (fixtures)
    printed = type_("sbom --cuda 12.1 --arch ampere --tensorrt rtx")
    assert printed.code == 0
    assert printed.answer["specVersion"] == "1.6"
    said = type_("sbom --cuda 12.1 --arch ampere --tensorrt rtx -o bill.cdx.json")
    assert (said.code, said.out) == (0, "written: bill.cdx.json\n")
    assert (root / "bill.cdx.json").read_text() == printed.out


def test_it_is_of_one_cell(type_: Callable[[str], Said]) -> None:  # noqa: F811
    said = type_("sbom --cuda 12.1 --arch ampere,ada --tensorrt rtx")
    assert said.code == 2
    assert "of one image, and these are 2 cells" in said.err
