"""What is attached to an image, in registries that keep count of it and in those that do not.

A registry with the referrers API lists them itself. For the others the specification has clients keep an
index under the tag `sha256-<hex of the subject>`: read, complete, write, and look whether it stayed so,
since a registry offers no compare-and-set.

Source: OCI distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject", "Referrers Tag
Schema".
"""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import ValidationError

from trtforge.errors import BuildError
from trtforge.oci import INDEX, Digest, canonical_json, digest_of
from trtforge.registry.manifests import Index, Manifest

if TYPE_CHECKING:
    from trtforge.registry.repository import Fetched, Repository

_NO_REFERRERS_API = frozenset({400, 404, 405, 501})
"""What registries answer that know of no referrers: by the specification 404."""

_ROUNDS = 20
"""Attempts at an index that others write at the same time."""

_SETTLED_S = 0.02
"""Seconds that another's reading and writing of an index takes at least."""

_WRITING = threading.Lock()
"""Within one process, nobody loses anything."""


def fallback_tag(subject: Digest) -> str:
    """The tag of the index of what is attached to `subject`."""
    return subject.replace(":", "-")


def listed(body: bytes, artifact_type: str) -> list[Digest] | None:
    """The artifacts of this type in an index of referrers; None: it is no index."""
    try:
        index = Index.model_validate_json(body)
    except ValidationError:
        return None
    return [found.digest for found in index.manifests if found.artifact_type == artifact_type]


def find_referrers(repository: Repository, subject: Digest, artifact_type: str) -> list[Digest]:
    """The artifacts of this type that are attached to `subject`, wherever they are listed."""
    name = f"{repository.name}/referrers/{subject}"
    found: list[Digest] = []
    for page in repository.pages(
        httpx.URL(name, params={"artifactType": artifact_type}), fine=_NO_REFERRERS_API
    ):
        part = listed(page.content, artifact_type) if page.is_success else None
        if part is None:
            index = repository.find_manifest(fallback_tag(subject))
            return (listed(index.body, artifact_type) or []) if index else []
        found += part
    return found


def descriptor_of(artifact: bytes) -> dict[str, Any]:
    """How the index of referrers speaks of `artifact`: an image's type is that of its configuration."""
    manifest = Manifest.model_validate_json(artifact)
    artifact_type = manifest.artifact_type or (manifest.config.media_type if manifest.config else "")
    found: dict[str, Any] = {
        "mediaType": json.loads(artifact)["mediaType"],
        "digest": digest_of(artifact),
        "size": len(artifact),
        "artifactType": artifact_type,
    }
    return found | ({"annotations": manifest.annotations} if manifest.annotations else {})


def merged(index: Fetched | None, added: dict[str, Any]) -> bytes | None:
    """The index with `added` in it; None: it is there. What others wrote into it stays as it is."""
    value = _read(index.body) if index else {}
    entries = value.get("manifests") or []
    if any(entry.get("digest") == added["digest"] for entry in entries):
        return None
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX} | value | {"manifests": [*entries, added]})


def add_to_fallback(repository: Repository, subject: Digest, added: dict[str, Any]) -> None:
    """Have `added` in the index under the fall-back tag.

    Two writers may each read before the other has written; the one who lost sees so when it looks again,
    after longer than another's reading and writing takes.

    Raises:
        BuildError: others kept on overwriting it.
    """
    tag = fallback_tag(subject)
    for _ in range(_ROUNDS):
        with _WRITING:
            began = time.monotonic()
            body = merged(repository.find_manifest(tag), added)
            if body is None:
                return
            repository.put_manifest(body, INDEX, tag)
            took_s = time.monotonic() - began
        time.sleep(max(_SETTLED_S, took_s) * random.uniform(2, 4))
    raise BuildError(
        f"what is attached to {subject} is being overwritten by others",
        ("tag", tag),
        ("next", "run the same command again when they are done"),
    )


def _read(index: bytes) -> dict[str, Any]:
    """An index as JSON; what is none is replaced, since the tag has no other purpose."""
    try:
        value = json.loads(index)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("manifests"), list) else {}
