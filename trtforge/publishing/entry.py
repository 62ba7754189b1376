"""What is known of one published image, and its record: that knowledge as an artifact attached to the image.

A record and the dated tag that it names are the truth about what is published; the catalogue is an index
over them. Only an image that has a record is ours.

Sources: OCI image-spec 1.1 (manifest.md: `subject`, artifacts); distribution-spec 1.1 (referrers).
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtforge.oci import Digest, canonical_json
from trtforge.registry.artifact import put_artifact, read_artifact
from trtforge.smoke import SmokeReport  # noqa: TC001 (pydantic needs it at run time)

if TYPE_CHECKING:
    from trtforge.registry.repository import Fetched, Repository

RECORD = "application/vnd.trtforge.record.v1+json"

_DATED = re.compile(r"(?P<exact>.+)-(?P<day>\d{8})(?:\.(?P<number>[1-9]\d*))?")


class Entry(BaseModel):
    """One published image. Fields that a newer trtforge adds are kept as they are.

    image: its name in the chain. tags: exact, then short ones, as they were when it was published.
    dated: the tag that never leaves it. recipe_key: of the recipe it was made from.
    axes: those that decide it. sm: compute capabilities, none for an image below TensorRT's.
    driver: the oldest that runs it.
    size: bytes of its compressed layers; unpacked: of their tars.
    packages: name -> version of what it adds to its parent (see `Catalogue.packages`).
    layers: name -> bytes, compressed and on disk, of each layer that it adds; none in older records.
    smoke: what its tests said; None where it has none, and then
    tested_through: "tensorrt@sha256:...", the image upon it whose tests passed.
    parent: digest of the image below, "" where that is not ours.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    image: str
    tags: tuple[str, ...] = Field(min_length=1)
    dated: str = Field(pattern=f"^{_DATED.pattern}$")
    digest: Digest
    recipe_key: str
    day: date
    axes: dict[str, str]
    sm: tuple[str, ...] = ()
    driver: str = ""
    size: int
    unpacked: int
    packages: dict[str, str] = Field(default_factory=dict)
    layers: dict[str, tuple[int, int]] = Field(default_factory=dict)
    smoke: SmokeReport | None = None
    tested_through: str = ""
    parent: str = ""

    @property
    def exact(self) -> str:
        """The tag that names the cell wholly."""
        return self.tags[0]

    @property
    def order(self) -> tuple[date, int, str]:
        """Later ones are newer: the day, and which image of it this is; then the tag, to have an order."""
        return self.day, number_of(self.dated), self.dated


def dated_tag(exact: str, day: date, number: int = 1) -> str:
    """`exact` as a dated tag: `...-20261123`, and `...-20261123.2` for the second image of a day."""
    return f"{exact}-{day:%Y%m%d}" + (f".{number}" if number > 1 else "")


def is_dated(tag: str) -> bool:
    """Whether `tag` looks like a dated one; whether it is ours its record says."""
    return _DATED.fullmatch(tag) is not None


def number_of(dated: str) -> int:
    """Which image of its day a dated tag names."""
    found = _DATED.fullmatch(dated)
    return int(found["number"] or 1) if found else 1


def day_of(text: str) -> date:
    """The day that `20261123` says.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text, "%Y%m%d").date()


def attach_record(entry: Entry, image: Fetched, repository: Repository) -> None:
    """Attach `entry` to the image that it is about; the same one again changes nothing."""
    put_artifact(repository, RECORD, canonical_json(entry.model_dump(mode="json")), subject=image)


def records_of(digest: Digest, repository: Repository) -> list[Entry]:
    """What the records attached to an image say, newest first; those that cannot be read are left out."""
    bodies = [read_artifact(repository, found, RECORD) for found in repository.referrers(digest, RECORD)]
    entries = []
    for body in bodies:
        try:
            entry = Entry.model_validate_json(body or b"")
        except ValidationError:
            continue
        if entry.digest == digest:
            entries.append(entry)
    return sorted(entries, key=lambda entry: entry.order, reverse=True)
