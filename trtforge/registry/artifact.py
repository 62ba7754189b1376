"""Small documents kept in a registry as OCI artifacts: one blob, and a manifest that says what kind it is.

Source: OCI image-spec 1.1, manifest.md: "Guidelines for Artifact Usage" (an empty configuration, the kind in
artifactType).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trtforge.errors import BuildError, RequestError
from trtforge.oci import MANIFEST, canonical_json, digest_of
from trtforge.registry.manifests import Manifest, why_malformed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtforge.oci import Digest
    from trtforge.registry.repository import Fetched, Repository

EMPTY = b"{}"
"""The empty configuration; as the one layer too, where an artifact has no content."""

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

_EMPTY = {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)}


def artifact_manifest(
    kind: str,
    layers: Sequence[Mapping[str, Any]] = (),
    *,
    annotations: Mapping[str, str] | None = None,
    subject: Fetched | None = None,
) -> bytes:
    """The manifest of an artifact.

    Args:
        kind: its media type, "application/vnd.trtforge.record+json".
        layers: descriptors of its contents; none: it has only annotations.
        subject: what it is attached to.
    """
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": _EMPTY,
        "layers": list(layers) or [_EMPTY],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    if subject:
        size = len(subject.body)
        manifest["subject"] = {"mediaType": subject.media_type, "digest": subject.digest, "size": size}
    return canonical_json(manifest)


def put_artifact(
    repository: Repository,
    kind: str,
    body: bytes,
    *,
    tag: str | None = None,
    subject: Fetched | None = None,
) -> Digest:
    """Keep `body` as an artifact, under `tag`, attached to `subject`, or both; the digest of its manifest."""
    repository.put_blob(EMPTY)
    described = {"mediaType": kind, "digest": repository.put_blob(body), "size": len(body)}
    manifest = artifact_manifest(kind, [described], subject=subject)
    if subject:
        repository.attach(manifest, subject.digest)
    if tag or not subject:
        repository.put_manifest(manifest, MANIFEST, tag)
    return digest_of(manifest)


def read_artifact(repository: Repository, version: str, kind: str) -> bytes | None:
    """What is kept as the artifact `version`, a tag or a digest; None: there is none.

    Raises:
        BuildError: there is something else, or a part of it is missing or damaged.
    """
    found = repository.find_manifest(version)
    if found is None:
        return None
    name = f"{repository.place}: {version}"
    manifest = read_manifest(found.body, name)
    if manifest.artifact_type != kind or len(manifest.layers) != 1:
        raise BuildError(f"{name} is not a {kind}", ("found", manifest.artifact_type or found.media_type))
    try:
        return repository.read_blob(manifest.layers[0].digest)
    except RequestError as error:
        raise BuildError(f"{name} has lost its content", *error.facts) from error


def read_manifest(body: bytes, name: str) -> Manifest:
    """Read the manifest of what is called `name`.

    Raises:
        BuildError: it is none.
    """
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise BuildError(f"{name} has a malformed manifest", ("found", why_malformed(error))) from error
