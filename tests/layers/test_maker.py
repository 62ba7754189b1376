from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.wheel_factory import TARGET, ZipMember, make_wheel
from trtforge.errors import CorruptWheel, DamagedFile, UnsafeWheel
from trtforge.index.download import sha256_of
from trtforge.index.pins import Pin
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import LinksSource, WheelSource
from trtforge.progress import Silent, Stoppable, Stopped
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trtforge.layers.sources import LayerSource
    from trtforge.oci import Layer
    from trtforge.progress import Advance, Progress


class Watched(Silent):
    """Remembers its tasks; `during` is called at every step of one."""

    def __init__(self, during: Callable[[str], None] = lambda _label: None) -> None:
        self.labels: list[str] = []
        self._during = during

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        self.labels.append(label)
        yield lambda _done: self._during(label)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def add_wheel(store: Store, name: str, size: int = 100) -> Pin:
    """A wheel in the store, and its pin."""
    folder = store.root / "made"
    folder.mkdir(parents=True, exist_ok=True)
    members = [ZipMember(f"{name}/lib{name}.so.1", bytes(size)), ZipMember(f"{name}/a.py", b"x = 1\n")]
    wheel = make_wheel(folder, members, name)
    pin = Pin(name=name, version="1.0", filename=wheel.name, sha256=sha256_of(wheel), size=size)
    store.publish(wheel, place(store, pin))
    return pin


def place(store: Store, pin: Pin) -> Path:
    return store.file("wheels", pin.sha256, pin.filename)


def make(store: Store, source: LayerSource, progress: Progress | None = None) -> Layer:
    return LayerMaker(store, progress or Silent(), 2).make(source)


def damage(file: Path, at: float) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


def test_a_layer_is_made_once_even_at_the_same_time(store: Store) -> None:
    pin = add_wheel(store, "demo", 5 << 20)
    progress = Watched()
    source = WheelSource((pin,), TARGET)
    threads = [threading.Thread(target=make, args=(store, source, progress)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.labels == ["layer demo 1.0"]
    assert store.layer(source.key)


@pytest.mark.parametrize("at", [0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["wheel", "links"])
def test_a_changed_wheel_is_dropped_wherever_it_changed(store: Store, at: float, kind: str) -> None:
    pin = add_wheel(store, "demo")
    damage(place(store, pin), at)
    source = WheelSource((pin,), TARGET) if kind == "wheel" else LinksSource(pin, "demo", TARGET)
    with pytest.raises(DamagedFile) as told:
        make(store, source)
    assert (told.value.name, told.value.expected) == (pin.filename, pin.sha256)
    assert told.value.actual != pin.sha256
    assert not place(store, pin).exists()
    assert store.layer(source.key) is None
    assert not (store.oci / "blobs").exists()


def test_a_wheel_cut_short_is_dropped(store: Store) -> None:
    pin = add_wheel(store, "demo")
    data = place(store, pin).read_bytes()
    place(store, pin).write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFile):
        make(store, WheelSource((pin,), TARGET))
    assert not place(store, pin).exists()


def test_a_wheel_that_was_locked_broken_is_not_blamed_on_the_store(store: Store) -> None:
    pin = add_wheel(store, "demo")
    file = place(store, pin)
    damage(file, 0.9)
    broken = pin.model_copy(update={"sha256": sha256_of(file)})
    store.publish(file, place(store, broken))
    with pytest.raises((CorruptWheel, UnsafeWheel)):
        make(store, WheelSource((broken,), TARGET))
    assert place(store, broken).exists()


def test_a_layer_ends_at_the_next_step_and_keeps_nothing(store: Store) -> None:
    pin = add_wheel(store, "demo", 64 << 20)
    progress = Stoppable(Watched(lambda _label: progress.stop()))
    source = WheelSource((pin,), TARGET)
    with pytest.raises(Stopped):
        make(store, source, progress)
    assert store.layer(source.key) is None
    assert list((store.root / "tmp").iterdir()) == []
