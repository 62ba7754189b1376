from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import BASE, PYTHON3, TENSORRT, lock_of
from tests.store_factory import finish_images, make_layers
from trtforge.gc import collect, size_of, unneeded
from trtforge.image import find_image
from trtforge.plan import plan_image
from trtforge.recipe import Recipe, Recipes
from trtforge.record import Record, find_record, keep_record
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.cells import Cells


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def chain(cells: Cells, **request: str) -> Sequence[Recipe]:
    (choice,) = cells.choose({"tensorrt": ("rtx",), **{axis: (value,) for axis, value in request.items()}})
    return Recipes(PROJECT, cells).chain(choice.cell, lock_of(cells, choice.cell))


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def fill(store: Store, recipes: Sequence[Recipe]) -> None:
    """All that a build of `recipes` leaves in a store."""
    images = finish_images(recipes, store)
    for pin in (*BASE, *TENSORRT):
        put(store.file("wheels", pin.sha256, pin.filename))
    put(store.file("debs", PYTHON3.sha256, PYTHON3.filename))
    system = store.layer(next(iter(recipes[0].sources.values())).key)
    assert system
    put(store.root / "rootfs" / system.diff_id.removeprefix("sha256:") / "bin" / "sh")
    for recipe, image in zip(recipes, images, strict=True):
        keep_record(_record(recipe, image.digest), store)


def _record(recipe: Recipe, digest: str) -> Record:
    return Record(
        ref=recipe.ref, recipe_key=recipe.key, digest=digest, image_id="x", layers=1, size=1, unpacked=1
    )


def files(store: Store) -> set[Path]:
    """But for locks and the index, which stay."""
    return {
        path
        for path in store.root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent != store.oci
    }


def test_what_locked_cells_need_is_kept(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    fill(store, recipes)
    # The layers that COPY makes have a file in layers/ that is cheap to lose; their blobs stay.
    before = {path for path in files(store) if path.parent.name != "layers"}
    collect(recipes, store)
    assert {path for path in files(store) if path.parent.name != "layers"} == before
    assert [plan_image(recipe, store).action for recipe in recipes] == ["reuse"] * 3
    assert all(find_record(recipe.key, store) for recipe in recipes)


def test_all_else_goes(cells: Cells, store: Store) -> None:
    kept, gone = chain(cells, arch="ampere"), chain(cells, arch="turing")
    fill(store, kept)
    wanted = files(store)
    own = [one for one in gone if one.key not in {recipe.key for recipe in kept}]
    images = finish_images(gone, store)
    extra = [
        put(store.root / "wheels" / ("f" * 64) / "old-1-py3-none-any.whl", 1000).parent,
        put(store.root / "debs" / ("f" * 64) / "old_1_all.deb").parent,
        put(store.root / "rootfs" / ("f" * 64) / "etc" / "passwd").parent.parent,
        put(store.oci / "blobs" / "sha256" / ("f" * 64)),
        put(store.root / "layers" / "f.json"),
        put(store.root / "records" / "f.json"),
    ]
    freed = collect(kept, store)
    assert freed > 1000
    assert not [path for path in extra if path.exists()]
    assert {path for path in files(store) if path.parent.name != "layers"} <= wanted
    assert [find_image(recipe.ref, recipe.key, store) for recipe in own] == [None]
    assert not store.blob(images[-1].digest).exists()
    assert [plan_image(recipe, store).action for recipe in kept] == ["reuse"] * 3


def test_nothing_locked_needs_nothing(cells: Cells, store: Store) -> None:
    fill(store, chain(cells))
    collect([], store)
    assert files(store) == set()


def test_an_empty_store_has_nothing_to_free(cells: Cells, store: Store) -> None:
    assert unneeded(chain(cells), store) == []
    assert collect(chain(cells), store) == 0


def test_layers_made_for_an_unfinished_image_are_kept(cells: Cells, store: Store) -> None:
    recipes = chain(cells)
    layers = make_layers(recipes[1].sources.values(), store)
    collect(recipes, store)
    assert all(map(store.holds, layers.values()))


def test_work_in_progress_is_kept_and_dead_work_goes(cells: Cells, store: Store) -> None:
    dead = put(store.root / "tmp" / "dead" / "layer", 500)
    with store.work_folder() as work:
        put(work / "layer")
        assert unneeded(chain(cells), store) == [dead.parent]
        assert collect(chain(cells), store) == 500
        assert work.exists()
    assert not dead.parent.exists()


def test_sizes_count_files_and_not_what_links_point_to(tmp_path: Path) -> None:
    put(tmp_path / "a" / "one", 100)
    put(tmp_path / "a" / "b" / "two", 50)
    (tmp_path / "a" / "away").symlink_to("/usr")
    assert size_of(tmp_path / "a") == 150 + len("/usr")
    assert size_of(tmp_path / "a" / "one") == 100
    assert os.path.lexists(tmp_path / "a" / "away")
