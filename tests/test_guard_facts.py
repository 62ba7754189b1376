"""What the guard knows of an image, and that it is what the image's labels say."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.base_factory import FITTING, cells_with_base
from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from trtforge.cells import Cell
from trtforge.dockerfile import read_dockerfile
from trtforge.guard_facts import guard_facts
from trtforge.project import Project
from trtforge.recipe import Recipe, Recipes

if TYPE_CHECKING:
    from trtforge.cells import Cells


def cell_of(cells: Cells, **request: str) -> Cell:
    cell = cells.first({"tensorrt": "rtx", "cuda": "12.1", "arch": "ampere"} | request)
    assert cell is not None
    return cell


@lru_cache(maxsize=1)
def ours(cells: Cells) -> Recipes:
    return Recipes(PROJECT, cells)


def labels(recipe: Recipe | None) -> dict[str, str]:
    """All labels of the recipe's image, inherited ones too."""
    if recipe is None:
        return {}
    own = [one.pairs({}) for one in read_dockerfile(recipe.dockerfile) if one.name == "LABEL"]
    return labels(recipe.parent) | {name: value for pairs in own for name, value in pairs.items()}


def entrypoint(recipe: Recipe | None) -> list[str]:
    if recipe is None:
        return []
    own = [one.argv() for one in read_dockerfile(recipe.dockerfile) if one.name == "ENTRYPOINT"]
    return own[-1] if own else entrypoint(recipe.parent)


def inside(recipe: Recipe) -> dict[str, Any]:
    return dict(json.loads(recipe.files["opt/trtforge/image.json"]))


def assert_equal_to_labels(recipe: Recipe) -> None:
    facts = inside(recipe)
    said = {
        "org.opencontainers.image.version": facts["ref"].rpartition(":")[2],
        "io.trtforge.image": facts["image"],
        "io.trtforge.cuda": facts["cuda"],
        "io.trtforge.driver": facts["driver"],
    }
    if facts["image"] != "pytorch-cuda":
        said |= {f"io.trtforge.{name}": facts[name] for name in ("arch", "flavour")}
        said["io.trtforge.sm"] = ",".join(facts["sm"])
    assert said == {name: value for name, value in labels(recipe).items() if name in said}
    assert facts["ref"] in recipe.refs
    assert json.loads(recipe.files["opt/smoke/expected.json"])["guard"] == facts


def test_they_are_what_the_labels_say(cells: Cells) -> None:
    """Of every image of every locked cell."""
    lock = Project(PROJECT).read_lock(fresh=False)
    locked = [Cell(**one.axes) for one in lock.cells.values() if one.state == "locked"]
    assert len({cell.arch for cell in locked}) > 3
    recipes = {recipe.key: recipe for cell in locked for recipe in ours(cells).chain(cell, lock)}
    for recipe in recipes.values():
        if recipe.image != "os":  # which is for no GPU
            assert_equal_to_labels(recipe)
            assert entrypoint(recipe) == ["/usr/bin/tini", "--", "/opt/trtforge/guard"]
            assert "opt/trtforge/guard" in recipe.files


def test_they_are_what_the_labels_say_on_a_base_of_the_user_s(cells: Cells) -> None:
    with_base = cells_with_base(cells.matrix)
    cell = with_base.first({"os": "acme-torch", "tensorrt": "rtx", "variant": "runtime"})
    assert cell is not None
    lock = lock_of(with_base, cell).model_copy(update={"bases": {"acme-torch": FITTING}})
    (recipe,) = Recipes(PROJECT, with_base).chain(cell, lock)
    assert_equal_to_labels(recipe)


def test_each_architecture_s_image_is_known_by_what_it_is_for(cells: Cells) -> None:
    facts = guard_facts(cells, cell_of(cells), "tensorrt")
    assert facts["for_sm"] == {
        "70": "trtforge/tensorrt:cu12.1-volta",
        "75": "trtforge/tensorrt:cu12.1-turing",
        "89": "trtforge/tensorrt:cu12.1-ada",
        "90": "trtforge/tensorrt:cu12.1-hopper",
        "100": "trtforge/tensorrt:cu12.8-blackwell",  # no CUDA 12.1 has a Blackwell
        "120": "trtforge/tensorrt:cu12.8-blackwell",
    }
    assert facts["for_driver"] == {"450": "trtforge/tensorrt:cu11.8-ampere"}


def test_what_it_names_is_for_what_it_says(cells: Cells) -> None:
    """Each image that a guard names holds the compute capability that it is named for."""
    axes = cells.matrix.axes
    asked = [
        {"cuda": cuda, "arch": arch, "tensorrt": one}
        for cuda in axes.cuda
        for arch in axes.arch
        for one in axes.tensorrt
    ]
    holds: dict[str, set[str]] = {}
    for cell in filter(None, map(cells.first, asked)):
        for tag in (cells.tag(cell), cells.short_tag(cell)):
            holds.setdefault(f"trtforge/tensorrt:{tag}", set()).update(cells.sm(cell))
    for arch in axes.arch:
        for_sm = guard_facts(cells, cell_of(cells, cuda="12.8", arch=arch, tensorrt="auto"), "tensorrt")[
            "for_sm"
        ]
        assert len(for_sm) >= len(axes.arch) - 1
        assert {sm for sm, ref in for_sm.items() if sm not in holds[ref]} == set()


def test_of_two_flavours_of_one_architecture_the_other_is_named_wholly(cells: Cells) -> None:
    facts = guard_facts(cells, cell_of(cells, cuda="12.8", arch="blackwell"), "tensorrt")
    assert facts["sm"] == ["120"]  # TensorRT-RTX builds nothing for a B200
    assert facts["for_sm"]["100"] == "trtforge/tensorrt:10.16.1.11-pt2.9.1-cu12.8-blackwell"


def test_other_variants_and_slim_ones_name_their_like(cells: Cells) -> None:
    serve = guard_facts(cells, cell_of(cells, variant="serve"), "serve")
    assert serve["for_sm"]["89"] == "trtforge/serve:cu12.1-ada"
    slim = guard_facts(cells, cell_of(cells, code="slim"), "tensorrt")
    assert (slim["slim"], slim["for_sm"]["89"]) == (True, "trtforge/tensorrt:cu12.1-ada-slim")


def test_an_image_that_several_cells_share_is_the_same_in_all(cells: Cells) -> None:
    """Else one tag would be two images."""

    def shared(**request: str) -> set[str]:
        axes = cells.matrix.axes
        found = [
            cells.first(request | {"arch": arch, "tensorrt": version})
            for arch in axes.arch
            for version in axes.tensorrt
        ]
        facts = [guard_facts(cells, cell, "pytorch-cuda") for cell in found if cell]
        assert len(facts) > 4
        return {json.dumps(one, sort_keys=True) for one in facts}

    assert len(shared(cuda="12.8")) == 1
    assert len(shared(cuda="13.0")) == 1
    refs = {json.loads(one)["ref"] for one in shared(cuda="12.8", code="slim")}
    assert len(shared(cuda="12.8", code="slim")) == len(refs) > 1


def test_torch_that_holds_all_code_asks_for_no_architecture(cells: Cells) -> None:
    facts = guard_facts(cells, cell_of(cells), "pytorch-cuda")
    assert (facts["sm"], facts["for_sm"], facts["driver"]) == ([], {}, "525")
    slim = guard_facts(cells, cell_of(cells, code="slim"), "pytorch-cuda")
    assert (slim["sm"], slim["arch"]) == (["80", "86"], "ampere")
    assert slim["for_sm"]["75"] == "trtforge/pytorch-cuda:2.9.1-cu12.1-debian12-turing-slim"
