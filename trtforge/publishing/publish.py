"""Promotion: images that lie tested under staging tags get their public ones, in an order that may break off.

For each image, parents first: its record is attached; then it gets its dated tag, which never moves; then its
exact and its short tag are moved to it. At the end the catalogue is brought up to date, and the staging tags
go. Wherever that breaks off, every public tag leads to a whole, tested image that has a record, and the next
run finds what was done and goes on. A staging tag that still leads to an image says that its publish is
unfinished.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from trtforge.errors import BuildError, EnvironmentLack, ForeignTag, NotTested, RequestError
from trtforge.oci import MANIFEST
from trtforge.production.staged import staging_tag
from trtforge.publishing.catalogue import read_catalogue, update_catalogue
from trtforge.publishing.dated import take_dated_tag
from trtforge.publishing.entry import Entry, attach_record, records_of
from trtforge.publishing.tested import brief, reports_of, require_tested
from trtforge.publishing.within_budget import require_within_budget
from trtforge.registry.artifact import EMPTY, artifact_manifest
from trtforge.sizes.report import image_layers, layer_sizes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import date

    from trtforge.oci import Digest
    from trtforge.policy import RegistryPolicy
    from trtforge.production.staged import Staged
    from trtforge.progress import Progress
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.facts import Facts
    from trtforge.recipe import Recipe
    from trtforge.registry.namespace import Namespace
    from trtforge.registry.repository import Fetched, Repository
    from trtforge.sizes.size import Size
    from trtforge.smoke import SmokeReport

FINISHED = "application/vnd.trtforge.finished.v1"
"""Type of the artifact that the staging tag of a published image leads to where tags cannot be deleted."""

_SKEW_S = 300.0
"""Seconds by which clocks may differ before we say so."""


def promote(
    staged: Sequence[Staged],
    reports: Mapping[str, SmokeReport],
    facts: Mapping[str, Facts],
    namespace: Namespace,
    progress: Progress,
    *,
    require_gpu: bool = False,
) -> list[Entry]:
    """Give the images of a chain, which are in `namespace` and parent first, their public tags.

    Args:
        reports, facts: by the key of the recipe. An image without smoke tests of its own (`os`) is tested
            through the one upon it.

    Raises:
        NotTested: a test failed or is missing, or with `require_gpu` one was skipped for want of a GPU;
            the staging tags of what failed are removed.
        OverBudget: an image is larger than it may be; what is staged stays.
        ForeignTag: somebody else has moved one of the tags; it is left as it is.
        EnvironmentLack: the registry does not answer or refuses.
    """
    catalogue = read_catalogue(namespace, progress)
    tested = reports_of(staged, reports, catalogue)
    try:
        require_tested(staged, tested, require_gpu=require_gpu)
    except NotTested:
        for one in staged:
            if (report := tested.get(one.recipe.key)) and not report.ok:
                finish(one.image.digest, namespace.repository(one.recipe.image), progress)
        raise
    require_within_budget(staged, facts, catalogue)
    chain = [
        _Promotion(one, staged, tested.get(one.recipe.key), facts[one.recipe.key], namespace, catalogue)
        for one in staged
    ]
    for promotion in chain:
        promotion.check_tags()
    day = namespace.now().date()
    entries = [promotion.run(day) for promotion in chain]
    now = update_catalogue(namespace, entries, progress)
    for promotion, entry in zip(chain, entries, strict=True):
        promotion.give_way(entry, now)
        finish(entry.digest, namespace.repository(entry.image), progress)
    return entries


def finish(digest: Digest, repository: Repository, progress: Progress) -> None:
    """Remove the staging tag of an image; the images below and upon it keep theirs.

    Many registries delete nothing; there it is moved away from the image, which says the same.
    """
    try:
        repository.delete_tag(staging_tag(digest))
    except EnvironmentLack:
        try:
            repository.put_blob(EMPTY)
            repository.put_manifest(artifact_manifest(FINISHED), MANIFEST, staging_tag(digest))
        except EnvironmentLack as error:
            progress.note(f"{repository.place}:{staging_tag(digest)} stays: {error.problem}")


def is_published(recipe: Recipe, catalogue: Catalogue, repository: Repository, tags: Collection[str]) -> bool:
    """Whether the newest image of `recipe`'s exact tag was made from it and its publish is finished. (Its
    tags need not lead to it: that is so after a rollback.)

    Args:
        tags: all tags of `repository`, listed once for many recipes.
    """
    entry = catalogue.newest(recipe.image, recipe.ref.rpartition(":")[2])
    if entry is None or entry.recipe_key != recipe.key or entry.dated not in tags:
        return False
    staging = staging_tag(entry.digest)
    return staging not in tags or repository.find_digest(staging) != entry.digest


def published_images(
    recipes: Iterable[Recipe], catalogue: Catalogue, namespace: Namespace
) -> dict[str, Digest]:
    """Of `recipes`, by their key, those whose image is published and need not be made."""
    distinct = {recipe.key: recipe for recipe in recipes}
    images = {recipe.image for recipe in distinct.values()}
    tags = {image: frozenset(namespace.repository(image).tags()) for image in images}
    found = {}
    for key, recipe in distinct.items():
        repository = namespace.repository(recipe.image)
        entry = catalogue.newest(recipe.image, recipe.ref.rpartition(":")[2])
        if entry and is_published(recipe, catalogue, repository, tags[recipe.image]):
            found[key] = entry.digest
    return found


def clock_difference(namespace: Namespace) -> str:
    """What to say if this machine's clock is not the registry's, by which dates are given; "" if it is."""
    ahead = (datetime.now(UTC) - namespace.now()).total_seconds()
    if abs(ahead) <= _SKEW_S:
        return ""
    minutes, word = abs(ahead) / 60, "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {minutes:.0f} minutes {word} that of {namespace.host}, which counts"


def require_redistribution(namespace: Namespace, policy: RegistryPolicy) -> None:
    """NVIDIA's terms let TensorRT be redistributed only inside software with material added functionality; so
    a push to where anyone can pull from needs a word that this is so.

    Raises:
        RequestError: `namespace` is such a place, and matrix.yaml does not say the word.
    """
    public = [one for one in policy.public if f"{namespace}/".startswith(f"{one.rstrip('/')}/")]
    if public and policy.redistribution != "acknowledged":
        raise RequestError(
            f"{namespace} is public, and redistribution is not acknowledged; nothing was pushed",
            ("rule", "TensorRT may be redistributed only inside software with material added functionality"),
            ("found", f"matrix.yaml: registry: public: {public[0]}, redistribution: {policy.redistribution}"),
            ("next", "if your images are such software, say redistribution: acknowledged there"),
        )


class _Promotion:
    """One image of a chain on its way to its public tags."""

    def __init__(
        self,
        one: Staged,
        chain: Sequence[Staged],
        report: SmokeReport | None,
        facts: Facts,
        namespace: Namespace,
        catalogue: Catalogue,
    ) -> None:
        self._recipe, self._image, self._chain = one.recipe, one.image, chain
        self._report, self._facts = report, facts
        self._namespace, self._catalogue = namespace, catalogue
        self._repository = namespace.repository(one.recipe.image)

    def check_tags(self) -> None:
        """Raise ForeignTag if a tag that is to move leads to an image that is not ours."""
        for tag in self._facts.tags:
            self._require_ours(tag, self._repository.find_digest(tag))

    def run(self, day: date) -> Entry:
        """Attach the record, give the dated tag, move the others."""
        image = self._repository.find_manifest(self._image.digest)
        if image is None:
            raise BuildError(
                f"{self._namespace.name(self._recipe.image)}@{self._image.digest} is gone from the registry",
                ("state", "no public tag of it was moved"),
                ("next", "run the same command again: it is pushed anew"),
            )
        entry = self._known() or self._dated(image, day)
        for tag in entry.tags:
            found = self._repository.find_digest(tag)
            if found != image.digest:
                self._require_ours(tag, found)
                self._repository.put_manifest(image.body, image.media_type, tag)
        return entry

    def give_way(self, entry: Entry, now: Catalogue) -> None:
        """Where somebody published a newer image of this cell meanwhile, and we moved a tag after they did,
        let it lead to theirs."""
        newest = now.newest(entry.image, entry.exact)
        if newest is None or newest.order <= entry.order:
            return
        image = self._repository.find_manifest(newest.digest)
        for tag in newest.tags:
            if image and self._repository.find_digest(tag) == entry.digest:
                self._repository.put_manifest(image.body, image.media_type, tag)

    def _known(self) -> Entry | None:
        """The newest entry of this exact tag, if it is of this very image: an earlier run came that far."""
        recorded = [entry for entry in self._records if self._repository.find_digest(entry.dated)]
        entries = [*recorded, *self._catalogue.of(self._recipe.image, self._exact)]
        newest = max(
            (entry for entry in entries if entry.exact == self._exact),
            key=lambda entry: entry.order,
            default=None,
        )
        if newest and newest.digest == self._image.digest and newest.tags == self._facts.tags:
            return newest
        return None

    def _dated(self, image: Fetched, day: date) -> Entry:
        """The entry of this image under a dated tag of `day`, and its record."""
        recorded = {entry.dated: entry for entry in self._records}  # by a run that was killed after it, too

        def put(tag: str) -> None:
            if tag not in recorded:
                recorded[tag] = self._entry(tag, day)
                attach_record(recorded[tag], image, self._repository)
            self._repository.put_manifest(image.body, image.media_type, tag)

        tag = take_dated_tag(self._namespace, self._recipe.image, self._exact, day, image.digest, put)
        if tag not in recorded:  # somebody else publishes this very image, and was faster
            recorded |= {entry.dated: entry for entry in records_of(image.digest, self._repository)}
        return recorded[tag]

    def _entry(self, dated: str, day: date) -> Entry:
        facts, top = self._facts, self._chain[-1]
        below = [one.image.digest for one in self._chain if one.recipe == self._recipe.parent]
        return Entry(
            image=self._recipe.image,
            tags=facts.tags,
            dated=dated,
            digest=self._image.digest,
            recipe_key=self._recipe.key,
            day=day,
            axes=facts.axes,
            sm=facts.sm,
            driver=facts.driver,
            size=self._image.size,
            unpacked=self._image.unpacked,
            packages=facts.packages,
            layers={name: (size.compressed, size.on_disk) for name, size in self._layers().items()},
            smoke=brief(self._report) if self._report else None,
            tested_through="" if self._report else f"{top.recipe.image}@{top.image.digest}",
            parent=below[0] if below else "",
        )

    def _layers(self) -> dict[str, Size]:
        """The size of each layer that this image adds, by its name."""
        sizes = layer_sizes(image_layers(self._recipe, self._image))
        return {name: size for (image, name), size in sizes.items() if image == self._recipe.image}

    def _require_ours(self, tag: str, digest: Digest | None) -> None:
        image = self._recipe.image
        ours = digest in (None, self._image.digest) or self._catalogue.by_digest(image, str(digest))
        if digest and not ours and not records_of(digest, self._repository):
            raise ForeignTag(f"{self._namespace.name(image)}:{tag}", digest)

    @cached_property
    def _records(self) -> list[Entry]:
        """The entries that records of this very image told of when we began."""
        found = records_of(self._image.digest, self._repository)
        return [entry for entry in found if entry.recipe_key == self._recipe.key]

    @property
    def _exact(self) -> str:
        return self._facts.tags[0]
