from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trtforge.oci import digest_of
from trtforge.record import Record, find_record, keep_record
from trtforge.smoke import CheckResult, SmokeReport
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

KEY = digest_of(b"recipe")
SMOKE = SmokeReport(
    image="i",
    results=(CheckResult(name="imports", status="skipped", reason="no GPU", seconds=0.5, detail={"a": 1}),),
)
RECORD = Record(
    ref="i:1",
    recipe_key=KEY,
    digest=digest_of(b"m"),
    image_id="sha256:x",
    layers=3,
    size=5,
    unpacked=9,
    smoke=SMOKE,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_record_is_found_as_it_was_kept(store: Store) -> None:
    keep_record(RECORD, store)
    assert find_record(KEY, store) == RECORD


def test_the_newest_replaces_the_one_before(store: Store) -> None:
    keep_record(RECORD, store)
    keep_record(RECORD.model_copy(update={"smoke": None}), store)
    found = find_record(KEY, store)
    assert found
    assert found.smoke is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"{}", b'{"ref": "i:1", "later": 1}'])
def test_what_cannot_be_read_is_no_record(store: Store, content: bytes) -> None:
    keep_record(RECORD, store)
    (file,) = (store.root / "records").iterdir()
    file.write_bytes(content)
    assert find_record(KEY, store) is None


def test_there_is_none_for_another_recipe(store: Store) -> None:
    keep_record(RECORD, store)
    assert find_record(digest_of(b"other"), store) is None
