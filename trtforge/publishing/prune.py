"""Pruning a registry: dated images beyond those that are kept, and what broken-off publishes left behind.

The catalogue comes first, so that nobody is led to what is about to go; then manifests, then their records,
then the blobs that no image uses any more. Nothing goes that a tag leads to, that a kept image stands on, or
that has no record of ours. Where a prune breaks off, the next one goes on; blobs that it had come to are left
to the registry's own garbage collection.

Source: OCI distribution-spec 1.1, "Content Management".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trtforge.oci import Digest, digest_of
from trtforge.production.staged import STAGING, staging_tag
from trtforge.publishing.catalogue import IMAGES, REPOSITORY, update_catalogue
from trtforge.publishing.dated import CLAIM
from trtforge.publishing.entry import RECORD
from trtforge.publishing.retention import aged, surplus
from trtforge.publishing.survey import LAYERS, Survey
from trtforge.registry.artifact import read_manifest
from trtforge.registry.referrers import fallback_tag

if TYPE_CHECKING:
    from datetime import date

    from trtforge.progress import Progress
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry
    from trtforge.registry.namespace import Namespace
    from trtforge.registry.repository import Repository


@dataclass(frozen=True)
class Pruned:
    """What went, or with `dry_run` would go.

    images: "tensorrt:...-20261101". tags: staging tags and claims that nobody finished.
    layers: shared ones that no image uses, by their key.
    freed: bytes of the blobs that the registry was told to delete. (Docker's gives the disk back in its own
        garbage collection.)
    """

    images: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    freed: int = 0


@dataclass
class _Plan:
    """What is to go: entries with their images, tags alone, manifests with all their tags, blobs.

    orphans: images that are gone, and whose records were left. idle: see `Catalogue.idle`.
    """

    idle: dict[str, date]
    survey: Survey
    entries: tuple[Entry, ...] = ()
    tags: list[tuple[str, str]] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    manifests: list[tuple[str, Digest]] = field(default_factory=list)
    orphans: list[tuple[str, Digest]] = field(default_factory=list)
    blobs: dict[tuple[str, Digest], int] = field(default_factory=dict)

    def pruned(self) -> Pruned:
        freed = {digest: size for (_, digest), size in self.blobs.items()}
        return Pruned(
            tuple(f"{entry.image}:{entry.dated}" for entry in self.entries),
            tuple(f"{image}:{tag}" for image, tag in self.tags),
            tuple(self.layers),
            sum(freed.values()),
        )


def prune(
    namespace: Namespace, catalogue: Catalogue, keep: int, progress: Progress, dry_run: bool = False
) -> Pruned:
    """Remove what may go from `namespace`.

    Args:
        catalogue: as it is. keep: dated images that stay for each image and short tag.

    Raises:
        EnvironmentLack: the registry does not answer, refuses, or does not delete; in the last case nothing
            was changed.
    """
    with progress.task(f"prune {namespace}"):
        if not dry_run:  # it may lack what an earlier prune, broken off, had already taken out of it
            catalogue = update_catalogue(namespace, [], progress)
        plan = _plan(namespace, catalogue, keep)
        if not dry_run:
            _carry_out(plan, namespace, catalogue, progress)
        return plan.pruned()


def _plan(namespace: Namespace, catalogue: Catalogue, keep: int) -> _Plan:
    survey, today = Survey(namespace, catalogue), namespace.now().date()
    claims = [tag for tag in namespace.repository(REPOSITORY).tags() if tag.startswith(CLAIM)]
    unfinished = [(image, tag) for image, tag in survey.others() if tag.startswith(STAGING)]
    unfinished += [(REPOSITORY, tag) for tag in claims]
    due, idle = aged({f"{image}:{tag}" for image, tag in unfinished}, catalogue.idle, today)
    plan = _Plan(idle, survey, tags=[(image, tag) for image, tag in unfinished if f"{image}:{tag}" in due])
    plan.orphans = survey.orphans()
    layers_left = any(name.startswith(f"{LAYERS}:") for name in catalogue.idle)
    if not surplus(catalogue, keep, ()) and not plan.tags and not layers_left:
        return plan  # nothing else can have fallen out of use
    survey.count(version for version in survey.others() if version not in plan.tags)
    plan.entries = surplus(catalogue, keep, survey.manifests())
    kept = [entry for entry in catalogue.entries if entry not in plan.entries]
    survey.count((entry.image, entry.digest) for entry in kept)
    used = survey.manifests()
    for image, tag in plan.tags:
        digest = namespace.repository(image).find_digest(tag) if image in IMAGES else None
        if digest and digest not in used and not catalogue.by_digest(image, digest):
            plan.manifests.append((image, digest))
    doomed = [*((entry.image, entry.digest) for entry in plan.entries), *plan.manifests]
    plan.blobs = survey.freed_by(doomed)
    unused = survey.unused_layers()
    due_layers, idle_layers = aged({f"{LAYERS}:{key}" for key in unused}, catalogue.idle, today)
    plan.idle |= idle_layers
    plan.layers = [key for key in sorted(unused) if f"{LAYERS}:{key}" in due_layers]
    for key in plan.layers:
        digest, blobs = unused[key]
        plan.manifests.append((LAYERS, digest))
        plan.blobs |= {(LAYERS, blob): size for blob, size in blobs.items()}
    return plan


def _carry_out(plan: _Plan, namespace: Namespace, catalogue: Catalogue, progress: Progress) -> None:
    if plan.entries or plan.tags or plan.manifests or plan.orphans:
        # None has this digest. A registry that does not delete says so, before anything was changed.
        namespace.repository(IMAGES[-1]).delete_manifest(digest_of(b"no manifest"))
    if plan.entries or plan.idle != catalogue.idle:
        update_catalogue(namespace, [], progress, removed=plan.entries, idle=plan.idle)
    spared = []
    for entry in plan.entries:
        repository = namespace.repository(entry.image)
        tags = (*entry.tags, staging_tag(entry.digest))  # rolled back to, or published again, just now
        if any(repository.find_digest(tag) == entry.digest for tag in tags):
            spared.append(entry)
            continue
        records = repository.referrers(entry.digest, RECORD)
        repository.delete_manifest(entry.digest)
        _delete_records(repository, entry.digest, records)
    for image, tag in plan.tags:
        namespace.repository(image).delete_tag(tag)
    for name, digest in plan.manifests:
        namespace.repository(name).delete_manifest(digest)
    for image, subject in plan.orphans:
        repository = namespace.repository(image)
        _delete_records(repository, subject, repository.referrers(subject, RECORD))
    if plan.blobs and not spared:
        plan.survey.count_new()  # who publishes meanwhile counts on the blobs that it found
        for name, digest in plan.blobs:
            if not plan.survey.uses(name, digest):
                namespace.repository(name).delete_blob(digest)
    if plan.entries:
        update_catalogue(namespace, [], progress)


def _delete_records(repository: Repository, subject: Digest, records: list[Digest]) -> None:
    """Remove our records of an image that is gone, and the tag that lists them if it lists nothing else."""
    index = repository.find_manifest(fallback_tag(subject))
    for record in records:
        found = repository.find_manifest(record)
        repository.delete_manifest(record)
        for part in read_manifest(found.body, record).layers if found else ():
            repository.delete_blob(part.digest)
    if index:
        listed = {part.digest for part in read_manifest(index.body, fallback_tag(subject)).manifests}
        if listed <= set(records):
            repository.delete_manifest(index.digest)
