"""Images of real chains, staged in a registry and promoted; each of their layers has one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.store_factory import finish_images
from trtforge.oci import MANIFEST, Digest, digest_of
from trtforge.production.staged import Staged, staging_tag
from trtforge.progress import Silent
from trtforge.publishing.catalogue import IMAGES
from trtforge.publishing.entry import Entry, dated_tag, is_dated, records_of
from trtforge.publishing.facts import facts_of
from trtforge.publishing.publish import promote
from trtforge.recipe import Recipes
from trtforge.registry.push import push_image
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtforge.cells import Cell, Cells
    from trtforge.lock import Lock
    from trtforge.registry.namespace import Namespace
    from trtforge.store import Store

DAY = date(2026, 11, 23)


def entry_of(
    exact: str = "10-cu12.1-ampere",
    day: date = DAY,
    number: int = 1,
    content: str = "",
    image: str = "tensorrt",
) -> Entry:
    """An entry of an image that nobody has made."""
    short = exact.partition("-")[2]
    dated = dated_tag(exact, day, number)
    return Entry(
        image=image,
        tags=(exact, short),
        dated=dated,
        digest=digest_of((content or dated).encode()),
        recipe_key=digest_of(exact.encode()),
        day=day,
        axes={"cuda": "12.1"},
        size=1,
        unpacked=2,
    )


def report_of(name: str = "image", *, gpu: bool = False, ok: bool = True) -> SmokeReport:
    """A smoke report: one check passed, and one that needs a GPU passed or was skipped."""
    results = (
        CheckResult(
            name="user",
            status="passed" if ok else "failed",
            reason="" if ok else "is root",
            seconds=1,
            detail={"uid": 1000},
        ),
        CheckResult(
            name="torch_gpu",
            status="passed" if gpu else "skipped",
            reason="" if gpu else "no GPU",
            seconds=1,
            detail={},
        ),
    )
    return SmokeReport(image=name, results=results)


def changed(lock: Lock, package: str, digit: str) -> Lock:
    """`lock` in which one wheel is another file; `digit`: what the hash of it repeats."""
    (old,) = (pin for pin in lock.wheels.values() if pin.name == package)
    return lock.model_copy(
        update={"wheels": {**lock.wheels, old.filename: old.model_copy(update={"sha256": (digit * 64)[:64]})}}
    )


@dataclass
class Publisher:
    """Who publishes one cell, in whatever recipe."""

    cells: Cells
    store: Store
    namespace: Namespace
    request: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"cuda": ("12.1",), "arch": ("ampere",), "tensorrt": ("rtx",)}
    )

    @cached_property
    def recipes(self) -> Recipes:
        return Recipes(PROJECT, self.cells)

    @property
    def cell(self) -> Cell:
        (choice,) = self.cells.choose(self.request)
        return choice.cell

    @property
    def lock(self) -> Lock:
        return lock_of(self.cells, self.cell)

    def make(self, lock: Lock | None = None) -> list[Staged]:
        """Have the manifests of the cell's chain under staging tags: enough for a registry in memory."""
        chain = self.recipes.chain(self.cell, lock or self.lock)
        staged = []
        for recipe, image in zip(chain, finish_images(chain, self.store), strict=True):
            body = self.store.blob(image.digest).read_bytes()
            self.namespace.repository(recipe.image).put_manifest(body, MANIFEST, staging_tag(image.digest))
            staged.append(Staged(recipe, image))
        return staged

    def stage(self, lock: Lock | None = None) -> list[Staged]:
        """Push the cell's chain under staging tags."""
        chain = self.recipes.chain(self.cell, lock or self.lock)
        staged = []
        for recipe, image in zip(chain, finish_images(chain, self.store), strict=True):
            repository = self.namespace.repository(recipe.image)
            push_image(image, staging_tag(image.digest), repository, self.store, Silent())
            staged.append(Staged(recipe, image))
        return staged

    def promote(
        self,
        staged: list[Staged],
        *,
        reports: Mapping[str, SmokeReport] | None = None,
        require_gpu: bool = False,
    ) -> list[Entry]:
        """Promote what was staged, with good reports unless others are given."""
        chain = [one.recipe for one in staged]
        good = {recipe.key: report_of(recipe.ref) for recipe in chain if recipe.image != "os"}
        return promote(
            staged,
            good if reports is None else reports,
            facts_of(self.cell, chain, self.cells),
            self.namespace,
            Silent(),
            require_gpu=require_gpu,
        )

    def publish(self, lock: Lock | None = None) -> list[Entry]:
        return self.promote(self.stage(lock))

    def leads_to(self, tag: str, image: str = "tensorrt") -> Digest | None:
        return self.namespace.repository(image).find_digest(tag)


def require_whole(namespace: Namespace, seen: dict[str, Digest] | None = None) -> None:
    """See that each public tag leads to a whole image with a record, and each dated one to its own.

    Args:
        seen: what tags led to before: dated ones still do, and what leads where it led is whole.
    """
    seen = {} if seen is None else seen
    for image in IMAGES:
        repository = namespace.repository(image)
        for tag in repository.tags():
            name = f"{image}:{tag}"
            if tag.startswith(("staging-", "sha256-")):
                continue
            digest = repository.find_digest(tag)
            assert digest
            if seen.get(name) == digest:
                continue
            assert not (name in seen and is_dated(tag)), f"{name} was moved"
            seen[name] = digest
            assert repository.find_manifest(digest)
            records = records_of(digest, repository)
            assert records, f"{name} has no record"
            assert not is_dated(tag) or tag in {one.dated for one in records}
