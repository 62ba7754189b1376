"""Rollback: the tags of an earlier dated image are put back on it.

The dated images stay as they are, and so does the catalogue: the newest image of the cell is still the
newest, so a nightly whose inputs have not changed does not publish it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.errors import ForeignTag, RequestError
from trtforge.publishing.catalogue import current
from trtforge.publishing.entry import Entry, number_of
from trtforge.publishing.publish import finish

if TYPE_CHECKING:
    from trtforge.progress import Progress
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.registry.namespace import Namespace


@dataclass(frozen=True)
class RolledBack:
    """What `tag` led to (None: to nothing of ours), what it leads to now, and the tags that moved."""

    tag: str
    before: Entry | None
    now: Entry
    moved: tuple[str, ...]


def rollback(
    namespace: Namespace, catalogue: Catalogue, image: str, tag: str, to: str, progress: Progress
) -> RolledBack:
    """Put the tags of an earlier image of `tag` back on it, by copying its manifest.

    Args:
        tag: exact or short.
        to: its day, "20261120", for the last one of that day, or "20261120.2"; "": the one before the
            current one.

    Raises:
        RequestError: there is no such image; with those that there are.
        ForeignTag: `to` is open, and the tag leads to an image that is not ours.
        EnvironmentLack: the registry does not answer or refuses.
    """
    name, repository = f"{namespace.name(image)}:{tag}", namespace.repository(image)
    entries = catalogue.of(image, tag)
    before = current(namespace, catalogue, image, tag)
    digest = repository.find_digest(tag)
    if not to and digest and before is None:
        raise ForeignTag(name, digest)
    target = _chosen(entries, before, to)
    found = repository.find_manifest(target.digest) if target else None
    if target is None or found is None:
        raise RequestError(
            f"{name} has no image {f'of {to}' if to else 'before this one'}",
            *(("published", entry.dated) for entry in entries),
            (
                "next",
                "name one of these with --to" if entries else "python build.py catalogue lists what there is",
            ),
        )
    moved = [one for one in target.tags if repository.find_digest(one) != target.digest]
    for one in moved:
        repository.put_manifest(found.body, found.media_type, one)
    for entry in entries:
        if entry.order > target.order:  # if its publish was broken off, it is not to go on by itself
            finish(entry.digest, repository, progress)
    return RolledBack(tag, before, target, tuple(moved))


def _chosen(entries: tuple[Entry, ...], before: Entry | None, to: str) -> Entry | None:
    """The first of `entries`, which are newest first, that is meant."""
    for entry in entries:
        if to:
            day = f"{entry.day:%Y%m%d}"
            meant = to in (day, f"{day}.{number_of(entry.dated)}")
        else:
            meant = before is None or (entry.order < before.order and entry.digest != before.digest)
        if meant:
            return entry
    return None
