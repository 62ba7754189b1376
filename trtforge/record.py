"""Records: what is known of a finished image, kept beside it in the store and shown by `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from trtforge.smoke import SmokeReport  # noqa: TC001 (pydantic needs it at run time)

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.oci import Digest
    from trtforge.store import Store


class Record(BaseModel):
    """What was made and what was seen inside it.

    digest: of the manifest; "" for an image that only an Engine has (`--builder docker`).
    image_id: of the image in an Engine: the digest of its configuration.
    size: bytes of its compressed layers; unpacked: of their tars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str
    recipe_key: str
    digest: str
    image_id: str
    layers: int
    size: int
    unpacked: int
    smoke: SmokeReport | None = None


def keep_record(record: Record, store: Store) -> None:
    """Write `record` where `find_record` looks."""
    store.write_text(_place(record.recipe_key, store), record.model_dump_json(indent=1) + "\n")


def find_record(recipe_key: Digest | str, store: Store) -> Record | None:
    """The record of the image made from this recipe, if there is one that can be read."""
    try:
        return Record.model_validate_json(_place(recipe_key, store).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _place(recipe_key: str, store: Store) -> Path:
    return store.root / "records" / f"{recipe_key.removeprefix('sha256:')}.json"
