"""An image goes from the store to a registry by the shortest way, and shows there when it is whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.registry.images import image_of
from tests.unruly_registry import HASTE, UnrulyRegistry, repository_in, unruly_registry
from trtforge.errors import BuildError, DamagedFile, EnvironmentLack
from trtforge.oci import MANIFEST, Digest
from trtforge.patience import Patience
from trtforge.progress import Silent
from trtforge.registry.access import Access
from trtforge.registry.push import Pushed, push_image
from trtforge.registry.repository import Repository
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.image import Image


@pytest.fixture
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def push(
    registry: UnrulyRegistry,
    image: Image,
    store: Store,
    *sources: str,
    name: str = "tensorrt",
    access: Access = HASTE,
) -> Pushed:
    with repository_in(registry, name, access) as here:
        others = [Repository(here.connection, source) for source in sources]
        return push_image(image, "1", here, store, Silent(), sources=others)


def is_whole(registry: UnrulyRegistry, image: Image, store: Store, name: str = "tensorrt") -> bool:
    body = store.blob(image.digest).read_bytes()
    blobs = {layer.digest: store.blob(layer.digest).read_bytes() for layer in image.layers}
    return registry.manifests[name, "1"] == (MANIFEST, body) and all(
        registry.blobs[name, digest] == blob for digest, blob in blobs.items()
    )


def test_an_image_arrives_its_manifest_last(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 3)
    assert push(registry, image, store) == Pushed(image.digest, image.size, 0, 0)
    assert is_whole(registry, image, store)
    writes = [asked for asked in registry.asked if asked.method in ("POST", "PUT", "PATCH")]
    assert "manifests" in writes[-1].path
    assert not any("manifests" in asked.path for asked in writes[:-1])


def test_what_is_there_is_not_sent(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 3)
    push(registry, image, store)
    registry.asked.clear()
    assert push(registry, image, store) == Pushed(image.digest, 0, 0, image.size)
    assert not registry.requests("POST")


def test_one_changed_layer_is_all_that_is_sent(registry: UnrulyRegistry, store: Store) -> None:
    push(registry, image_of(store, 3), store)
    image = image_of(store, 4)
    assert push(registry, image, store).uploaded == image.layers[-1].size


def test_a_layer_that_occurs_twice_goes_once(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 1, 1)
    assert push(registry, image, store).uploaded == image.layers[0].size


def test_what_another_repository_has_is_mounted(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 3)
    push(registry, image, store, name="layers")
    assert push(registry, image, store, "absent", "layers") == Pushed(image.digest, 0, image.size, 0)
    assert is_whole(registry, image, store)


def test_where_nothing_can_be_mounted_it_is_sent(store: Store) -> None:
    image = image_of(store, 3)
    with unruly_registry(mounts=False) as registry:
        push(registry, image, store, name="layers")
        assert push(registry, image, store, "layers") == Pushed(image.digest, image.size, 0, 0)
        assert not registry.sessions


def test_layers_that_only_a_source_has_pass_through(
    registry: UnrulyRegistry, store: Store, tmp_path: Path
) -> None:
    image = image_of(store, 2)
    push(registry, image, store, name="layers")
    bare = Store(tmp_path / "bare")
    bare.write_blob(store.blob(image.digest).read_bytes(), image.digest)
    registry.habits.mounts = False
    assert push(registry, image, bare, "layers").uploaded == image.size
    assert is_whole(registry, image, store)
    assert not bare.holds(image.layers[0])


def test_a_layer_that_nobody_has_is_an_error(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 2)
    store.blob(image.layers[0].digest).unlink()
    with pytest.raises(BuildError, match="neither in the store nor in a registry"):
        push(registry, image, store, "layers")
    assert not registry.manifests


def test_a_damaged_layer_is_dropped_and_never_shows(registry: UnrulyRegistry, store: Store) -> None:
    image = image_of(store, 2)
    blob = store.blob(image.layers[1].digest)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedFile):
        push(registry, image, store)
    assert not blob.exists()
    assert not registry.manifests


def test_an_error_ends_the_other_transfers(registry: UnrulyRegistry, store: Store) -> None:
    registry.breaks("POST", "uploads", 503, 503, 503, 403)
    patient = Access(patience=Patience(first_pause_s=60))
    began = time.monotonic()
    with pytest.raises(EnvironmentLack, match="does not let us write"):
        push(registry, image_of(store, 12), store, access=patient)
    assert time.monotonic() - began < 10  # and not 60: the pauses end too
    assert len(registry.requests("POST")) == 4
    assert not registry.manifests


def test_a_registry_that_shows_another_image_is_not_believed(registry: UnrulyRegistry, store: Store) -> None:
    lie = ("lie", Digest("sha256:" + "0" * 64))
    registry.breaks("HEAD", "manifests/1", lie, lie, lie, lie)
    with pytest.raises(BuildError, match="is not what was just pushed"):
        push(registry, image_of(store, 1), store)


def test_a_tag_that_somebody_removes_just_then_is_written_again(
    registry: UnrulyRegistry, store: Store
) -> None:
    registry.breaks("HEAD", "manifests/1", 404)
    push(registry, image_of(store, 1), store)
    assert len(registry.requests("PUT", "manifests/1")) == 2
