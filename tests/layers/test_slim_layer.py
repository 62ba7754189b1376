"""A layer whose wheel is slimmed: its libraries are what the slimmer makes of them, all else is as it was."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from typing import TYPE_CHECKING

import pytest

from tests.layers.test_cut import RECORD, SITE, files_of, pinned
from tests.slim.library_factory import Library, code
from tests.wheel_factory import TARGET, ZipMember, make_wheel
from trtforge.errors import StaleFileRule
from trtforge.layers.cut import Cut, LeftOut
from trtforge.layers.wheel_layer import layer_key
from trtforge.slim import library as slimmer
from trtforge.slim.errors import NothingRuns, NotUnderstood
from trtforge.store import Store

if TYPE_CHECKING:
    from pathlib import Path

NAME = "demo/lib/libdemo_cuda.so"
MEMBERS = [
    ZipMember("demo/__init__.py", b"name = 'demo'\n"),
    ZipMember(NAME, Library([[code("sm_80", 20_000), code("sm_90", 90_000)]]).build()),
    ZipMember("demo/lib/libother.so", b"\x7fELF of no use"),
]
SLIM = Cut((), libraries=("demo/lib/libdemo_cuda.so",), sm=("80",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, MEMBERS)


def test_the_library_is_the_slimmed_one_and_all_else_is_as_it_was(
    store: Store, wheel: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before.so", tmp_path / "after.so"
    before.write_bytes(MEMBERS[1].content)
    slimmed = slimmer.slim_library(before, after, ["80"])
    whole, slim = files_of(store, pinned(wheel)), files_of(store, pinned(wheel, SLIM))
    assert slim[SITE + NAME] == after.read_bytes()
    assert len(slim[SITE + NAME]) == slimmed.after < slimmed.before
    changed = {SITE + NAME, RECORD}
    assert {name: whole[name] for name in whole.keys() - changed} == {
        name: slim[name] for name in slim.keys() - changed
    }


def test_record_says_what_is_installed(store: Store, wheel: Path) -> None:
    files = files_of(store, pinned(wheel, SLIM))
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(files[RECORD].decode()))}
    digest = base64.urlsafe_b64encode(hashlib.sha256(files[SITE + NAME]).digest()).decode().rstrip("=")
    assert rows[NAME] == [f"sha256={digest}", str(len(files[SITE + NAME]))]


def test_the_layer_is_a_function_of_the_gpus_and_of_the_slimmer(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*sm: str) -> str:
        return layer_key([pinned(wheel, Cut((), libraries=(NAME,), sm=sm))], TARGET)

    before = key("80")
    assert len({before, key("80", "86"), key("90")}) == 3
    monkeypatch.setattr("trtforge.layers.cut.SLIM_FORMAT", slimmer.FORMAT + 1)
    assert key("80") != before


def test_what_cannot_be_slimmed_makes_no_layer(store: Store, wheel: Path) -> None:
    with pytest.raises(NothingRuns) as nothing:
        files_of(store, pinned(wheel, Cut((), libraries=(NAME,), sm=("120",))))
    assert (nothing.value.sm, nothing.value.has) == ("120", ("sm_80", "sm_90"))
    with pytest.raises(NotUnderstood, match="libother"):
        files_of(store, pinned(wheel, Cut((), libraries=("*/libother.so",), sm=("80",))))
    with pytest.raises(StaleFileRule, match="slim"):
        files_of(store, pinned(wheel, Cut((), libraries=("*/libgone.so",), sm=("80",))))
    assert not list((store.root / "tmp").iterdir())


def test_a_slimmed_wheel_may_lack_files_too(store: Store, wheel: Path) -> None:
    rule = LeftOut("other", ("demo/lib/libother.so",))
    files = files_of(store, pinned(wheel, Cut((rule,), libraries=(NAME,), sm=("90",))))
    assert SITE + "demo/lib/libother.so" not in files
