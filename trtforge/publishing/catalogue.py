"""The catalogue: what a namespace holds, as one artifact in it that can always be made anew.

The truth is the dated tags and the records attached to their images. Who changes something reads the
catalogue, lists the tags, merges, writes, and does so again until what is there says all it should. Of two
who write at once, the one whose text stays reads again after it wrote, and finds the other's dated tag: so
nothing is lost that is not found again, without any lock.
"""

from __future__ import annotations

import gzip
import random
import time
import zlib
from collections import defaultdict
from datetime import date  # noqa: TC003 (pydantic needs it at run time)
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtforge.errors import BuildError, EnvironmentLack
from trtforge.publishing.entry import Entry, is_dated, records_of
from trtforge.registry.artifact import put_artifact, read_artifact

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trtforge.oci import Digest
    from trtforge.progress import Progress
    from trtforge.registry.namespace import Namespace

__all__ = ["IMAGES", "Catalogue", "Entry", "current", "merged", "read_catalogue", "update_catalogue"]

_FAMILY = "application/vnd.trtforge.catalogue."
CATALOGUE = f"{_FAMILY}v1+gzip"
"""Gzip of JSON. Another meaning of a field there is needs another version; a new field does not."""

REPOSITORY, TAG = "catalogue", "latest"

IMAGES = ("os", "pytorch-cuda", "tensorrt", "serve", "deploy", "devel", "jupyter", "ssh")
"""The images of the chain, the lowest first: the repositories in which dated tags are looked for."""

_ATTEMPTS = 100
"""How often an update is tried again because others update at the same time."""

Tagged = dict[str, frozenset[str]]
"""For each image the dated tags that its repository has."""


class Catalogue(BaseModel):
    """What is published.

    entries: by image and dated tag.
    idle: "image:tag" of what nothing refers to -> the day on which `prune` first saw it so.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    entries: tuple[Entry, ...] = ()
    idle: dict[str, date] = Field(default_factory=dict)

    def of(self, image: str, tag: str) -> tuple[Entry, ...]:
        """The entries of `image` that were published under `tag` (exact or short), the newest first."""
        return self._by_tag.get((image, tag), ())

    def newest(self, image: str, tag: str) -> Entry | None:
        """The newest of them. After a rollback the tag leads elsewhere: see `current`."""
        return next(iter(self.of(image, tag)), None)

    def by_digest(self, image: str, digest: str) -> Entry | None:
        """The newest entry of an image with this digest."""
        return self._by_digest.get((image, digest))

    def packages(self, entry: Entry) -> dict[str, str]:
        """Name -> version of all that is in an image: what it and the images below add."""
        return {name: version for one in self.chain(entry) for name, version in one.packages.items()}

    def chain(self, entry: Entry) -> tuple[Entry, ...]:
        """An image and those that it stands on, as far as they are ours, the lowest first."""
        below = next((found for found in self.entries if found.digest == entry.parent), None)
        return (*(self.chain(below) if below else ()), entry)

    def having(self, **fields: Any) -> Catalogue:
        """It with other `fields`. (`model_copy` would take over what was worked out of the old ones.)"""
        return Catalogue(**(dict(self) | fields))

    @cached_property
    def _newest_first(self) -> list[Entry]:
        return sorted(self.entries, key=lambda entry: entry.order, reverse=True)

    @cached_property
    def _by_tag(self) -> dict[tuple[str, str], tuple[Entry, ...]]:
        found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in self._newest_first:
            for tag in entry.tags:
                found[entry.image, tag].append(entry)
        return {key: tuple(entries) for key, entries in found.items()}

    @cached_property
    def _by_digest(self) -> dict[tuple[str, str], Entry]:
        return {(entry.image, entry.digest): entry for entry in reversed(self._newest_first)}


def merged(
    found: Catalogue,
    added: Sequence[Entry],
    tagged: Mapping[str, Collection[str]],
    removed: Sequence[Entry] = (),
) -> Catalogue:
    """`found` with the entries `added`, without those `removed` and those whose dated tag is gone.

    Args:
        tagged: for each image all its dated tags, listed after `found` was read: an entry is written after
            its tag, so none looks gone that only came later.
    """
    gone = {(entry.image, entry.dated) for entry in removed}
    entries = {(entry.image, entry.dated): entry for entry in (*found.entries, *added)}
    kept = [
        entry
        for key, entry in sorted(entries.items())
        if key not in gone and entry.dated in tagged.get(entry.image, ())
    ]
    return found.having(entries=tuple(kept))


def read_catalogue(namespace: Namespace, progress: Progress) -> Catalogue:
    """What is published in `namespace`. Where the catalogue is missing or damaged: what the records say.

    Raises:
        EnvironmentLack: the registry does not answer or refuses, or a newer trtforge wrote the catalogue.
    """
    found = _read(namespace, progress)
    return found if found is not None else _from_records(Catalogue(), (), namespace)


def update_catalogue(
    namespace: Namespace,
    added: Sequence[Entry],
    progress: Progress,
    *,
    removed: Sequence[Entry] = (),
    idle: Mapping[str, date] | None = None,
) -> Catalogue:
    """Bring the catalogue up to date: with the entries `added`, whose dated tags are there already, with
    every other dated tag that has a record, and without what is gone.

    Args:
        removed: what leaves it, though its dated tag is still there.
        idle: what becomes of `Catalogue.idle`; None: it stays.

    Returns:
        The catalogue as it is now.

    Raises:
        EnvironmentLack: the registry does not answer or refuses.
    """
    repository = namespace.repository(REPOSITORY)
    for attempt in range(_ATTEMPTS):
        before = repository.find_digest(TAG)
        found = _read(namespace, progress if attempt == 0 else None)
        wanted = _from_records(found or Catalogue(), added, namespace, removed)
        if idle is not None:
            wanted = wanted.having(idle=dict(idle))
        if wanted == found:
            return wanted
        if attempt:
            time.sleep(random.uniform(0, 0.01 * min(attempt, 20)))
            if repository.find_digest(TAG) != before:
                continue  # somebody else wrote: what we have read is old
        written = put_artifact(repository, CATALOGUE, _packed(wanted), tag=TAG)
        _remember(written, wanted)
        if before not in (None, written):
            _forget(before, namespace)
    raise EnvironmentLack(
        f"the catalogue of {namespace} changes faster than it can be written",
        ("state", "what was published is published; whoever updates the catalogue next enters it"),
        ("next", "run the same command again"),
    )


def current(namespace: Namespace, catalogue: Catalogue, image: str, tag: str) -> Entry | None:
    """The entry that `tag` leads to now, after a rollback too; None: it leads to nothing of ours."""
    digest = namespace.repository(image).find_digest(tag)
    return catalogue.by_digest(image, digest) if digest else None


def _read(namespace: Namespace, progress: Progress | None) -> Catalogue | None:
    """The catalogue; None where there is none that can be read."""
    repository = namespace.repository(REPOSITORY)
    try:
        digest = repository.find_digest(TAG)
        if digest is None or (known := _read_before.get(digest)):
            return known if digest else None
        body = read_artifact(repository, digest, CATALOGUE)
        if body is None:  # replaced just now, and gone
            return None
        found = Catalogue.model_validate_json(gzip.decompress(body))
        _remember(digest, found)
        return found
    except (BuildError, ValidationError, OSError, EOFError, zlib.error) as error:
        kind = error.fact("found") if isinstance(error, BuildError) else None
        if kind and kind != CATALOGUE and kind.startswith(_FAMILY):
            raise EnvironmentLack(
                f"the catalogue of {namespace} is of another version of trtforge",
                ("found", kind),
                ("next", "use the trtforge that others use who publish there"),
            ) from error
        reason = error.problem if isinstance(error, BuildError) else str(error).splitlines()[0]
        if progress:
            progress.note(f"the catalogue is damaged, and is made anew from the records: {reason}")
        return None


def _from_records(
    found: Catalogue, added: Sequence[Entry], namespace: Namespace, removed: Sequence[Entry] = ()
) -> Catalogue:
    """`found`, merged with what is `added` and what the records of dated tags say that it does not know."""
    tagged: Tagged = {
        image: frozenset(filter(is_dated, namespace.repository(image).tags()))
        for image in {*IMAGES, *(entry.image for entry in found.entries)}
    }
    known = {(entry.image, entry.dated) for entry in (*found.entries, *added, *removed)}
    unknown = [(image, tag) for image, tags in tagged.items() for tag in tags if (image, tag) not in known]
    recorded = [entry for image, tag in sorted(unknown) if (entry := _recorded(image, tag, namespace))]
    return merged(found, [*recorded, *added], tagged, removed)


def _recorded(image: str, tag: str, namespace: Namespace) -> Entry | None:
    """What the record of the image under a dated tag says; None: it has none, so it is not ours."""
    repository = namespace.repository(image)
    digest = repository.find_digest(tag)
    records = records_of(digest, repository) if digest else []
    return next((entry for entry in records if (entry.image, entry.dated) == (image, tag)), None)


_read_before: dict[str, Catalogue] = {}
"""The catalogue that was read or written last, by the digest of its artifact: thousands of entries take a
second to check, and a run of many cells reads it after each."""


def _remember(digest: Digest, catalogue: Catalogue) -> None:
    _read_before.clear()
    _read_before[digest] = catalogue


def _packed(catalogue: Catalogue) -> bytes:
    return gzip.compress(catalogue.model_dump_json().encode(), mtime=0)


def _forget(digest: Digest, namespace: Namespace) -> None:
    """Let the registry free a catalogue that was replaced; many do not let us, which does no harm."""
    try:
        namespace.repository(REPOSITORY).delete_manifest(digest)
    except EnvironmentLack:
        return
