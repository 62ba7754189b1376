"""What an image is made of, image by image of its chain; and what is more than in the published one."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.published_factory import entry_of
from tests.store_factory import finish_images
from tests.wheel_factory import ZipMember, make_wheel
from trtforge.index.download import sha256_of
from trtforge.index.pins import Pin
from trtforge.layers.cut import Cut, LeftOut
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.sources import WheelSource
from trtforge.layers.wheel_layer import wheel_layer
from trtforge.oci import Digest, Layer
from trtforge.publishing.catalogue import Catalogue
from trtforge.recipe import Recipes
from trtforge.sizes.growth import growth
from trtforge.sizes.report import BASE, LayerSize, image_layers, layer_sizes, size_of, size_report
from trtforge.sizes.size import Size, total
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.image import Image
    from trtforge.publishing.entry import Entry
    from trtforge.recipe import Recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def chain(cells: Cells, store: Store) -> tuple[tuple[Recipe, ...], list[Image]]:
    """The recipes and images of a cell; each layer holds one file."""
    (choice,) = cells.choose({"cuda": ("12.1",), "arch": ("ampere",), "tensorrt": ("rtx",)})
    recipes = Recipes(PROJECT, cells).chain(choice.cell, lock_of(cells, choice.cell))
    return recipes, finish_images(recipes, store)


def test_each_layer_is_named_after_what_it_was_made_from(
    chain: tuple[tuple[Recipe, ...], list[Image]],
) -> None:
    recipes, images = chain
    layers = image_layers(recipes[-1], images[-1])
    assert [one.layer for one in layers] == list(images[-1].layers)
    names = {(one.image, one.name) for one in layers}
    assert ("os", "operating system") in names
    assert ("pytorch-cuda", "torch") in names
    assert ("pytorch-cuda", "bytecode") in names
    assert {("tensorrt", "tensorrt-rtx-cu12-libs"), ("tensorrt", "links"), ("tensorrt", "trtkit")} <= names
    for recipe, image in zip(recipes, images, strict=True):
        (*_, last) = image_layers(recipe, image)
        assert last.image == recipe.image


def test_packages_add_up_to_layers_and_layers_to_the_image(
    chain: tuple[tuple[Recipe, ...], list[Image]], store: Store
) -> None:
    recipes, images = chain
    report = size_report(recipes[-1], images[-1], store)
    assert report.size == Size(images[-1].size, images[-1].unpacked)
    assert total(one.size for one in report.packages) == report.size
    assert report.images == ("os", "pytorch-cuda", "tensorrt")
    versions = {one.name: one.version for one in report.packages}
    assert versions["torch"] == "2.9.1"
    assert versions["bytecode"] == ""
    compressed = [one.size.compressed for one in report.packages]
    assert compressed == sorted(compressed, reverse=True)


def test_layers_that_are_not_here_count_as_a_whole(
    chain: tuple[tuple[Recipe, ...], list[Image]], store: Store
) -> None:
    recipes, images = chain
    for layer in images[-1].layers:
        store.blob(layer.digest).unlink(missing_ok=True)
    report = size_report(recipes[-1], images[-1], store)
    assert total(one.size for one in report.packages) == report.size
    assert ("os", "operating system") in {(one.image, one.name) for one in report.packages}


def test_a_base_that_was_brought_is_not_ours(chain: tuple[tuple[Recipe, ...], list[Image]]) -> None:
    recipes, images = chain
    upon = replace(recipes[-1], parent=None)
    layers = image_layers(upon, images[-1])
    assert {one.image for one in layers} == {BASE, "tensorrt"}
    below = Size(images[-2].size, images[-2].unpacked)
    assert size_of(layers) == Size(images[-1].size, images[-1].unpacked) - below


def test_what_is_left_out_and_what_is_slimmed_is_counted(
    chain: tuple[tuple[Recipe, ...], list[Image]], store: Store, tmp_path: Path
) -> None:
    recipes, images = chain
    members = [ZipMember("torch/lib.so", bytes(100_000)), ZipMember("torch/lib.a", bytes(range(250)) * 40)]
    wheel = make_wheel(tmp_path, members, "torch")
    pin = Pin(
        name="torch", version="1.0", filename=wheel.name, sha256=sha256_of(wheel), size=wheel.stat().st_size
    )
    kept = store.file("wheels", pin.sha256, pin.filename)
    kept.parent.mkdir(parents=True)
    wheel.rename(kept)
    target, out = InstallTarget("3.11"), io.BytesIO()
    cut = Cut(left_out=(LeftOut("static", ("*.a",)),), sm=("80",))
    (path, old) = next(
        (path, one) for path, one in recipes[1].sources.items() if one.pins and one.pins[0].name == "torch"
    )
    source = WheelSource((pin,), target, cuts=(cut,))
    base = replace(recipes[1], sources={**recipes[1].sources, path: source})
    whole = wheel_layer([kept], target, out)
    smaller = Layer(whole.digest, whole.diff_id, whole.size - 5000, whole.unpacked - 30_000)
    layers = tuple(smaller if layer == store.layer(old.key) else layer for layer in images[1].layers)
    report = size_report(base, replace(images[1], layers=layers), store)
    assert report.left_out == {"torch": Size(report.left_out["torch"].compressed, 10_000)}
    assert 0 < report.left_out["torch"].compressed < 1000
    # The layer still has lib.a, and headers: what it lacks of the files that stay.
    assert report.slimmed["torch"].on_disk < 30_000
    assert report.slimmed["torch"].on_disk + 10_000 + 512 * 40 > 30_000


def layer_of(image: str, name: str, size: int, on_disk: int) -> LayerSize:
    return LayerSize(image, name, Layer(Digest("sha256:0"), Digest("sha256:1"), size, on_disk), None)


BEFORE = [layer_of("os", "operating system", 40, 90), layer_of("tensorrt", "onnx", 10, 30)]


def published(layers: list[LayerSize]) -> Catalogue:
    """A catalogue with a tensorrt image of these layers, on an os image."""
    entries: list[Entry] = []
    for image in ("os", "tensorrt"):
        sizes = {
            name: (size.compressed, size.on_disk)
            for (of, name), size in layer_sizes(layers).items()
            if of == image
        }
        below = {"parent": entries[-1].digest} if entries else {}
        whole = total(one.size for one in layers if one.image in ("os", image))
        entries.append(
            entry_of(image=image, content=image).model_copy(
                update={"layers": sizes, "size": whole.compressed, "unpacked": whole.on_disk, **below}
            )
        )
    return Catalogue(entries=tuple(entries))


def test_what_grew_is_named_what_grew_most_first() -> None:
    catalogue = published(BEFORE)
    now = [
        layer_of("os", "operating system", 45, 100),
        layer_of("tensorrt", "onnx", 9, 33),
        layer_of("tensorrt", "polygraphy", 7, 8),
    ]
    found = growth(now, catalogue.entries[-1], catalogue)
    assert found.change == Size(11, 21)
    assert found.layers == (
        ("tensorrt", "polygraphy", Size(7, 8)),
        ("os", "operating system", Size(5, 10)),
        ("tensorrt", "onnx", Size(-1, 3)),
    )
    assert total(size for _, _, size in found.layers) == found.change
    assert found.since.startswith("tensorrt:10-cu12.1-ampere-")


def test_what_is_gone_counts_as_less_and_the_same_as_nothing() -> None:
    catalogue = published(BEFORE)
    assert growth(BEFORE, catalogue.entries[-1], catalogue).layers == ()
    assert growth(BEFORE[:1], catalogue.entries[-1], catalogue).layers == (
        ("tensorrt", "onnx", Size(-10, -30)),
    )


def test_a_record_without_layers_tells_the_whole_alone() -> None:
    catalogue = published(BEFORE)
    bare = catalogue.having(entries=tuple(one.model_copy(update={"layers": {}}) for one in catalogue.entries))
    found = growth(BEFORE[:1], bare.entries[-1], bare)
    assert (found.change, found.layers) == (Size(-10, -30), ())
