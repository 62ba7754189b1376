"""Base images from a real registry (docker-registry), put there by another tool (skopeo)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import blob_in, docker_registry, push
from tests.loopback_registry import layer_blob
from trtforge.errors import HashMismatch, RequestError
from trtforge.oci import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Digest, canonical_json, digest_of
from trtforge.progress import Silent
from trtforge.registry.pull import pull_image, resolve_digest
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("docker-registry") and shutil.which("skopeo")),
        reason="docker-registry and skopeo are not here",
    ),
]

LAYERS = {name: layer_blob(**{f"etc/{name}": name * 1000}) for name in ("amd64", "arm64")}


@dataclass(frozen=True)
class Running:
    """A registry with base:1, an index of two images. index, images: their digests."""

    host: str
    folder: Path
    index: Digest
    images: dict[str, Digest]

    def blob(self, digest: Digest) -> Path:
        """Where the registry keeps a blob."""
        return blob_in(self.folder, digest)


def write_layout(folder: Path) -> tuple[Digest, dict[str, Digest]]:
    """An OCI image layout with an index of two images, tagged "1"."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def keep(data: bytes, media_type: str) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    entries, images = [], {}
    for architecture, (blob, diff_id) in LAYERS.items():
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        config = canonical_json({"os": "linux", "architecture": architecture, "rootfs": rootfs})
        described = keep(config, CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described}
        raw = canonical_json(manifest | {"layers": [keep(blob, LAYER_GZIP)]})
        images[architecture] = digest_of(raw)
        platform = {"os": "linux", "architecture": architecture}
        entries.append(keep(raw, MANIFEST) | {"platform": platform})
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    tagged = keep(index, INDEX) | {"annotations": {"org.opencontainers.image.ref.name": "1"}}
    (folder / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [tagged]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return digest_of(index), images


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    index, images = write_layout(tmp_path / "layout")
    with docker_registry(tmp_path) as host:
        push(tmp_path / "layout", "1", f"{host}/team/base:1")
        yield Running(host, tmp_path, index, images)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_tag_and_a_digest_give_the_image_of_the_platform(
    registry: Running, tmp_path: Path, architecture: str
) -> None:
    name = f"{registry.host}/team/base"
    assert resolve_digest(f"{name}:1") == registry.index
    store = Store(tmp_path / "store")
    by_tag = pull_image(f"{name}:1", f"linux/{architecture}", store, Silent())
    by_digest = pull_image(f"{name}@{registry.index}", f"linux/{architecture}", store, Silent())
    assert by_tag == by_digest
    assert by_tag.digest == registry.images[architecture]
    blob, diff_id = LAYERS[architecture]
    assert [(layer.digest, layer.diff_id) for layer in by_tag.layers] == [(digest_of(blob), diff_id)]
    assert store.blob(by_tag.layers[0].digest).read_bytes() == blob


def test_a_manifest_can_be_named_directly(registry: Running, tmp_path: Path) -> None:
    reference = f"{registry.host}/team/base@{registry.images['amd64']}"
    assert resolve_digest(reference) == registry.images["amd64"]
    image = pull_image(reference, "linux/amd64", Store(tmp_path / "store"), Silent())
    assert image.config["architecture"] == "amd64"


def test_a_blob_that_rotted_in_the_registry_is_refused(registry: Running, tmp_path: Path) -> None:
    digest = digest_of(LAYERS["amd64"][0])
    blob = registry.blob(digest)
    data = bytearray(blob.read_bytes())
    data[20] ^= 1
    blob.write_bytes(data)
    store = Store(tmp_path / "store")
    with pytest.raises(HashMismatch) as refused:
        pull_image(f"{registry.host}/team/base:1", "linux/amd64", store, Silent())
    assert refused.value.expected == digest.removeprefix("sha256:")
    assert not store.blob(digest).exists()


def test_an_absent_tag_and_repository_are_wrong_requests(registry: Running) -> None:
    for name in ("team/base:2", "team/absent:1"):
        with pytest.raises(RequestError, match="there is no"):
            resolve_digest(f"{registry.host}/{name}")
