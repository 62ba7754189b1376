"""Loading: only what lacks is sent, and what goes wrong comes out as an error that says what to do."""

from __future__ import annotations

import random
import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_engine import FakeEngine, running
from tests.gzip_layers import gzip_layer
from trtforge.engine import gpu as engine_gpu
from trtforge.engine.docker_archive import LoadableImage, docker_archive
from trtforge.engine.engine import Engine
from trtforge.engine.gpu import gpu_request
from trtforge.errors import BuildError, EnvironmentLack
from trtforge.oci import canonical_json
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTAINERD = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with running(FakeEngine()) as engine:
        yield engine


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def image_of(store: Store, *tars: bytes) -> LoadableImage:
    layers = tuple(gzip_layer(store, tar) for tar in tars)
    config = {"rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}
    return LoadableImage(canonical_json(config), layers, ("some/image:1",))


def sent_layers(fake: FakeEngine) -> list[int]:
    """How many layers each archive held: all its files but manifest and configuration."""
    return [len(names) - 2 for names in fake.loads]


def test_a_second_image_sends_only_what_the_first_did_not(fake: FakeEngine, store: Store) -> None:
    engine = Engine.connect(fake.address)
    first, second = image_of(store, b"a", b"b"), image_of(store, b"a", b"b", b"c")
    assert engine.load(first, store, Silent()) == first.id
    assert engine.load(second, store, Silent()) == second.id
    assert sent_layers(fake) == [2, 1]


def test_a_shared_layer_above_a_different_one_is_sent(fake: FakeEngine, store: Store) -> None:
    engine = Engine.connect(fake.address)
    engine.load(image_of(store, b"a", b"b"), store, Silent())
    assert engine.layers_present([layer.diff_id for layer in image_of(store, b"x", b"b").layers]) == 0
    assert engine.layers_present([layer.diff_id for layer in image_of(store, b"a", b"x").layers]) == 1
    assert engine.layers_present([layer.diff_id for layer in image_of(store, b"a").layers]) == 1


@pytest.mark.parametrize(("free", "fits"), [(4095, False), (4096, True)])
def test_an_image_is_not_sent_where_it_finds_no_room(
    fake: FakeEngine, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    """The archive and what is unpacked of it lie there at the same time."""
    engine = Engine.connect(fake.address)
    monkeypatch.setattr(engine, "folder", lambda: tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=free))
    image = image_of(store, bytes(2048))
    assert sum(layer.unpacked for layer in image.layers) == 2048
    if fits:
        engine.load(image, store, Silent())
    else:
        with pytest.raises(EnvironmentLack, match="no room to load some/image:1"):
            engine.load(image, store, Silent())
    assert len(fake.loads) == fits


def test_a_distant_engine_s_disk_is_its_own_business(fake: FakeEngine, tmp_path: Path) -> None:
    fake.info = {"DockerRootDir": str(tmp_path)}
    engine = Engine.connect(fake.address)
    assert engine.folder() is None
    engine.address = "unix:///run/docker.sock"
    assert engine.folder() == tmp_path
    fake.info = {"DockerRootDir": str(tmp_path / "not there")}
    assert engine.folder() is None


def test_a_layer_that_occurs_twice_is_sent_once(fake: FakeEngine, store: Store) -> None:
    image = image_of(store, b"a", b"b", b"a")
    Engine.connect(fake.address).load(image, store, Silent())
    assert sent_layers(fake) == [2]


def test_when_the_leading_layers_vanish_meanwhile_all_are_sent(fake: FakeEngine, store: Store) -> None:
    engine = Engine.connect(fake.address)
    engine.load(image_of(store, b"a"), store, Silent())
    fake.on_load = "refuse-partial"
    engine.load(image_of(store, b"a", b"b"), store, Silent())
    assert sent_layers(fake) == [1, 1, 2]


def test_the_containerd_image_store_gets_everything(fake: FakeEngine, store: Store) -> None:
    fake.info, fake.on_load = CONTAINERD, "lie"  # IDs there are manifest digests, so another ID is right
    engine = Engine.connect(fake.address)
    engine.load(image_of(store, b"a"), store, Silent())
    engine.load(image_of(store, b"a", b"b"), store, Silent())
    assert sent_layers(fake) == [1, 2]


def test_an_engine_that_ends_up_with_another_image_is_found_out(fake: FakeEngine, store: Store) -> None:
    fake.on_load = "lie"
    image = image_of(store, b"a")
    with pytest.raises(BuildError) as error:
        Engine.connect(fake.address).load(image, store, Silent())
    assert error.value.fact("sent") == image.id
    assert fake.tags == {}


def test_a_failed_load_leaves_the_image_that_had_the_tag(fake: FakeEngine, store: Store) -> None:
    engine = Engine.connect(fake.address)
    old = engine.load(image_of(store, b"a"), store, Silent())
    fake.on_load = "refuse"
    with pytest.raises(BuildError):
        engine.load(image_of(store, b"b"), store, Silent())
    assert fake.tags == {"some/image:1": old}


def test_a_refused_image_is_a_build_error_with_the_engine_s_words(fake: FakeEngine, store: Store) -> None:
    fake.on_load = "refuse"
    with pytest.raises(BuildError) as error:
        Engine.connect(fake.address).load(image_of(store, b"a"), store, Silent())
    assert error.value.fact("engine") == "invalid diffID"


@pytest.mark.parametrize("size", [10, 40_000_000])
def test_an_engine_that_dies_while_loading_is_a_lack(fake: FakeEngine, store: Store, size: int) -> None:
    fake.on_load = "die"
    with pytest.raises(EnvironmentLack) as error:
        Engine.connect(fake.address).load(image_of(store, bytes(size)), store, Silent())
    assert "went away" in error.value.problem
    assert "run the same command again" in (error.value.fact("next") or "")


@pytest.mark.parametrize("size", [10, 40_000_000])
def test_a_full_disk_is_named(fake: FakeEngine, store: Store, size: int) -> None:
    fake.on_load = "full"
    with pytest.raises(EnvironmentLack, match="disk is full"):
        Engine.connect(fake.address).load(image_of(store, bytes(size)), store, Silent())


def test_a_missing_blob_is_not_blamed_on_the_engine(fake: FakeEngine, store: Store) -> None:
    image = image_of(store, b"a")
    blob = store.blob(image.layers[0].digest)
    blob.unlink()
    with pytest.raises(BuildError) as error:
        Engine.connect(fake.address).load(image, store, Silent())
    assert error.value.fact("blob") == str(blob)


def test_an_old_engine_is_refused(fake: FakeEngine) -> None:
    fake.api_version = "1.40"
    with pytest.raises(EnvironmentLack) as error:
        Engine.connect(fake.address)
    assert error.value.fact("found") == "API 1.40"


def test_an_absent_engine_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLack) as error:
        Engine.connect(f"unix://{tmp_path / 'nothing.sock'}")
    assert (error.value.fact("next") or "").startswith("make engine")


def test_docker_host_is_where_connect_looks(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", fake.address)
    assert Engine.connect().address == fake.address


def test_has_tells_tags_from_nothing(fake: FakeEngine, store: Store) -> None:
    engine = Engine.connect(fake.address)
    image = image_of(store, b"a")
    assert not engine.has("some/image:1")
    engine.load(image, store, Silent())
    assert engine.has("some/image:1")
    assert engine.has(image.id)


@pytest.mark.parametrize(
    ("info", "seen", "driver"),
    [
        ({}, True, None),
        ({"Runtimes": {"runc": {}}}, True, None),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True, ""),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, False, None),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]}, False, "cdi"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/nic=0"}]}, True, None),
    ],
)
def test_gpus_come_by_runtime_or_cdi(info: dict[str, Any], seen: bool, driver: str | None) -> None:
    request = gpu_request(info, seen)
    assert (request["Driver"] or "" if request else None) == driver


def test_a_gpu_beside_the_engine_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_gpu, "DEVICES", (tmp_path / "gpu",))
    assert not engine_gpu.device_seen("unix:///run/docker.sock")
    assert engine_gpu.device_seen("ssh://host")
    (tmp_path / "gpu").touch()
    assert engine_gpu.device_seen("unix:///run/docker.sock")


def test_asking_for_a_gpu_that_is_not_there_is_a_lack(fake: FakeEngine) -> None:
    with pytest.raises(EnvironmentLack, match="no GPU"):
        Engine.connect(fake.address).run("image", ["x"], gpus=True)


def test_loading_does_not_hold_a_layer_in_memory(store: Store) -> None:
    image = image_of(store, bytes(200_000_000))
    tracemalloc.start()
    total = sum(len(chunk) for chunk in docker_archive(image, store, 0, lambda _done: None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 200_000_000
    assert peak < 30_000_000


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 1.0])
def test_a_blob_that_changed_is_noticed_while_it_is_sent_and_dropped(
    fake: FakeEngine, store: Store, at: float
) -> None:
    """Even where the change does not show in the tar, as in the time of gzip's header."""
    image = image_of(store, random.Random(1).randbytes(3 << 20))
    blob = store.blob(image.layers[0].digest)
    data = bytearray(blob.read_bytes())
    data[4 if at == 0 else int((len(data) - 1) * at)] ^= 1
    blob.write_bytes(data)
    with pytest.raises(BuildError, match="was damaged, and is dropped") as told:
        Engine.connect(fake.address).load(image, store, Silent())
    assert told.value.fact("blob") == str(blob)
    assert not blob.exists()
    assert not fake.tags
