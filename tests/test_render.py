from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.store_factory import make_layers
from trtforge.dockerfile import read_dockerfile
from trtforge.oci import EPOCH
from trtforge.recipe import Recipe, Recipes
from trtforge.render import render_context
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def recipe(cells: Cells) -> Recipe:
    (choice,) = cells.choose({"tensorrt": ("rtx",)})
    return Recipes(PROJECT, cells).chain(choice.cell, lock_of(cells, choice.cell))[-1]


def test_a_context_holds_all_that_its_dockerfile_names(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    render_context(recipe, make_layers(recipe.sources.values(), store), store, folder)
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    assert text == recipe.dockerfile
    named = [one.words()[0] for one in read_dockerfile(text) if one.name in ("ADD", "COPY")]
    assert len(named) >= 5
    assert all((folder / name).exists() for name in named)


def test_layers_are_the_store_s_own_files(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    layers = make_layers(recipe.sources.values(), store)
    render_context(recipe, layers, store, tmp_path / "context")
    for path, source in recipe.sources.items():
        assert (tmp_path / "context" / path).samefile(store.blob(layers[source.key].digest))


def test_where_links_cannot_be_made_layers_are_copied(
    recipe: Recipe, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    layers = make_layers(recipe.sources.values(), store)
    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    render_context(recipe, layers, store, tmp_path / "context")
    for path, source in recipe.sources.items():
        blob = store.blob(layers[source.key].digest)
        assert (tmp_path / "context" / path).read_bytes() == blob.read_bytes()


def test_nothing_of_an_older_context_is_left(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    (folder / "smoke" / "checks").mkdir(parents=True)
    (folder / "smoke" / "checks" / "gone.py").touch()
    render_context(recipe, make_layers(recipe.sources.values(), store), store, folder)
    assert not (folder / "smoke" / "checks" / "gone.py").exists()


def test_what_copy_takes_over_is_always_the_same(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    render_context(recipe, make_layers(recipe.sources.values(), store), store, tmp_path / "context")
    for name in recipe.files:
        status = (tmp_path / "context" / name).stat()
        mode = 0o755 if name == "opt/trtforge/guard" else 0o644  # a program alone may be executed
        assert (status.st_mode & 0o777, status.st_mtime) == (mode, EPOCH)
