"""What one machine has made, another finds by what it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.registry.images import layer_of
from tests.unruly_registry import UnrulyRegistry, repository_in, unruly_registry
from trtforge.oci import MANIFEST
from trtforge.progress import Silent
from trtforge.registry.artifact import artifact_manifest
from trtforge.registry.shared_layers import KIND, SharedLayers
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture
def shared(registry: UnrulyRegistry) -> Iterator[SharedLayers]:
    with repository_in(registry, "layers") as repository:
        yield SharedLayers(repository)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_layer_is_found_as_it_was_kept(shared: SharedLayers, store: Store) -> None:
    layer = layer_of(store, 1)
    assert shared.find("k" * 64) is None
    shared.keep("k" * 64, layer, store, Silent())
    assert shared.find("k" * 64) == layer
    assert shared.repository.read_blob(layer.digest) == store.blob(layer.digest).read_bytes()


def test_a_layer_that_is_there_is_not_kept_again(
    registry: UnrulyRegistry, shared: SharedLayers, store: Store
) -> None:
    layer = layer_of(store, 1)
    shared.keep("key", layer, store, Silent())
    registry.asked.clear()
    shared.keep("key", layer, store, Silent())
    assert {asked.method for asked in registry.asked} == {"GET", "HEAD"}


def test_a_layer_without_its_blob_is_not_there_and_can_be_kept_again(
    registry: UnrulyRegistry, shared: SharedLayers, store: Store
) -> None:
    layer = layer_of(store, 1)
    shared.keep("key", layer, store, Silent())
    del registry.blobs["layers", layer.digest]
    assert shared.find("key") is None
    shared.keep("key", layer, store, Silent())
    assert shared.find("key") == layer


@pytest.mark.parametrize("body", [b"{}", b"no json", artifact_manifest(KIND)])
def test_what_is_malformed_is_not_there(registry: UnrulyRegistry, shared: SharedLayers, body: bytes) -> None:
    registry.manifests["layers", "key"] = (MANIFEST, body)
    assert shared.find("key") is None
