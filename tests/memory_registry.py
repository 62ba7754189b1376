"""A registry in memory, as far as publishing needs one: for tests that publish hundreds of times.

It keeps no fall-back tags: what is attached it lists itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trtforge.oci import Digest, digest_of
from trtforge.registry.repository import Fetched

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Contents:
    """What a repository holds."""

    manifests: dict[Digest, Fetched] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


class MemoryNamespace:
    """In place of a `Namespace`; `tell` hears of each write before it is done, and may raise."""

    host, path = "registry.example", "team"

    def __init__(self, tell: Callable[[str], None] = lambda _write: None) -> None:
        self.contents: dict[str, Contents] = defaultdict(Contents)
        self.tell = tell
        self.clock = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    def repository(self, image: str) -> MemoryRepository:
        return MemoryRepository(self, image, self.contents[image])

    def name(self, image: str) -> str:
        return f"{self}/{image}"

    def now(self) -> datetime:
        return self.clock


@dataclass(frozen=True)
class MemoryRepository:
    """In place of a `Repository`."""

    namespace: MemoryNamespace
    image: str
    contents: Contents

    @property
    def place(self) -> str:
        return self.namespace.name(self.image)

    def find_manifest(self, version: str) -> Fetched | None:
        return self.contents.manifests.get(self.contents.tags.get(version, Digest(version)))

    def find_digest(self, version: str) -> Digest | None:
        found = self.find_manifest(version)
        return found.digest if found else None

    def put_manifest(self, body: bytes, media_type: str, tag: str | None = None) -> Digest:
        self.namespace.tell(f"put {self.image}:{tag or 'manifest'}")
        digest = digest_of(body)
        self.contents.manifests[digest] = Fetched(digest, media_type, body)
        if tag:
            self.contents.tags[tag] = digest
        return digest

    def blob_size(self, digest: Digest) -> int | None:
        return len(self.contents.blobs[digest]) if digest in self.contents.blobs else None

    def read_blob(self, digest: Digest) -> bytes:
        return self.contents.blobs[digest]

    def put_blob(self, data: bytes) -> Digest:
        self.namespace.tell(f"put {self.image} blob")
        self.contents.blobs[digest_of(data)] = data
        return digest_of(data)

    def tags(self) -> list[str]:
        return sorted(self.contents.tags)

    def referrers(self, subject: Digest, artifact_type: str) -> list[Digest]:
        bodies = {digest: json.loads(found.body) for digest, found in self.contents.manifests.items()}
        return [
            digest
            for digest, body in bodies.items()
            if body.get("subject", {}).get("digest") == subject and body.get("artifactType") == artifact_type
        ]

    def attach(self, artifact: bytes, subject: Digest) -> Digest:  # noqa: ARG002 (the artifact says it too)
        return self.put_manifest(artifact, json.loads(artifact)["mediaType"])

    def delete_tag(self, tag: str) -> None:
        if tag in self.contents.tags:
            self.namespace.tell(f"delete {self.image}:{tag}")
            del self.contents.tags[tag]

    def delete_manifest(self, digest: Digest) -> None:
        self.namespace.tell(f"delete {self.image} manifest")
        self.contents.manifests.pop(digest, None)
        for tag in [tag for tag, found in self.contents.tags.items() if found == digest]:
            del self.contents.tags[tag]

    def delete_blob(self, digest: Digest) -> None:
        self.namespace.tell(f"delete {self.image} blob")
        self.contents.blobs.pop(digest, None)
