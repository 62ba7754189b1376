from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from trtforge.publishing.facts import Facts, facts_of
from trtforge.recipe import Recipes

if TYPE_CHECKING:
    from trtforge.cells import Cells


def chain_facts(cells: Cells, **request: str) -> list[Facts]:
    (choice,) = cells.choose({axis: (value,) for axis, value in request.items()})
    chain = Recipes(PROJECT, cells).chain(choice.cell, lock_of(cells, choice.cell))
    facts = facts_of(choice.cell, chain, cells)
    return [facts[recipe.key] for recipe in chain]


def test_images_that_cells_share_have_the_axes_that_decide_them(cells: Cells) -> None:
    ampere = chain_facts(cells, cuda="12.1", arch="ampere", tensorrt="rtx")
    turing = chain_facts(cells, cuda="12.1", arch="turing", tensorrt="rtx")
    assert ampere[:2] == turing[:2]
    assert [sorted(facts.axes) for facts in ampere[:2]] == [
        ["os", "python"],
        ["build", "code", "cuda", "os", "python", "torch"],
    ]
    assert [facts.sm for facts in ampere] == [(), (), ("80", "86")]
    assert [bool(facts.driver) for facts in ampere] == [False, True, True]


def test_a_slim_base_is_of_an_architecture(cells: Cells) -> None:
    os, base, top = chain_facts(cells, cuda="12.1", arch="ampere", tensorrt="rtx", code="slim")
    assert "arch" not in os.axes
    assert (base.axes["arch"], base.axes["code"], base.sm) == ("ampere", "slim", ("80", "86"))
    assert top.axes["code"] == "slim"


def test_packages_are_those_that_the_image_adds(cells: Cells) -> None:
    os, base, top = chain_facts(cells, cuda="12.1", arch="ampere", tensorrt="rtx")
    assert os.packages == {"python3": "3.11.2"}
    assert base.packages["torch"] == "2.9.1"
    assert sorted(top.packages) == [
        "onnx",
        "tensorrt-rtx-cu12",
        "tensorrt-rtx-cu12-bindings",
        "tensorrt-rtx-cu12-libs",
        "trtkit",
    ]


def test_a_short_tag_belongs_to_the_cell_that_is_published_first(cells: Cells) -> None:
    """CUDA 12.8 for Ampere is published with TensorRT-RTX, and with the full TensorRT in a later row."""
    requests = [row.request() for row in cells.matrix.publish]
    owners = [choice.cell for request in requests for choice in cells.choose(request)]
    same = [
        cell
        for cell in owners
        if cells.short_tag(cell) == "cu12.8-ampere" and cells.variant(cell).image == "tensorrt"
    ]
    assert [cells.flavour(cell) for cell in same] == ["tensorrt-rtx", "tensorrt"]
    rtx = chain_facts(cells, cuda="12.8", arch="ampere", tensorrt="rtx")[-1]
    assert rtx.tags[1:] == ("cu12.8-ampere",)
    other = chain_facts(cells, cuda="12.8", arch="ampere", tensorrt="1.5.0.114")[-1]
    assert len(other.tags) == 1
    unpublished = chain_facts(cells, cuda="12.4", arch="ada", tensorrt="rtx")[-1]
    assert unpublished.tags[1:] == ("cu12.4-ada",)
