"""Pinned files arrive whole, checked and once, whatever the server does on the way."""

from __future__ import annotations

import random
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.index.test_local_project import FILES, write
from tests.index.test_sdist import careless_backend, careless_sdist
from tests.loopback_index import (
    LoopbackIndex,
    StallAfter,
    Status,
    ask_only,
    loopback_index,
    sha256_of,
    tiny_wheel,
)
from trtforge.errors import (
    BuildError,
    EnvironmentLack,
    HashMismatch,
    IndexUnreachable,
    LockError,
    MatrixError,
)
from trtforge.index.fetch import fetch, fetch_each
from trtforge.index.pins import Pin
from trtforge.index.resolve import Need, Sources, resolve
from trtforge.patience import Patience
from trtforge.progress import Silent, Stoppable, Stopped
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.progress import Advance

IMAGE = {"python": "3.11", "platform": "x86_64-manylinux_2_28"}
HASTE = Patience(attempts=4, first_pause_s=0, longest_pause_s=0, silence_s=10)
LARGE = {"big.bin": random.Random(0).randbytes(100_000)}  # more than one read of a socket


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackIndex]:
    with loopback_index(tmp_path / "index") as index:
        ask_only(index, monkeypatch, tmp_path)
        yield index


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pin_of(wheel: Path, **more: Any) -> Pin:
    name, version, *_ = wheel.name.split("-")
    return Pin(
        name=name.replace("_", "-"), version=version, filename=wheel.name, sha256=sha256_of(wheel), **more
    )


def get(pins: list[Pin], store: Store, sources: Sources | None = None, **how: Any) -> dict[str, Path]:
    how = {"progress": Silent(), "patience": HASTE, **IMAGE, **how}
    return fetch(pins, store, sources or Sources(), **how)


def whole_files(store: Store) -> set[str]:
    return {file.name for file in store.root.rglob("*") if file.is_file() and "locks" not in file.parts}


def test_wheels_arrive_in_the_store_and_are_not_fetched_again(index: LoopbackIndex, store: Store) -> None:
    pins = [pin_of(tiny_wheel(index.folder, name, "1.0")) for name in ("one", "two", "three")]
    places = get(pins, store)
    assert places == {pin.sha256: store.file("wheels", pin.sha256, pin.filename) for pin in pins}
    assert all(sha256_of(path) == sha256 for sha256, path in places.items())
    index.asked.clear()
    assert get(pins, store) == places
    assert index.asked == []


def test_two_versions_of_a_package_are_fetched_together(index: LoopbackIndex, store: Store) -> None:
    pins = [pin_of(tiny_wheel(index.folder, "one", version)) for version in ("1.0", "2.0", "3.0")]
    assert len(get(pins, store)) == 3
    assert whole_files(store) == {pin.filename for pin in pins}


def test_a_routed_pin_is_asked_of_its_index_alone(index: LoopbackIndex, store: Store, tmp_path: Path) -> None:
    with loopback_index(tmp_path / "nvidia", password="s3cret") as nvidia:
        pin = pin_of(tiny_wheel(nvidia.folder, "libs", "1.0"), index="nvidia")
        tiny_wheel(index.folder, "libs", "1.0", files={"other.py": b""})
        get([pin], store, Sources(indexes={"nvidia": nvidia.with_credentials()}))
    assert whole_files(store) == {pin.filename}
    assert index.asked == []


def test_trouble_that_stays_names_the_index(index: LoopbackIndex, store: Store) -> None:
    wheel = tiny_wheel(index.folder, "one", "1.0")
    index.faults[wheel.name] = [Status(503)] * 9
    with pytest.raises(IndexUnreachable) as failure:
        get([pin_of(wheel)], store)
    assert (failure.value.index, failure.value.supplies) == ("default", (wheel.name,))
    assert failure.value.reason == "HTTP 503 Service Unavailable"
    assert len(index.ranges) == HASTE.attempts
    assert whole_files(store) == set()


def test_a_file_that_changed_under_its_link_is_refused(index: LoopbackIndex, store: Store) -> None:
    wheel = tiny_wheel(index.folder, "one", "1.0")
    pin = pin_of(wheel)
    index.frozen_links["one"] = index.links("one")
    wheel.write_bytes(wheel.read_bytes() + b"tampered")
    with pytest.raises(HashMismatch) as refusal:
        get([pin], store)
    assert (refusal.value.name, refusal.value.expected) == (wheel.name, pin.sha256)
    assert refusal.value.actual == sha256_of(wheel)
    assert whole_files(store) == set()


def test_an_index_that_offers_another_file_than_the_lock_is_refused(
    index: LoopbackIndex, store: Store
) -> None:
    pin = pin_of(tiny_wheel(index.folder, "one", "1.0"))
    tiny_wheel(index.folder, "one", "1.0", files={"one.py": b"rebuilt = True\n"})
    with pytest.raises(LockError, match=r"other files for one 1\.0 than the lock") as refusal:
        get([pin], store)
    assert pin.sha256 in (refusal.value.fact("locked") or "")


def test_an_index_that_dropped_a_locked_version_is_refused(index: LoopbackIndex, store: Store) -> None:
    wheel = tiny_wheel(index.folder, "one", "1.0")
    pin = pin_of(wheel)
    wheel.rename(index.folder / "one-2.0-py3-none-any.whl")
    with pytest.raises(LockError, match=r"no longer offers what was locked: one==1\.0"):
        get([pin], store)


def test_the_wheelhouse_serves_without_network(index: LoopbackIndex, store: Store, tmp_path: Path) -> None:
    house = tmp_path / "wheel house"
    pin = pin_of(tiny_wheel(house, "one", "1.0"), index="nvidia")
    get([pin], store, Sources(wheelhouse=house, offline=True))
    assert whole_files(store) == {pin.filename}
    missing = pin_of(tiny_wheel(index.folder, "two", "1.0"))
    with pytest.raises(LockError, match=f"the wheelhouse has no {missing.filename}"):
        get([missing], store, Sources(wheelhouse=house, offline=True))
    assert index.asked == []


def test_a_wrong_file_in_the_wheelhouse_is_refused(store: Store, tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path / "house", "one", "1.0")
    pin = pin_of(wheel)
    wheel.write_bytes(b"something else")
    with pytest.raises(HashMismatch):
        get([pin], store, Sources(wheelhouse=tmp_path / "house", offline=True))


def test_a_frontend_is_built_to_the_wheel_that_was_pinned(index: LoopbackIndex, store: Store) -> None:
    careless_backend(index.folder, "1.0")
    careless_sdist(index.folder)
    sources = Sources(build=("careless-backend==1.0",))
    (pin,) = resolve([Need("careless")], constraints=(), sources=sources, **IMAGE)
    careless_backend(index.folder, "2.0")  # a newer one must not be taken: the pin names its own
    (place,) = get([pin], store, Sources()).values()
    assert sha256_of(place) == pin.sha256
    assert place.name == "careless-1.0-py3-none-any.whl"


def test_a_build_with_another_result_is_refused(index: LoopbackIndex, store: Store) -> None:
    careless_backend(index.folder, "1.0")
    careless_sdist(index.folder)
    sources = Sources(build=("careless-backend==1.0",))
    (pin,) = resolve([Need("careless")], constraints=(), sources=sources, **IMAGE)
    with pytest.raises(HashMismatch, match="built from"):
        get([pin.model_copy(update={"sha256": "0" * 64})], store)
    assert whole_files(store) == set()


def test_what_cannot_be_had_does_not_keep_the_rest_from_coming(
    index: LoopbackIndex, store: Store, tmp_path: Path
) -> None:
    house = tmp_path / "house"
    house.mkdir()
    good = [pin_of(tiny_wheel(index.folder, name, "1.0")) for name in ("one", "two")]
    broken = tiny_wheel(index.folder, "broken", "1.0")
    index.faults[broken.name] = [Status(404)]
    changed = pin_of(tiny_wheel(index.folder, "changed", "1.0")).model_copy(update={"sha256": "0" * 64})
    gone = [changed.model_copy(update={"name": name, "filename": f"{name}.whl", "sha256": digit * 64})
            for name, digit in (("gone", "1"), ("lost", "2"))]  # fmt: skip
    elsewhere = changed.model_copy(update={"name": "libs", "index": "nvidia", "sha256": "3" * 64})
    failed = fetch_each(
        [*good, pin_of(broken), changed, *gone, elsewhere],
        store,
        Sources(indexes={"nvidia": "http://127.0.0.1:1/"}),
        Silent(),
        python=IMAGE["python"],
        platform=IMAGE["platform"],
        patience=HASTE,
    )
    assert whole_files(store) == {pin.filename for pin in good}
    assert {sha256: type(error) for sha256, error in failed.items()} == {
        pin_of(broken).sha256: IndexUnreachable,
        changed.sha256: LockError,
        gone[0].sha256: LockError,
        gone[1].sha256: LockError,
        elsewhere.sha256: IndexUnreachable,
    }
    assert "gone" in failed[gone[0].sha256].problem


def test_a_wheel_that_the_wheelhouse_lacks_does_not_keep_the_rest_from_coming(
    store: Store, tmp_path: Path
) -> None:
    good = pin_of(tiny_wheel(tmp_path, "one", "1.0"))
    gone = good.model_copy(update={"name": "two", "filename": "two.whl", "sha256": "2" * 64})
    sources = Sources(wheelhouse=tmp_path, offline=True)
    failed = fetch_each(
        [good, gone], store, sources, Silent(), python=IMAGE["python"], platform=IMAGE["platform"]
    )
    assert (whole_files(store), list(failed)) == ({good.filename}, [gone.sha256])


def test_fetching_is_ended_by_its_progress(index: LoopbackIndex, store: Store) -> None:
    wheel = tiny_wheel(index.folder, "big", "1.0", files=LARGE)
    until = threading.Event()
    index.faults[wheel.name] = [StallAfter(1000, until)]
    progress = Stoppable(Silent())
    threading.Timer(0.5, progress.stop).start()
    try:
        with pytest.raises(Stopped):
            get([pin_of(wheel)], store, progress=progress)
    finally:
        until.set()
    assert whole_files(store) == set()


def test_a_full_disk_is_seen_before_anything_is_downloaded(
    index: LoopbackIndex, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tiny_wheel(index.folder, "big", "1.0", files=LARGE)
    usage = shutil.disk_usage(index.folder)
    monkeypatch.setattr(
        "trtforge.index.fetch.shutil.disk_usage", lambda _: usage._replace(free=wheel.stat().st_size - 1)
    )
    with pytest.raises(EnvironmentLack, match="are to be downloaded"):
        get([pin_of(wheel)], store)
    assert index.ranges == [], "its size was asked for, not its content"


def test_ctrl_c_stops_at_once_and_keeps_what_is_whole(index: LoopbackIndex, store: Store) -> None:
    large = tiny_wheel(index.folder, "large", "1.0", files=LARGE)
    stalling = tiny_wheel(index.folder, "stalling", "1.0")
    silence_ends = threading.Event()
    index.faults[stalling.name] = [StallAfter(100, silence_ends)]
    progress = InterruptAt(stalling.name, after=100)
    with pytest.raises(KeyboardInterrupt):
        get([pin_of(stalling), pin_of(large)], store, progress=progress, jobs=1, patience=Patience())
    assert not silence_ends.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
    silence_ends.set()
    assert whole_files(store) == {large.name}


class InterruptAt(Silent):
    """Presses Ctrl-C when so much of the file called `label` has arrived."""

    def __init__(self, label: str, after: int) -> None:
        self.label, self.left = label, after

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        yield self._advance if label == self.label else lambda _done: None

    def _advance(self, done: int) -> None:
        self.left -= done
        if self.left <= 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("offline", [False, True])
def test_a_project_of_ours_is_made_here_and_no_index_is_asked(
    index: LoopbackIndex, store: Store, tmp_path: Path, offline: bool
) -> None:
    project = write(tmp_path / "acme")
    sources = Sources(projects={"acme-kit": project.folder}, offline=offline)
    places = get([project.pin], store, sources)
    assert places[project.pin.sha256].read_bytes() == project.wheel[1]
    (project.folder / "pyproject.toml").unlink()
    assert get([project.pin], store, sources) == places  # it is there: nothing is made again
    assert index.asked == []


def test_a_project_of_ours_comes_with_what_indexes_have(
    index: LoopbackIndex, store: Store, tmp_path: Path
) -> None:
    project, other = write(tmp_path / "acme"), pin_of(tiny_wheel(index.folder, "one", "1.0"))
    get([other, project.pin], store, Sources(projects={"acme-kit": project.folder}))
    assert whole_files(store) == {other.filename, project.pin.filename}
    assert index.projects_asked == {"one"}


def test_other_sources_than_those_that_were_planned_are_refused(
    index: LoopbackIndex, store: Store, tmp_path: Path
) -> None:
    """Not even an index that has such a wheel is asked: whoever put it there is not us."""
    project = write(tmp_path / "acme")
    shutil.copy(tiny_wheel(tmp_path, "acme-kit", "1.2"), index.folder)
    write(tmp_path / "acme", FILES | {"acme_kit/more.py": ""})
    with pytest.raises(BuildError, match="gives another") as caught:
        get([write(tmp_path / "planned").pin], store, Sources(projects={"acme-kit": project.folder}))
    assert "checkout" in (caught.value.fact("next") or "")
    assert caught.value.fact("folder") == str(project.folder)
    assert whole_files(store) == set()
    assert index.asked == []


def test_a_project_that_is_not_there_fails_alone(index: LoopbackIndex, store: Store, tmp_path: Path) -> None:
    own, other = write(tmp_path / "acme").pin, pin_of(tiny_wheel(index.folder, "one", "1.0"))
    sources = Sources(projects={"acme-kit": tmp_path / "gone"})
    failed = fetch_each([own, other], store, sources, Silent(), 2, patience=HASTE, **IMAGE)
    assert failed.keys() == {own.sha256}
    assert isinstance(failed[own.sha256], MatrixError)
    assert whole_files(store) == {other.filename}
