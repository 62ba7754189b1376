"""An image over its budget is staged, and not published."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.memory_registry import MemoryNamespace
from tests.published_factory import Publisher, changed
from trtforge.cells import Cells
from trtforge.errors import OverBudget
from trtforge.policy import Budget
from trtforge.production.staged import staging_tag
from trtforge.progress import Silent
from trtforge.publishing.catalogue import read_catalogue
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.matrix import Matrix
    from trtforge.registry.namespace import Namespace

TIGHT = Budget(compressed="1 B", on_disk="1 GB")  # type: ignore[arg-type]


@pytest.fixture
def publisher(tmp_path: Path, cells: Cells) -> Publisher:
    return Publisher(cells, Store(tmp_path / "store"), cast("Namespace", MemoryNamespace()))


def over(publisher: Publisher, matrix: Matrix, image: str) -> Publisher:
    """The same, where `image` may have next to nothing."""
    tight = matrix.model_copy(update={"budgets": {**matrix.budgets, image: [TIGHT]}})
    return Publisher(Cells(tight), publisher.store, publisher.namespace)


@pytest.mark.parametrize("image", ["os", "pytorch-cuda", "tensorrt"])
def test_no_tag_moves_to_an_image_over_its_budget(image: str, publisher: Publisher, matrix: Matrix) -> None:
    before = publisher.promote(publisher.make())
    tight = over(publisher, matrix, image)
    staged = tight.make(changed(tight.lock, "onnx", "f"))
    with pytest.raises(OverBudget) as caught:
        tight.promote(staged)
    error = caught.value
    assert error.image.startswith(f"trtforge/{image}:")
    assert list(error.over) == ["compressed"]
    assert (error.fact("grew") or "").startswith(f"since {image}:")
    assert publisher.leads_to(before[-1].tags[0]) == before[-1].digest
    assert read_catalogue(publisher.namespace, Silent()).entries == tuple(before)
    assert publisher.leads_to(staging_tag(staged[-1].image.digest)) == staged[-1].image.digest


def test_with_a_larger_budget_the_staged_image_is_published(publisher: Publisher, matrix: Matrix) -> None:
    tight = over(publisher, matrix, "tensorrt")
    staged = tight.make()
    with pytest.raises(OverBudget) as caught:
        tight.promote(staged)
    assert caught.value.fact("grew") == "no published image to compare with"
    (*_, top) = publisher.promote(staged)
    assert publisher.leads_to(top.tags[0]) == staged[-1].image.digest


def test_an_entry_tells_the_sizes_of_the_layers_that_its_image_adds(publisher: Publisher) -> None:
    staged = publisher.make()
    entries = publisher.promote(staged)
    assert {"torch", "bytecode"} <= entries[1].layers.keys()
    assert "torch" not in entries[2].layers
    for kind, whole in ((0, staged[-1].image.size), (1, staged[-1].image.unpacked)):
        assert sum(sizes[kind] for entry in entries for sizes in entry.layers.values()) == whole
