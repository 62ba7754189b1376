"""Base images from a registry, into the store.

What arrives is checked against the digests that lead to it, from the manifest to every layer's contents.

Sources: OCI distribution-spec 1.1 (pull); image-spec 1.1 (image-index.md, manifest.md, config.md, layer.md).
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isal import igzip

from trtforge.errors import BuildError, RequestError
from trtforge.index.download import CHUNK, Patience
from trtforge.oci import LAYER_GZIP, Digest, Layer, digest_of
from trtforge.registry.client import Registry
from trtforge.registry.reference import Reference, parse_reference

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.progress import Advance, Progress
    from trtforge.registry.client import Descriptor, Manifest
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


def resolve_digest(reference: str, patience: Patience | None = None) -> Digest:
    """The digest that `reference` stands for now: that of an index if it has several platforms.

    Raises:
        RequestError: there is no such image.
        EnvironmentLack: the registry does not answer or refuses.
    """
    parsed = parse_reference(reference)
    with Registry(parsed, patience or Patience()) as registry:
        raw, _ = registry.manifest(parsed.version)
        return digest_of(raw)


def pull_image(
    reference: str, platform: str, store: Store, progress: Progress, patience: Patience | None = None
) -> PulledImage:
    """Bring an image's manifest, configuration and layers into the store; layers there are not asked for.

    Args:
        reference: "host/name@sha256:...", or with a tag; short names as Docker has them.
        platform: "os/architecture".

    Raises:
        RequestError: there is no such image, or not for `platform`, or its layers are not gzip.
        HashMismatch: something is not what its digest says; it is not kept.
        BuildError: the image contradicts itself.
        EnvironmentLack: the registry does not answer or refuses.
    """
    parsed = parse_reference(reference)
    # In this order: an error closes the registry first, which ends the transfers that the pool waits for.
    with ThreadPoolExecutor(_TRANSFERS) as pool, Registry(parsed, patience or Patience()) as registry:
        raw, manifest = registry.manifest(parsed.version)
        if manifest.manifests:
            raw, manifest = registry.manifest(_choose(manifest, platform, parsed))
        if manifest.config is None:
            raise BuildError(f"{parsed} contradicts itself", ("found", "an index in an index"))
        for described in manifest.layers:
            _require_gzip(described, parsed)
        config = registry.config(manifest.config.digest)
        diff_ids = _diff_ids(config, len(manifest.layers), parsed)
        total = sum(described.size for described in manifest.layers)
        with progress.task(f"pull {parsed.name}", total) as advance:
            jobs = [
                pool.submit(_pull_layer, registry, described, diff_id, store, advance)
                for described, diff_id in zip(manifest.layers, diff_ids, strict=True)
            ]
            layers = tuple(job.result() for job in jobs)
    digest = digest_of(raw)
    store.write_blob(config, digest_of(config))
    store.write_blob(raw, digest)
    return PulledImage(digest, json.loads(config), layers)


def layer_name(digest: str) -> str:
    """What the store calls a pulled layer: its key there."""
    return f"pulled-{digest.removeprefix('sha256:')}"


def _choose(index: Manifest, platform: str, reference: Reference) -> str:
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
    registry: Registry, described: Descriptor, diff_id: str, store: Store, advance: Advance
) -> Layer:
    """One layer into the store, its contents checked against the configuration's diff ID."""
    key = layer_name(described.digest)
    known = store.layer(key)
    if known is not None:
        registry.require(diff_id, known.diff_id, "unpacked layer")
        advance(described.size)
        return known
    with store.work_folder() as work:
        blob = work / "layer"
        registry.save_blob(described.digest, blob, advance)
        found, unpacked = _inflated(blob)
        registry.require(diff_id, found, "unpacked layer")
        layer = Layer(Digest(described.digest), found, blob.stat().st_size, unpacked)
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
