"""Base images from a registry, into the store.

What arrives is checked against the digests that lead to it, from the manifest to every layer's contents.

Sources: OCI distribution-spec 1.1 (pull); image-spec 1.1 (image-index.md, manifest.md, config.md, layer.md).
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isal import igzip
from pydantic import ValidationError

from trtforge.errors import BuildError, EnvironmentLack, RequestError
from trtforge.index.download import CHUNK
from trtforge.oci import LAYER_GZIP, Digest, Layer
from trtforge.registry.access import Access
from trtforge.registry.connection import Connection
from trtforge.registry.manifests import Manifest, why_malformed
from trtforge.registry.reference import Reference, parse_reference
from trtforge.registry.repository import Fetched, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.progress import Advance, Progress
    from trtforge.registry.manifests import Descriptor
    from trtforge.store import Store

_GZIP = frozenset({LAYER_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip"})

_TRANSFERS = 4
"""Layers on their way at once, as in Docker and skopeo."""


@dataclass(frozen=True)
class PulledImage:
    """An image whose blobs are in the store.

    digest: of its manifest, for one platform.
    config: its configuration (config.md).
    """

    digest: Digest
    config: dict[str, Any]
    layers: tuple[Layer, ...]


def resolve_digest(reference: str, access: Access | None = None) -> Digest:
    """The digest that `reference` stands for now: that of an index if it has several platforms.

    Raises:
        RequestError: there is no such image.
        EnvironmentLack: the registry does not answer or refuses.
    """
    parsed = parse_reference(reference)
    with _repository(parsed, access or Access()) as repository:
        return _find(repository, parsed)[0].digest


def pull_image(
    reference: str, platform: str, store: Store, progress: Progress, access: Access | None = None
) -> PulledImage:
    """Bring an image's manifest, configuration and layers into the store; layers there are not asked for.

    Args:
        reference: "host/name@sha256:...", or with a tag; short names as Docker has them.
        platform: "os/architecture".

    Raises:
        RequestError: there is no such image, or not for `platform`, or its layers are not gzip.
        WrongDigest: something is not what its digest says; it is not kept.
        BuildError: the image contradicts itself.
        EnvironmentLack: the registry does not answer or refuses.
    """
    parsed = parse_reference(reference)
    # In this order: an error ends the connection first, and so the transfers that the pool waits for.
    with ThreadPoolExecutor(_TRANSFERS) as pool, _repository(parsed, access or Access()) as repository:
        found, manifest = _find(repository, parsed)
        if manifest.manifests:
            chosen = _choose(manifest, platform, parsed)
            found, manifest = _find(repository, Reference(parsed.host, parsed.name, chosen))
        if manifest.config is None:
            raise BuildError(f"{parsed} contradicts itself", ("found", "an index in an index"))
        for described in manifest.layers:
            _require_gzip(described, parsed)
        config = repository.read_blob(manifest.config.digest, "configuration")
        diff_ids = _diff_ids(config, len(manifest.layers), parsed)
        total = sum(described.size for described in manifest.layers)
        with progress.task(f"pull {parsed.name}", total) as advance:
            jobs = [
                pool.submit(_pull_layer, repository, described, diff_id, store, advance)
                for described, diff_id in zip(manifest.layers, diff_ids, strict=True)
            ]
            layers = tuple(job.result() for job in jobs)
    store.write_blob(config, manifest.config.digest)
    store.write_blob(found.body, found.digest)
    return PulledImage(found.digest, json.loads(config), layers)


@contextmanager
def _repository(reference: Reference, access: Access) -> Iterator[Repository]:
    """Where a base comes from; that there is another way without it is added to what goes wrong."""
    try:
        with Connection(reference.host, access) as connection:
            yield Repository(connection, reference.name)
    except EnvironmentLack as error:
        other = "or build on an OS layer made here: see the axis os of matrix.yaml"
        error.facts = (*error.facts, ("rules out", "every image on this base"), ("next", other))
        raise


def _find(repository: Repository, reference: Reference) -> tuple[Fetched, Manifest]:
    """A manifest or an index that can lead to a base: its bytes and what they say."""
    found = repository.find_manifest(reference.version)
    if found is None:
        raise RequestError(
            f"there is no {reference}",
            ("next", "correct the base image in matrix.yaml; a tag may have been removed"),
        )
    try:
        return found, Manifest.model_validate_json(found.body)
    except ValidationError as error:
        raise RequestError(
            f"{reference} is not an image that can be a base",
            ("found", why_malformed(error)),
            ("next", "name another image in matrix.yaml"),
        ) from error


def layer_name(digest: str) -> str:
    """What the store calls a pulled layer: its key there."""
    return f"pulled-{digest.removeprefix('sha256:')}"


def _choose(index: Manifest, platform: str, reference: Reference) -> Digest:
    """The digest of the index's first manifest for `platform`, as engines take it."""
    for described in index.manifests:
        if str(described.platform) == platform:
            return described.digest
    offered = sorted({str(described.platform) for described in index.manifests if described.platform})
    raise RequestError(
        f"{reference} does not exist for {platform}",
        ("found", ", ".join(offered) or "no platforms"),
        ("next", "name another image in matrix.yaml"),
    )


def _require_gzip(described: Descriptor, reference: Reference) -> None:
    if described.media_type not in _GZIP:
        raise RequestError(
            f"{reference} has a layer that is not a gzip-compressed tar",
            ("found", described.media_type),
            ("reason", "of the compressions, gzip alone is read by every Engine from 20.10 on"),
            (
                "next",
                "name another image, or convert it: skopeo copy --format oci --dest-compress-format gzip",
            ),
        )


def _diff_ids(config: bytes, layers: int, reference: Reference) -> list[str]:
    """The digests of the layers' contents, which the configuration has."""
    try:
        diff_ids = [str(diff_id) for diff_id in json.loads(config)["rootfs"]["diff_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{reference} has a configuration without diff IDs") from error
    if len(diff_ids) != layers:
        raise BuildError(
            f"{reference} contradicts itself", ("found", f"{layers} layers, {len(diff_ids)} diff IDs")
        )
    return diff_ids


def _pull_layer(
    repository: Repository, described: Descriptor, diff_id: str, store: Store, advance: Advance
) -> Layer:
    """One layer into the store, its contents checked against the configuration's diff ID."""
    key = layer_name(described.digest)
    known = store.layer(key)
    if known is not None:
        repository.require(diff_id, known.diff_id, "unpacked layer")
        advance(described.size)
        return known
    with store.work_folder() as work:
        blob = work / "layer"
        repository.save_blob(described.digest, blob, advance)
        found, unpacked = _inflated(blob)
        repository.require(diff_id, found, "unpacked layer")
        layer = Layer(described.digest, found, blob.stat().st_size, unpacked)
        store.keep_layer(key, blob, layer)
        return layer


def _inflated(blob: Path) -> tuple[Digest, int]:
    """Digest and size of what `blob` inflates to."""
    sha256, size = hashlib.sha256(), 0
    try:
        with igzip.IGzipFile(str(blob)) as stream:  # type: ignore[no-untyped-call]
            while chunk := stream.read(CHUNK):
                sha256.update(chunk)
                size += len(chunk)
    except (igzip.BadGzipFile, EOFError) as error:
        raise BuildError("a layer of a base image is not gzip", ("found", str(error))) from error
    return Digest(f"sha256:{sha256.hexdigest()}"), size
