"""What a namespace holds, and what of it is in use."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trtforge.oci import Digest
from trtforge.publishing.catalogue import IMAGES
from trtforge.registry.artifact import EMPTY_TYPE, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.publishing.catalogue import Catalogue
    from trtforge.registry.namespace import Namespace
    from trtforge.registry.repository import Repository

LAYERS = "layers"
"""The repository of shared layers."""

_REQUESTS = 8
"""Manifests that are read at once."""

_FALLBACK = re.compile(r"sha256-([0-9a-f]{64})")
"""Tags under which a registry without the referrers API lists what is attached to a manifest."""

Version = tuple[str, str]
"""An image's name in the chain, and a tag or a digest."""


@dataclass
class _Found:
    """Manifests, and the blobs that they name with their sizes."""

    manifests: set[Digest] = field(default_factory=set)
    blobs: dict[Digest, int] = field(default_factory=dict)

    def add(self, repository: Repository, version: str) -> None:
        """Add what `version` leads to, and all that an index there names."""
        found = repository.find_manifest(version)
        if found is None or found.digest in self.manifests:
            return
        manifest = read_manifest(found.body, f"{repository.place}: {version}")
        self.manifests.add(found.digest)
        for part in (*filter(None, [manifest.config]), *manifest.layers):
            if part.media_type != EMPTY_TYPE:  # every artifact has that one
                self.blobs[part.digest] = part.size
        for part in manifest.manifests:
            self.add(repository, part.digest)


class Survey:
    """The images of one namespace, as they are now; `count` says which of them are in use."""

    def __init__(self, namespace: Namespace, catalogue: Catalogue) -> None:
        self._namespace, self._catalogue = namespace, catalogue
        self._tags = {image: namespace.repository(image).tags() for image in IMAGES}
        self._used = {image: _Found() for image in IMAGES}

    def others(self) -> list[Version]:
        """Every tag but our own dated ones and those of the registry's bookkeeping."""
        ours = {(entry.image, entry.dated) for entry in self._catalogue.entries}
        found = [(image, tag) for image, tags in self._tags.items() for tag in tags]
        return [one for one in found if one not in ours and not _FALLBACK.fullmatch(one[1])]

    def orphans(self) -> list[tuple[str, Digest]]:
        """Images that are gone, and to which records are still attached."""
        known = {entry.digest for entry in self._catalogue.entries}
        listed = [
            (image, Digest(f"sha256:{found[1]}"))
            for image, tags in self._tags.items()
            for tag in tags
            if (found := _FALLBACK.fullmatch(tag))
        ]
        return [
            (image, digest)
            for image, digest in listed
            if digest not in known and self._namespace.repository(image).find_digest(digest) is None
        ]

    def count(self, versions: Iterable[Version]) -> None:
        """Take all that `versions` lead to for being in use."""
        with ThreadPoolExecutor(_REQUESTS, "survey") as pool:
            list(pool.map(self._count, versions))

    def count_new(self) -> None:
        """Take what was tagged since the survey began for being in use, too."""
        for image, before in self._tags.items():
            new = {*self._namespace.repository(image).tags()} - {*before}
            self.count((image, tag) for tag in new if not _FALLBACK.fullmatch(tag))

    def uses(self, image: str, blob: Digest) -> bool:
        """Whether an image in use has this blob in the repository `image`."""
        return image in self._used and blob in self._used[image].blobs

    def _count(self, version: Version) -> None:
        image, tag = version
        self._used[image].add(self._namespace.repository(image), tag)

    def manifests(self) -> set[Digest]:
        """Those in use."""
        return {digest for found in self._used.values() for digest in found.manifests}

    def freed_by(self, versions: Iterable[Version]) -> dict[tuple[str, Digest], int]:
        """The blobs, each in its repository, with their sizes, that only `versions` use."""
        going = {image: _Found() for image in IMAGES}
        for image, version in versions:
            going[image].add(self._namespace.repository(image), version)
        return {
            (image, digest): size
            for image, found in going.items()
            for digest, size in found.blobs.items()
            if digest not in self._used[image].blobs
        }

    def unused_layers(self) -> dict[str, tuple[Digest, dict[Digest, int]]]:
        """The shared layers that no image in use has: key -> manifest, and its blobs with their sizes."""
        used = {digest for found in self._used.values() for digest in found.blobs}
        repository, unused = self._namespace.repository(LAYERS), {}
        for key in repository.tags():
            found, digest = _Found(), repository.find_digest(key)
            found.add(repository, key)
            if digest and not used & found.blobs.keys():
                unused[key] = digest, found.blobs
        return unused
