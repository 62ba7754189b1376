from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.docker_registry import docker_registry
from tests.memory_registry import MemoryNamespace
from tests.published_factory import Publisher, changed
from trtforge.errors import EnvironmentLack
from trtforge.oci import MANIFEST
from trtforge.production.staged import staging_tag
from trtforge.progress import Silent
from trtforge.publishing.catalogue import REPOSITORY, read_catalogue, update_catalogue
from trtforge.publishing.entry import RECORD, records_of
from trtforge.publishing.prune import Pruned, prune
from trtforge.publishing.rollback import rollback
from trtforge.registry.artifact import EMPTY, artifact_manifest
from trtforge.registry.namespace import Namespace
from trtforge.registry.referrers import fallback_tag
from trtforge.registry.shared_layers import SharedLayers
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.production.staged import Staged
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry

SHORT = "cu12.1-ampere"
MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)


@pytest.fixture
def memory() -> MemoryNamespace:
    return MemoryNamespace()


@pytest.fixture
def publisher(memory: MemoryNamespace, tmp_path: Path, cells: Cells) -> Publisher:
    return Publisher(cells, Store(tmp_path / "store"), cast("Namespace", memory))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def go(publisher: Publisher, keep: int = 2, *, dry_run: bool = False) -> Pruned:
    catalogue = read_catalogue(publisher.namespace, Silent())
    return prune(publisher.namespace, catalogue, keep, Silent(), dry_run)


def publish_days(memory: MemoryNamespace, publisher: Publisher, digits: str = "abcde") -> list[Entry]:
    """An image with another onnx every day, the first of them on a Monday."""
    entries = []
    for number, digit in enumerate(digits):
        memory.clock = MONDAY + timedelta(days=number)
        staged = publisher.make(changed(publisher.lock, "onnx", digit))
        entries.append(publisher.promote(staged)[-1])
    return entries


def dated(publisher: Publisher) -> list[str]:
    found = read_catalogue(publisher.namespace, Silent()).of("tensorrt", SHORT)
    return [entry.dated for entry in reversed(found)]


def test_old_images_go_with_their_records_and_their_own_blobs(
    registry: str, tmp_path: Path, cells: Cells
) -> None:
    with Namespace.open(f"{registry}/old") as namespace:
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        entries = [publisher.publish(changed(publisher.lock, "onnx", digit))[-1] for digit in "abcd"]
        digits = dict(zip([entry.digest for entry in entries], "abcd", strict=True))
        assert go(publisher, keep=4) == Pruned()
        planned = go(publisher, dry_run=True)
        assert planned.images == tuple(f"tensorrt:{entry.dated}" for entry in entries[:2])
        assert planned.freed > 0
        assert len(dated(publisher)) == 4
        repository = namespace.repository("tensorrt")
        records = [one for entry in entries[:2] for one in repository.referrers(entry.digest, RECORD)]
        assert go(publisher) == planned
        assert dated(publisher) == [entry.dated for entry in entries[2:]]
        for entry in entries[:2]:
            assert repository.find_digest(entry.digest) is None
            assert repository.find_digest(entry.dated) is None
            assert repository.find_digest(fallback_tag(entry.digest)) is None
        assert len(records) == 2
        assert not any(map(repository.find_digest, records))
        for entry in entries[2:]:
            left = publisher.stage(changed(publisher.lock, "onnx", digits[entry.digest]))[-1]
            assert left.image.digest == entry.digest
            assert all(repository.blob_size(layer.digest) == layer.size for layer in left.image.layers)
            repository.delete_tag(staging_tag(entry.digest))
        assert go(publisher) == Pruned()


@pytest.mark.parametrize("again", [True, False], ids=["an old image again", "one with a layer of an old one"])
def test_what_is_staged_while_a_prune_runs_stays_whole(
    again: bool, registry: str, tmp_path: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Namespace.open(f"{registry}/beside-{again}".lower()) as namespace:
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        locks = [changed(publisher.lock, "onnx", digit) for digit in "abcd"]
        old = next(iter([publisher.publish(lock)[-1] for lock in locks]))
        staged: list[Staged] = []

        def stage(*arguments: Any, **options: Any) -> Catalogue:
            if options and not staged:  # what is to go is known by now
                lock = locks[0] if again else changed(locks[0], "tensorrt-rtx-cu12-libs", "e")
                staged.append(publisher.stage(lock)[-1])
            return update_catalogue(*arguments, **options)

        monkeypatch.setattr("trtforge.publishing.prune.update_catalogue", stage)
        go(publisher)
        image, repository = staged[0].image, namespace.repository("tensorrt")
        assert (image.digest == old.digest) == again
        assert repository.find_digest(staging_tag(image.digest)) == image.digest
        assert [repository.blob_size(layer.digest) for layer in image.layers] == [
            layer.size for layer in image.layers
        ]
        assert (repository.find_digest(old.dated) == old.digest) == again


def test_what_a_day_publishes_after_a_prune_is_its_newest(publisher: Publisher) -> None:
    """The dated tags that went are given to nobody else: what has them would be older than what stayed."""
    names = []
    for digit in "abcdef":
        entry = publisher.promote(publisher.make(changed(publisher.lock, "onnx", digit)))[-1]
        assert publisher.leads_to(SHORT) == entry.digest
        names.append(entry.dated)
        go(publisher, keep=1)
        assert dated(publisher) == [entry.dated]
    assert names[1:] == [f"{names[0]}.{number}" for number in range(2, 7)]


def test_what_a_tag_leads_to_stays_whoever_s_tag_it_is(memory: MemoryNamespace, publisher: Publisher) -> None:
    entries = publish_days(memory, publisher)
    repository = publisher.namespace.repository("tensorrt")
    theirs = repository.find_manifest(entries[0].digest)
    assert theirs
    repository.put_manifest(theirs.body, theirs.media_type, "theirs-20200101")
    catalogue = read_catalogue(publisher.namespace, Silent())
    rollback(publisher.namespace, catalogue, "tensorrt", SHORT, f"{entries[1].day:%Y%m%d}", Silent())
    assert go(publisher, keep=1).images == tuple(f"tensorrt:{entry.dated}" for entry in entries[2:4])
    assert dated(publisher) == [entries[0].dated, entries[1].dated, entries[4].dated]
    assert publisher.leads_to(SHORT) == entries[1].digest


def test_what_a_kept_image_stands_on_stays(memory: MemoryNamespace, publisher: Publisher) -> None:
    publish_days(memory, publisher)
    before = read_catalogue(publisher.namespace, Silent())
    assert go(publisher, keep=1).images
    after = read_catalogue(publisher.namespace, Silent())
    assert [entry for entry in after.entries if entry.image != "tensorrt"] == [
        entry for entry in before.entries if entry.image != "tensorrt"
    ]


def test_what_is_not_ours_stays(memory: MemoryNamespace, publisher: Publisher) -> None:
    publish_days(memory, publisher)
    repository = publisher.namespace.repository("tensorrt")
    repository.put_blob(EMPTY)
    theirs = repository.put_manifest(artifact_manifest("theirs"), MANIFEST, f"{SHORT}-20200101")
    signature = artifact_manifest("signature", subject=repository.find_manifest(theirs))
    attached = repository.attach(signature, theirs)
    go(publisher, keep=1)
    assert repository.find_digest(f"{SHORT}-20200101") == theirs
    assert repository.find_digest(attached) == attached


def test_what_a_broken_off_publish_left_goes_after_a_day(
    memory: MemoryNamespace, publisher: Publisher
) -> None:
    (first,) = publish_days(memory, publisher, "a")
    left = publisher.make(changed(publisher.lock, "torch", "b"))
    claims = publisher.namespace.repository(REPOSITORY)
    claims.put_manifest(artifact_manifest("claim"), MANIFEST, "claim-1")
    for _ in range(2):
        assert go(publisher) == Pruned()
        memory.clock += timedelta(hours=23)
    memory.clock += timedelta(hours=23)
    went = go(publisher)
    staging = [f"{one.recipe.image}:{staging_tag(one.image.digest)}" for one in left]
    assert sorted(went.tags) == sorted(["catalogue:claim-1", *staging])
    repository = publisher.namespace.repository("tensorrt")
    assert repository.find_digest(left[-1].image.digest) is None
    assert publisher.leads_to(SHORT) == first.digest
    assert (
        publisher.leads_to("debian12", "os") == left[0].image.digest
    )  # it is published, and staged once more
    assert read_catalogue(publisher.namespace, Silent()).idle == {}


def test_a_publish_under_way_is_left_alone(memory: MemoryNamespace, publisher: Publisher) -> None:
    publish_days(memory, publisher)
    staged = publisher.make(changed(publisher.lock, "torch", "b"))
    assert len(go(publisher, keep=1).images) == 4
    assert publisher.promote(staged)[-1].digest == publisher.leads_to(SHORT)


def test_shared_layers_go_when_no_image_has_them(
    registry: str, tmp_path: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [MONDAY]
    monkeypatch.setattr(Namespace, "now", lambda _self: now[0])
    with Namespace.open(f"{registry}/shared") as namespace:
        publisher = Publisher(cells, Store(tmp_path / "store"), namespace)
        shared = SharedLayers(namespace.repository("layers"))
        for digit in "ab":
            staged = publisher.stage(changed(publisher.lock, "onnx", digit))
            for one in staged:
                for source in one.recipe.sources.values():
                    layer = publisher.store.layer(source.key)
                    assert layer
                    shared.keep(source.key, layer, publisher.store, Silent())
            publisher.promote(staged)
            now[0] += timedelta(days=1)
        keys = set(shared.repository.tags())
        assert go(publisher, keep=1).layers == ()
        assert set(shared.repository.tags()) == keys
        now[0] += timedelta(days=2)
        went = go(publisher, keep=1)
        assert went.images == ()
        assert went.layers
        left = set(shared.repository.tags())
        assert left == {source.key for one in staged for source in one.recipe.sources.values()}
        assert all(map(shared.find, left))
        assert set(went.layers) == keys - left


@pytest.mark.parametrize("moment", [*range(1, 30, 3), 100])
def test_a_prune_that_was_broken_off_is_done_by_the_next(
    moment: int, memory: MemoryNamespace, publisher: Publisher
) -> None:
    entries = publish_days(memory, publisher, "abc")
    done: list[str] = []

    def tell(write: str) -> None:
        done.append(write)
        if len(done) >= moment:
            raise KeyboardInterrupt

    memory.tell = tell
    try:
        go(publisher, keep=1)
    except KeyboardInterrupt:
        for entry in read_catalogue(publisher.namespace, Silent()).entries:
            assert publisher.leads_to(entry.tags[-1], entry.image)
    memory.tell = lambda _write: None
    go(publisher, keep=1)
    assert dated(publisher) == [entries[-1].dated]
    repository = memory.repository("tensorrt")
    assert set(repository.tags()) == {*entries[-1].tags, entries[-1].dated}
    assert records_of(entries[-1].digest, cast("object", repository))  # type: ignore[arg-type]
    assert go(publisher, keep=1) == Pruned()


def test_a_registry_that_does_not_delete_is_left_as_it_is(
    memory: MemoryNamespace, publisher: Publisher
) -> None:
    publish_days(memory, publisher)
    memory.repository("layers")
    before = deepcopy(memory.contents)

    def refuse(write: str) -> None:
        if write.startswith("delete"):
            raise EnvironmentLack("it does not delete")

    memory.tell = refuse
    with pytest.raises(EnvironmentLack):
        go(publisher, keep=1)
    assert memory.contents == before
