"""How tags and manifests go, also where the registry knows no deletion of tags.

Docker's registry 2.x deletes manifests only, and with one all its tags. So a tag is first put at a manifest
of its own, a tombstone, which then goes.

Source: OCI distribution-spec 1.1, "Content Management"; distribution 2.8, registry/handlers/manifests.go.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx

from trtforge.oci import MANIFEST, digest_of
from trtforge.registry.artifact import EMPTY, artifact_manifest
from trtforge.registry.referrers import fallback_tag
from trtforge.registry.refusal import undeletable

if TYPE_CHECKING:
    from trtforge.oci import Digest
    from trtforge.registry.repository import Repository

TOMBSTONE = "application/vnd.trtforge.tombstone"
"""Type of the artifact that a tag is put at before it goes. One that stays was left by a killed run."""

_UNSUPPORTED = frozenset({400, 405, 501})
"""What registries answer that do not delete at all, or not tags."""


def delete_tag(repository: Repository, tag: str) -> None:
    """Remove a tag alone.

    Raises:
        httpx.HTTPError: the registry refused for another reason than that it does not delete.
        EnvironmentLack: it does not delete.
    """
    if repository.find_digest(tag) is None:
        return
    if _try(repository, f"manifests/{tag}") is None:
        return
    tombstone = artifact_manifest(TOMBSTONE, annotations={"id": secrets.token_hex(16)})
    # It is not there yet. A registry that deletes says so; else the tag is not touched.
    delete(repository, f"manifests/{digest_of(tombstone)}")
    repository.put_blob(EMPTY)
    repository.put_manifest(tombstone, MANIFEST, tag)
    delete(repository, f"manifests/{digest_of(tombstone)}")


def delete_manifest(repository: Repository, digest: Digest) -> None:
    """Remove a manifest, and the index of what is attached to it where we keep that (see `referrers`)."""
    delete(repository, f"manifests/{digest}")
    index = repository.find_digest(fallback_tag(digest))
    if index is not None:
        delete(repository, f"manifests/{index}")


def delete(repository: Repository, path: str) -> None:
    """Remove what is at `path` of the repository; it may be gone already."""
    error = _try(repository, path)
    if error is not None:
        raise undeletable(repository.place, error) from error


def _try(repository: Repository, path: str) -> httpx.HTTPStatusError | None:
    """How the registry says that it does not delete such things; None: it is gone."""
    scopes = (f"repository:{repository.name}:delete",)
    try:
        repository.connection.ask("DELETE", f"{repository.name}/{path}", scopes, fine=[404])
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in _UNSUPPORTED:
            raise
        return error
    return None
