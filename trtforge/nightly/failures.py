"""Which cells have failed on which nights; kept in the registry, beside the catalogue, and nowhere else."""

from __future__ import annotations

from datetime import date  # noqa: TC003 (pydantic needs it at run time)
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from trtforge.errors import EnvironmentLack
from trtforge.oci import canonical_json
from trtforge.publishing.catalogue import REPOSITORY
from trtforge.registry.artifact import put_artifact, read_artifact

if TYPE_CHECKING:
    from trtforge.progress import Progress
    from trtforge.registry.namespace import Namespace

KIND = "application/vnd.trtforge.failure.v1+json"

PREFIX = "failed-"

LONGEST_TAG = 128
"""Characters that a tag may have (OCI distribution-spec 1.1)."""


class Failure(BaseModel):
    """A cell that fails.

    recipe_key: of the recipe that failed: with another one the count begins anew.
    nights: the days, by the registry's clock, on which it failed. reason: of the last one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cell: str
    recipe_key: str
    nights: tuple[date, ...]
    reason: str

    def again(self, recipe_key: str, night: date, reason: str) -> Failure:
        """With one more night; two failures in one night count once."""
        before = self.nights if recipe_key == self.recipe_key else ()
        nights = tuple(sorted({*before, night}))
        return Failure(cell=self.cell, recipe_key=recipe_key, nights=nights, reason=reason)

    def holds(self, recipe_key: str, hold_after: int) -> bool:
        """Whether the cell is left alone while its recipe has this key."""
        return self.recipe_key == recipe_key and len(self.nights) >= hold_after


def first_failure(cell: str, recipe_key: str, night: date, reason: str) -> Failure:
    """The failure of a cell that did not fail before."""
    return Failure(cell=cell, recipe_key=recipe_key, nights=(night,), reason=reason)


def read_failures(namespace: Namespace, progress: Progress) -> dict[str, Failure]:
    """Every failure that is remembered, by its cell."""
    repository = namespace.repository(REPOSITORY)
    found = {}
    for tag in repository.tags():
        if tag.startswith(PREFIX):
            try:
                failure = Failure.model_validate_json(read_artifact(repository, tag, KIND) or b"")
            except ValidationError:
                progress.note(f"{repository.place}:{tag} cannot be read: its nights are counted anew")
                continue
            if failure.nights:
                found[failure.cell] = failure
    return found


def keep_failure(failure: Failure, namespace: Namespace) -> None:
    """Remember it for the nights to come."""
    body = canonical_json(failure.model_dump(mode="json"))
    put_artifact(namespace.repository(REPOSITORY), KIND, body, tag=tag_of(failure.cell))


def forget_failure(failure: Failure, namespace: Namespace) -> None:
    """Its cell is well again. Where the registry lets us delete nothing, no night is left of it."""
    try:
        namespace.repository(REPOSITORY).delete_tag(tag_of(failure.cell))
    except EnvironmentLack:
        keep_failure(failure.model_copy(update={"nights": ()}), namespace)


def tag_of(cell: str) -> str:
    """Where the failure of a cell is kept."""
    return f"{PREFIX}{cell}"[:LONGEST_TAG]
