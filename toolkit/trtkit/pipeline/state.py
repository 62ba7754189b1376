"""What a step made, remembered: it is done again only when something that decides it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from trtkit.sidecar import file_sha256

FOLDER = "steps"


class Done(BaseModel):
    """A step that was done.

    key: names everything that decided its result. files: what it made, name -> SHA-256.
    says: what came of it, in a line; report: the same in full.
    """

    # A report may hold NaN, which JSON does not have.
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    key: str
    files: dict[str, str]
    says: str
    report: dict[str, Any]


def key_of(facts: Mapping[str, Any]) -> str:
    """A name for `facts`: plain values that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def remembered(work: Path, step: str, key: str) -> Done | None:
    """What `step` made in the folder `work`, if it was decided by the same things and is there unharmed."""
    try:
        done = Done.model_validate_json(_place(work, step).read_bytes())
    except (OSError, ValidationError):
        return None
    whole = done.key == key and all(
        (work / name).is_file() and file_sha256(work / name) == sha256 for name, sha256 in done.files.items()
    )
    return done if whole else None


def remember(work: Path, step: str, done: Done) -> None:
    """Write it down; it is there whole or not at all."""
    place = _place(work, step)
    place.parent.mkdir(exist_ok=True)
    new = place.with_suffix(".new")
    new.write_text(done.model_dump_json(indent=1) + "\n", encoding="utf-8")
    new.replace(place)


def _place(work: Path, step: str) -> Path:
    return work / FOLDER / f"{step}.json"
