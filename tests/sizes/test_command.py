"""What `size` and `build` say of sizes and budgets: real images in a store, of layers with one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.lock_factory import lock_of
from tests.store_factory import finish_images
from tests.test_cli import root, type_  # noqa: F401 (fixtures)
from trtforge.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.test_cli import Said
    from trtforge.image import Image

CELL = "--cuda 12.1 --arch ampere --tensorrt rtx"
TURING = "--cuda 12.1 --arch turing --tensorrt rtx"
NAME = "rtx1.7.1.116-pt2.9.1-cu12.1-ampere"


@pytest.fixture
def image(root: Path) -> Image:  # noqa: F811
    """The image of `CELL`, built; that of `TURING` is locked and is not."""
    project = Project(root)
    cells = [
        choice.cell
        for choice in project.cells.choose(
            {"cuda": ("12.1",), "arch": ("ampere", "turing"), "tensorrt": ("rtx",)}
        )
    ]
    lock = lock_of(project.cells, *cells, inputs=project.inputs)
    project.write_lock(lock)
    return finish_images(project.recipes.chain(cells[0], lock), project.store)[-1]


def with_budget(root: Path, compressed: str) -> None:  # noqa: F811
    """Let the image os have no more."""
    file = root / "matrix.yaml"
    file.write_text(file.read_text().replace("os: {compressed: 60 MB", f"os: {{compressed: {compressed}"))


def test_an_images_packages_are_told_and_add_up(type_: Callable[[str], Said], image: Image) -> None:  # noqa: F811
    said = type_(f"size {CELL}")
    assert (said.code, said.err) == (0, "")
    assert f"trtforge/tensorrt:{NAME}" in said.out
    assert "no published image to compare with" in said.out
    assert "left)" in said.out
    (answer,) = type_(f"size {CELL} --json").answer
    assert (answer["cell"], answer["built"], answer["over_budget"]) == (NAME, True, [])
    for kind, whole in (("compressed", image.size), ("on_disk", image.unpacked)):
        assert answer[kind] == whole
        assert sum(one[kind] for one in answer["packages"]) == whole
        assert sum(one[kind] for one in answer["layers"]) == whole


def test_without_selectors_every_locked_cell_is_told(type_: Callable[[str], Said], image: Image) -> None:  # noqa: F811
    assert image
    said = type_("size --json")
    assert {one["cell"]: one["built"] for one in said.answer} == {
        NAME: True,
        NAME.replace("ampere", "turing"): False,
    }
    assert f"not built: {NAME.replace('ampere', 'turing')}" in type_("size").out


def test_what_is_not_built_cannot_be_measured(type_: Callable[[str], Said], image: Image) -> None:  # noqa: F811
    assert image
    said = type_(f"size {TURING}")
    assert said.code == 2
    assert "none of these images is in the store" in said.err
    assert "next" in said.err
    assert "none of these images" in type_(f"size {TURING} --json").answer["error"]


@pytest.mark.parametrize("suffix", ["svg", "html"])
def test_an_image_is_drawn(
    suffix: str,
    type_: Callable[[str], Said],  # noqa: F811
    image: Image,
    tmp_path: Path,
) -> None:
    assert image
    for number in (1, 2):
        assert type_(f"size {CELL} --treemap {tmp_path}/{number}.{suffix}").code == 0
    first, second = ((tmp_path / f"{number}.{suffix}").read_text() for number in (1, 2))
    assert first == second
    assert "trtforge/tensorrt:cu12.1-ampere" in first
    if suffix == "svg":
        assert ElementTree.fromstring(first).tag.endswith("svg")


@pytest.mark.parametrize(("name", "selectors"), [("map.png", CELL), ("map.svg", TURING)])
def test_what_cannot_be_drawn_is_told(
    name: str,
    selectors: str,
    type_: Callable[[str], Said],  # noqa: F811
    image: Image,
    tmp_path: Path,
) -> None:
    assert image
    said = type_(f"size {selectors} --treemap {tmp_path}/{name}")
    assert said.code == 2
    assert f"--treemap cannot draw {name}" in said.err or "none of these images" in said.err
    assert not (tmp_path / name).exists()


def test_a_build_over_budget_fails_and_keeps_the_image(
    type_: Callable[[str], Said],  # noqa: F811
    root: Path,  # noqa: F811
    image: Image,
) -> None:
    assert type_(f"{CELL} --no-load").code == 0
    with_budget(root, "1 B")
    said = type_(f"{CELL} --no-load")
    assert said.code == 1
    assert "error: trtforge/os:debian12 is over its budget by" in said.err
    assert "no published image to compare with" in said.err
    assert "largest" in said.out
    assert Project(root).store.blob(image.digest).exists()
    (cell,) = type_(f"{CELL} --no-load --json").answer
    assert cell[-1]["digest"] == image.digest
    assert "over its budget" in cell[-1]["sizes"]["over_budget"][0]
    with_budget_again = (
        (root / "matrix.yaml").read_text().replace("os: {compressed: 1 B", "os: {compressed: 60 MB")
    )
    (root / "matrix.yaml").write_text(with_budget_again)
    assert type_(f"{CELL} --no-load").code == 0


def test_a_budget_of_zero_is_a_wrong_request(type_: Callable[[str], Said], root: Path) -> None:  # noqa: F811
    with_budget(root, "0 MB")
    said = type_(f"plan {CELL}")
    assert said.code == 2
    assert "budgets.os" in said.err
    assert "above zero" in said.err
