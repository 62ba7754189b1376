from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import BASE, TENSORRT, lock_of
from tests.store_factory import finish_images, make_layers
from trtforge.errors import EnvironmentLack
from trtforge.layers.sources import WheelSource
from trtforge.plan import check_disk, plan_image, wheels_needed
from trtforge.recipe import Recipe, Recipes
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.layers.sources import LayerSource
    from trtforge.plan import ImagePlan


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "store")


@pytest.fixture
def chain(cells: Cells) -> Sequence[Recipe]:
    (choice,) = cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",)})
    return Recipes(PROJECT, cells).chain(choice.cell, lock_of(cells, choice.cell))


def missing_of(plans: Iterable[ImagePlan]) -> list[LayerSource]:
    return [source for plan in plans for source in plan.missing]


def test_an_empty_store_has_everything_to_make(chain: Sequence[Recipe], store: Store) -> None:
    plans = [plan_image(recipe, store) for recipe in chain]
    assert [plan.action for plan in plans] == ["build"] * 3
    assert [len(plan.missing) for plan in plans] == [1, 7, 7]  # the last of them trtkit's
    assert plans[1].reason == "7 layers: 0 in the store, 7 to make"


def test_finished_images_are_reused(chain: Sequence[Recipe], store: Store) -> None:
    images = finish_images(chain, store)
    plans = [plan_image(recipe, store) for recipe in chain]
    assert [(plan.action, plan.image, plan.missing) for plan in plans] == [
        ("reuse", image, ()) for image in images
    ]
    assert missing_of(plans) == []


def test_layers_without_their_image_are_not_made_again(chain: Sequence[Recipe], store: Store) -> None:
    base = chain[1]
    first, *_ = base.sources.values()
    make_layers([first], store)
    plan = plan_image(base, store)
    assert (plan.action, len(plan.missing)) == ("build", 6)
    assert first not in plan.missing
    assert plan.reason == "7 layers: 1 in the store, 6 to make"


def test_an_image_whose_layer_was_cut_short_is_built(chain: Sequence[Recipe], store: Store) -> None:
    images = finish_images(chain, store)
    blob = store.blob(images[1].layers[1].digest)
    blob.write_bytes(blob.read_bytes()[:-1])
    assert [plan_image(recipe, store).action for recipe in chain] == ["reuse", "build", "build"]
    assert len(plan_image(chain[1], store).missing) == 1


def test_wheels_are_needed_once_and_only_for_missing_layers(chain: Sequence[Recipe], store: Store) -> None:
    plans = [plan_image(recipe, store) for recipe in chain]
    needed = wheels_needed(missing_of([*plans, *plans]))
    assert list(needed) == ["3.11"]
    assert sorted(pin.name for pin in needed["3.11"]) == sorted(
        ["trtkit", *(pin.name for pin in (*BASE, *TENSORRT))]
    )

    make_layers(chain[1].sources.values(), store)
    needed = wheels_needed(missing_of([plan_image(recipe, store) for recipe in chain]))
    assert {pin.name for pin in needed["3.11"]} == {"trtkit", *(pin.name for pin in TENSORRT)}


def test_too_small_a_disk_is_refused_with_what_is_needed(
    chain: Sequence[Recipe], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, own = chain[-1].sources.values()
    assert isinstance(own, WheelSource)
    size = sum(pin.size or 0 for pin in (*BASE, *TENSORRT, *own.pins))
    plans = [plan_image(recipe, store) for recipe in chain]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 2 * size - 1))
    with pytest.raises(EnvironmentLack, match="no room") as refused:
        check_disk(missing_of(plans), store)
    assert refused.value.fact("needed") == "2.3 GB to download, 2.3 GB of layers"
    assert refused.value.fact("free") == "4.7 GB"
    assert "TRTFORGE_CACHE" in (refused.value.fact("next") or "")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 2 * size))
    check_disk(missing_of(plans), store)


def test_what_is_there_takes_no_more_room(
    chain: Sequence[Recipe], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pin in (*BASE, *TENSORRT):
        file = store.file("wheels", pin.sha256, pin.filename)
        file.parent.mkdir(parents=True)
        file.touch()
    large = [one for one in chain[1].sources.values() if isinstance(one, WheelSource)]
    make_layers(large, store)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 110_000_000))
    check_disk(missing_of([plan_image(recipe, store) for recipe in chain]), store)
