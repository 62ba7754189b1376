from __future__ import annotations

import gzip
import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docker_registry import docker_registry
from tests.published_factory import DAY, entry_of
from trtforge.errors import EnvironmentLack
from trtforge.nightly import failures
from trtforge.oci import MANIFEST, canonical_json
from trtforge.progress import Silent
from trtforge.publishing.catalogue import (
    CATALOGUE,
    REPOSITORY,
    TAG,
    Catalogue,
    current,
    merged,
    read_catalogue,
    update_catalogue,
)
from trtforge.publishing.dated import take_dated_tag
from trtforge.publishing.entry import RECORD, Entry, attach_record, dated_tag, is_dated, number_of
from trtforge.registry import shared_layers
from trtforge.registry.artifact import EMPTY, artifact_manifest, put_artifact, read_artifact
from trtforge.registry.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def namespace(registry: str, tmp_path: Path) -> Iterator[Namespace]:
    with Namespace.open(f"{registry}/{tmp_path.name.replace('_', '-')}") as opened:
        yield opened


def published(namespace: Namespace, exact: str, day: date = DAY, number: int = 1) -> Entry:
    """An image (an artifact will do) with its record and its dated tag, as `promote` leaves it."""
    repository = namespace.repository("tensorrt")
    repository.put_blob(EMPTY)
    tag = dated_tag(exact, day, number)
    body = artifact_manifest("image", annotations={"is": tag})
    digest = repository.put_manifest(body, MANIFEST)
    entry = entry_of(exact, day, number).model_copy(update={"digest": digest})
    image = repository.find_manifest(digest)
    assert image
    attach_record(entry, image, repository)
    repository.put_manifest(body, MANIFEST, tag)
    return entry


def test_dated_tags() -> None:
    assert dated_tag("cu12.1-ampere", DAY) == "cu12.1-ampere-20261123"
    assert dated_tag("cu12.1-ampere", DAY, 2) == "cu12.1-ampere-20261123.2"
    assert number_of("cu12.1-ampere-20261123.12") == 12
    assert is_dated("a-20261123.2")
    assert not any(
        map(is_dated, ("a-20261123.0", "cu12.1-ampere", "staging-012345678901", f"sha256-{'1' * 64}"))
    )


def test_the_newest_comes_first() -> None:
    monday, second, tuesday = (
        entry_of(day=date(2026, 11, 23)),
        entry_of(day=date(2026, 11, 23), number=2),
        entry_of(day=date(2026, 11, 24)),
    )
    catalogue = Catalogue(entries=(second, monday, tuesday))
    assert catalogue.of("tensorrt", "cu12.1-ampere") == (tuesday, second, monday)
    assert catalogue.newest("tensorrt", tuesday.exact) == tuesday
    assert catalogue.newest("tensorrt", "cu12.1-turing") is None
    assert catalogue.by_digest("tensorrt", second.digest) == second


def test_packages_are_those_of_the_whole_chain() -> None:
    os = entry_of(image="os").model_copy(update={"packages": {"python3": "3.11"}})
    top = entry_of().model_copy(update={"packages": {"onnx": "1.2"}, "parent": os.digest})
    catalogue = Catalogue(entries=(os, top))
    assert catalogue.packages(top) == {"python3": "3.11", "onnx": "1.2"}


ENTRIES = st.builds(
    entry_of, st.sampled_from(["10-cu12.1-ampere", "10-cu12.1-ada"]), st.just(DAY), st.integers(1, 4)
)
CATALOGUES = st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.dated).map(
    lambda entries: merged(Catalogue(), entries, tags_of(*entries))
)


def test_a_merged_catalogue_knows_what_was_added() -> None:
    first, second = entry_of(), entry_of(number=2)
    before = Catalogue(entries=(first,))
    assert before.newest("tensorrt", first.exact) == first
    after = merged(before, [second], tags_of(first, second))
    assert after.newest("tensorrt", first.exact) == second


def tags_of(*entries: Entry) -> dict[str, set[str]]:
    return {"tensorrt": {entry.dated for entry in entries}}


@given(CATALOGUES, st.lists(ENTRIES, max_size=4), CATALOGUES)
def test_a_merge_loses_nothing_that_is_there_and_keeps_nothing_that_is_not(
    found: Catalogue, added: list[Entry], there: Catalogue
) -> None:
    tags = tags_of(*there.entries)
    result = merged(found, added, tags)
    wanted = {entry.dated for entry in (*found.entries, *added)} & tags["tensorrt"]
    assert [entry.dated for entry in result.entries] == sorted(wanted)
    assert merged(result, added, tags) == result  # an update comes to an end


def test_a_catalogue_that_nobody_wrote_is_empty(namespace: Namespace) -> None:
    notes = Notes()
    assert read_catalogue(namespace, notes) == Catalogue()
    assert notes.said == []


def test_what_is_added_is_read_by_others(namespace: Namespace) -> None:
    entry = published(namespace, "10-cu12.1-ampere")
    assert update_catalogue(namespace, [entry], Silent()).entries == (entry,)
    assert read_catalogue(namespace, Silent()).entries == (entry,)
    assert current(namespace, Catalogue(entries=(entry,)), "tensorrt", entry.dated) == entry
    assert current(namespace, Catalogue(entries=(entry,)), "tensorrt", "cu12.1-ampere") is None


def test_an_update_enters_what_others_published_and_drops_what_is_gone(namespace: Namespace) -> None:
    ours, theirs = published(namespace, "10-cu12.1-ampere"), published(namespace, "10-cu12.1-ada")
    assert update_catalogue(namespace, [ours], Silent()).entries == (theirs, ours)
    namespace.repository("tensorrt").delete_manifest(theirs.digest)
    assert update_catalogue(namespace, [], Silent()).entries == (ours,)


def test_a_dated_tag_without_a_record_is_not_ours(namespace: Namespace) -> None:
    repository = namespace.repository("tensorrt")
    repository.put_blob(EMPTY)
    repository.put_manifest(artifact_manifest("theirs"), MANIFEST, "mine-20261123")
    assert update_catalogue(namespace, [], Silent()) == Catalogue()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{", mtime=0),
        gzip.compress(b'{"entries": [{"image": "x"}]}', mtime=0),
        None,
    ],
)
def test_a_damaged_catalogue_is_made_anew_from_the_records(
    namespace: Namespace, damage: bytes | None
) -> None:
    entry = published(namespace, "10-cu12.1-ampere")
    repository, notes = namespace.repository(REPOSITORY), Notes()
    if damage is None:
        put_artifact(repository, "text/plain", b"something else", tag=TAG)
    else:
        put_artifact(repository, CATALOGUE, damage, tag=TAG)
    assert read_catalogue(namespace, notes).entries == (entry,)
    assert "made anew from the records" in notes.said[0]
    assert update_catalogue(namespace, [], Silent()).entries == (entry,)
    assert read_catalogue(namespace, notes).entries == (entry,)
    assert len(notes.said) == 1


def test_what_a_newer_trtforge_says_beside_is_kept(namespace: Namespace) -> None:
    entry = published(namespace, "10-cu12.1-ampere")
    newer = {**entry.model_dump(mode="json"), "signed_by": "us"}
    body = canonical_json({"entries": [newer], "generation": 7})
    put_artifact(namespace.repository(REPOSITORY), CATALOGUE, gzip.compress(body), tag=TAG)
    other = published(namespace, "10-cu12.1-ada")
    assert update_catalogue(namespace, [other], Silent()).newest("tensorrt", "10-cu12.1-ampere")
    written = read_artifact(namespace.repository(REPOSITORY), TAG, CATALOGUE)
    said = json.loads(gzip.decompress(written or b""))
    assert said["generation"] == 7
    assert [one.get("signed_by") for one in said["entries"]] == [None, "us"]


def test_a_catalogue_of_another_version_is_left_alone(namespace: Namespace) -> None:
    put_artifact(namespace.repository(REPOSITORY), CATALOGUE.replace("v1", "v2"), b"new", tag=TAG)
    with pytest.raises(EnvironmentLack) as caught:
        update_catalogue(namespace, [], Silent())
    assert caught.value.fact("found") == CATALOGUE.replace("v1", "v2")


def test_a_new_repository_takes_the_artifacts_of_many_at_once(registry: str) -> None:
    """All of them bring the same empty configuration, which Docker's registry denies to have meanwhile."""
    with Namespace.open(f"{registry}/many") as opened, ThreadPoolExecutor(4) as pool:
        for number in range(8):
            repository = opened.repository(f"new{number}")
            bodies = [str(body).encode() for body in range(4)]
            list(pool.map(lambda body, to=repository: put_artifact(to, "text/plain", body), bodies))


def test_publishers_at_once_lose_no_entry(namespace: Namespace) -> None:
    def publish(number: int) -> list[Entry]:
        return [add(namespace, f"10-cu12.{number}-ampere", day) for day in range(1, 4)]

    with ThreadPoolExecutor(4) as pool:
        expected = [entry for entries in pool.map(publish, range(4)) for entry in entries]
    found = read_catalogue(namespace, Silent()).entries
    assert {entry.dated for entry in found} == {entry.dated for entry in expected}


def add(namespace: Namespace, exact: str, day: int) -> Entry:
    entry = published(namespace, exact, date(2026, 11, day))
    update_catalogue(namespace, [entry], Silent())
    return entry


def publish_in_process(name: str, worker: int) -> None:
    with Namespace.open(name) as namespace:
        for day in range(1, 4):
            add(namespace, f"10-cu12.{worker}-ampere", day)


def test_processes_at_once_lose_no_entry(namespace: Namespace) -> None:
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=publish_in_process, args=(str(namespace), one)) for one in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(read_catalogue(namespace, Silent()).entries) == 6


def test_a_dated_tag_is_never_given_twice(namespace: Namespace) -> None:
    """Many images want the same dated tags at the same moment; no tag, once given, ever leads elsewhere."""
    repository = namespace.repository("tensorrt")
    repository.put_blob(EMPTY)
    bodies = [artifact_manifest("image", annotations={"is": str(number)}) for number in range(4)]

    given: list[tuple[str, str]] = []

    def take(body: bytes) -> tuple[str, str]:
        digest = repository.put_manifest(body, MANIFEST)

        def put(tag: str) -> None:
            given.append((tag, digest))
            repository.put_manifest(body, MANIFEST, tag)

        return take_dated_tag(namespace, "tensorrt", "cu12.1", DAY, digest, put), digest

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, bodies))
    assert sorted(given) == sorted(taken)
    assert len({tag for tag, _ in given}) == len(bodies)
    assert all(repository.find_digest(tag) == digest for tag, digest in taken)


def test_an_image_that_has_the_day_s_last_dated_tag_keeps_it(namespace: Namespace) -> None:
    repository = namespace.repository("tensorrt")
    repository.put_blob(EMPTY)

    def take(name: str) -> str:
        body = artifact_manifest("image", annotations={"is": name})
        digest = repository.put_manifest(body, MANIFEST)
        return take_dated_tag(
            namespace, "tensorrt", "cu12.1", DAY, digest, lambda tag: put_tag(namespace, body, tag)
        )

    assert [take(name) for name in "aabba"] == [
        "cu12.1-20261123",
        "cu12.1-20261123",
        "cu12.1-20261123.2",
        "cu12.1-20261123.2",
        "cu12.1-20261123.3",
    ]
    assert not [tag for tag in namespace.repository(REPOSITORY).tags() if tag.startswith("claim-")]


def put_tag(namespace: Namespace, body: bytes, tag: str) -> None:
    namespace.repository("tensorrt").put_manifest(body, MANIFEST, tag)


def test_what_lies_in_registries_keeps_its_names() -> None:
    """Another name would leave all that was published before unread; it needs a new version, and a reader."""
    assert CATALOGUE == "application/vnd.trtforge.catalogue.v1+gzip"
    assert RECORD == "application/vnd.trtforge.record.v1+json"
    assert failures.KIND == "application/vnd.trtforge.failure.v1+json"
    assert shared_layers.KIND == "application/vnd.trtforge.layer"
