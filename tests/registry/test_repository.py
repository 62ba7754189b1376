"""A repository tells the truth about its manifests, tags, blobs and what is attached to them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unruly_registry import UnrulyRegistry, repository_in, unruly_registry
from trtforge.errors import EnvironmentLack, RequestError, WrongDigest
from trtforge.oci import INDEX, MANIFEST, Digest, canonical_json, digest_of
from trtforge.progress import ignore
from trtforge.registry.access import Access
from trtforge.registry.answers import tags_in
from trtforge.registry.artifact import artifact_manifest
from trtforge.registry.connection import Connection
from trtforge.registry.deletion import TOMBSTONE
from trtforge.registry.referrers import fallback_tag, merged
from trtforge.registry.repository import Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trtforge.registry.repository import Repository

KIND = "application/vnd.example.note+json"
OTHER = Digest("sha256:" + "0" * 64)


@pytest.fixture
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture
def repository(registry: UnrulyRegistry) -> Iterator[Repository]:
    with repository_in(registry) as repository:
        yield repository


def manifest(number: int = 0) -> bytes:
    return artifact_manifest(KIND, annotations={"number": str(number)})


def note_on(subject: Fetched, number: int = 0) -> bytes:
    return artifact_manifest(KIND, annotations={"number": str(number)}, subject=subject)


def put(repository: Repository, *tags: str) -> Fetched:
    """A manifest under `tags`."""
    for tag in tags:
        repository.put_manifest(manifest(), MANIFEST, tag)
    found = repository.find_manifest(tags[0])
    assert found
    return found


def test_a_manifest_comes_back_as_it_was_put(repository: Repository) -> None:
    digest = repository.put_manifest(manifest(), MANIFEST, "1")
    assert digest == digest_of(manifest())
    assert repository.find_digest("1") == digest
    for version in ("1", digest):
        assert repository.find_manifest(version) == Fetched(digest, MANIFEST, manifest())


def test_what_is_absent_is_none(repository: Repository) -> None:
    assert (repository.find_manifest("1"), repository.find_digest("1")) == (None, None)
    assert repository.blob_size(OTHER) is None
    assert repository.tags() == repository.referrers(OTHER, KIND) == []
    with pytest.raises(RequestError, match="there is no"):
        repository.read_blob(OTHER)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_registry_that_lies_about_a_digest_is_not_believed(
    registry: UnrulyRegistry, repository: Repository, method: str
) -> None:
    digest = put(repository, "1").digest
    registry.breaks(method, "manifests", ("lie", OTHER))
    ask: dict[str, Callable[[], object]] = {
        "GET": lambda: repository.find_manifest("1"),
        "HEAD": lambda: repository.find_digest(digest),
        "PUT": lambda: repository.put_manifest(manifest(), MANIFEST, "1"),
    }
    with pytest.raises(WrongDigest, match="is not what its digest says") as refused:
        ask[method]()
    assert (refused.value.fact("expected"), refused.value.fact("found")) == (f"{digest}", OTHER)


def test_contents_that_are_not_their_digests_are_refused(
    registry: UnrulyRegistry, repository: Repository
) -> None:
    digest = repository.put_blob(b"content")
    registry.blobs["tensorrt", digest] = b"contend"
    with pytest.raises(WrongDigest):
        repository.read_blob(digest)


def test_tags_come_in_pages() -> None:
    with unruly_registry(page=2) as registry, repository_in(registry) as repository:
        put(repository, "a", "b", "c", "d", "e")
        assert repository.tags() == ["a", "b", "c", "d", "e"]
        assert len(registry.requests("GET", "tags")) == 3


def test_a_manifest_is_put_again_while_the_registry_denies_its_blobs(
    registry: UnrulyRegistry, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtforge.registry.repository._BLOB_PAUSES_S", (0.0, 0.0))
    registry.refusal = {"code": "MANIFEST_BLOB_UNKNOWN"}  # which another uploads or mounts at the moment
    registry.breaks("PUT", "manifests", 400, 400)
    put(repository, "1")
    registry.breaks("PUT", "manifests", *[400] * 9)
    with pytest.raises(EnvironmentLack, match="does not write"):
        put(repository, "1")


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"no json"])
def test_what_is_no_list_of_tags_is_refused(answer: bytes) -> None:
    page = httpx.Response(200, content=answer, request=httpx.Request("GET", "https://a.example"))
    with pytest.raises(httpx.DecodingError):
        tags_in([page])


@pytest.mark.parametrize("head", [200, 403, 405])
def test_blobs_may_be_elsewhere(
    registry: UnrulyRegistry, repository: Repository, tmp_path: Path, head: int
) -> None:
    registry.habits.token_lasts = 99
    digest = repository.put_blob(b"content")
    with unruly_registry() as storage:
        storage.blobs = registry.blobs
        storage.breaks("HEAD", "blobs", *([head] if head != 200 else []))  # signed for GET only
        registry.habits.storage = storage.host
        assert repository.blob_size(digest) == 7
        assert repository.read_blob(digest) == b"content"
        repository.save_blob(digest, tmp_path / "blob", ignore)
        assert (tmp_path / "blob").read_bytes() == b"content"
        assert all("Authorization" not in asked.headers for asked in storage.asked)


@pytest.mark.parametrize("named", ["http://registry.example/v2/a?b=c", "https://registry.example/v2/a?b=c"])
def test_a_session_named_by_plain_http_is_asked_for_as_the_registry_is(named: str) -> None:
    answer = httpx.Response(202, request=httpx.Request("POST", "https://registry.example/v2/x/"))
    with Connection("registry.example", Access()) as connection:  # behind a proxy that ends TLS
        assert str(connection.followed(answer, named)) == "https://registry.example/v2/a?b=c"
        assert str(connection.followed(answer, "http://other/v2/a")) == "http://other/v2/a"
        assert str(connection.followed(answer, "../a?b")) == "https://registry.example/v2/a?b"
        with pytest.raises(httpx.RemoteProtocolError):
            connection.followed(answer, "http://[::1/")


# mounts


@pytest.mark.parametrize("mounts", [True, False])
def test_a_blob_is_mounted_where_the_registry_can(mounts: bool) -> None:
    with unruly_registry(mounts=mounts) as registry, repository_in(registry) as repository:
        with repository_in(registry, "layers") as layers:
            digest = layers.put_blob(b"layer")
        assert repository.mount(digest, "layers") is mounts
        assert (repository.blob_size(digest) is not None) is mounts
        assert not registry.sessions  # one that began instead is ended


def test_a_mount_asks_for_both_repositories(registry: UnrulyRegistry, repository: Repository) -> None:
    registry.habits.token_lasts = 9
    assert repository.mount(OTHER, "layers") is False
    asked = registry.requests("GET", "/token")[0].query["scope"]
    assert asked in ("repository:layers:pull", "repository:tensorrt:pull,push")
    [[scopes, _], *_] = registry.tokens.values()
    assert scopes == {"repository:layers:pull", "repository:tensorrt:pull,push"}


# deletion


@pytest.mark.parametrize("deletes", ["tags", "manifests"])
def test_a_tag_goes_alone(deletes: str) -> None:
    with unruly_registry(deletes=deletes) as registry, repository_in(registry) as repository:
        digest = put(repository, "keep", "drop").digest
        repository.delete_tag("drop")
        repository.delete_tag("drop")
        assert repository.tags() == ["keep"]
        assert repository.find_digest("keep") == digest
        assert not [body for _, body in registry.manifests.values() if TOMBSTONE.encode() in body]


def test_a_manifest_goes_with_its_tags_and_its_index_of_referrers(repository: Repository) -> None:
    subject = put(repository, "a", "b")
    repository.attach(note_on(subject), subject.digest)
    repository.delete_manifest(subject.digest)
    repository.delete_manifest(subject.digest)
    assert repository.tags() == []


def test_a_registry_that_does_not_delete_is_told_so_and_keeps_its_tags() -> None:
    with unruly_registry(deletes="nothing") as registry, repository_in(registry) as repository:
        subject = put(repository, "a")
        blob = repository.put_blob(b"x")
        before = dict(registry.manifests)
        deletions: list[Callable[[], None]] = [
            lambda: repository.delete_tag("a"),
            lambda: repository.delete_manifest(subject.digest),
            lambda: repository.delete_blob(blob),
        ]
        for delete in deletions:
            with pytest.raises(EnvironmentLack, match="does not delete") as refused:
                delete()
            assert "storage.delete.enabled" in (refused.value.fact("next") or "")
        assert registry.manifests == before


# what is attached


@pytest.mark.parametrize("api", [True, False])
def test_what_is_attached_is_found(api: bool) -> None:
    with unruly_registry(referrers=api) as registry, repository_in(registry) as repository:
        subject = put(repository, "1")
        attached = {repository.attach(note_on(subject, number), subject.digest) for number in range(3)}
        assert set(repository.referrers(subject.digest, KIND)) == attached
        assert repository.referrers(subject.digest, "application/vnd.other") == []
        assert (fallback_tag(subject.digest) in repository.tags()) is not api


def test_attaching_twice_lists_once(registry: UnrulyRegistry, repository: Repository) -> None:
    subject = put(repository, "1")
    digest = repository.attach(note_on(subject), subject.digest)
    assert repository.attach(note_on(subject), subject.digest) == digest
    index = json.loads(registry.manifests["tensorrt", fallback_tag(subject.digest)][1])
    assert [entry["digest"] for entry in index["manifests"]] == [digest]
    assert index["manifests"][0]["artifactType"] == KIND


def test_the_index_of_referrers_keeps_what_others_wrote(repository: Repository) -> None:
    subject = put(repository, "1")
    foreign = {"mediaType": MANIFEST, "digest": OTHER, "size": 2, "artifactType": "x/y", "data": "e30="}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign], "annotations": {"a": "b"}}
    repository.put_manifest(canonical_json(index), INDEX, fallback_tag(subject.digest))
    repository.attach(note_on(subject), subject.digest)
    found = repository.find_manifest(fallback_tag(subject.digest))
    assert found
    value = json.loads(found.body)
    assert value["manifests"][0] == foreign
    assert value["annotations"] == {"a": "b"}
    assert len(value["manifests"]) == 2


def test_a_damaged_index_of_referrers_is_replaced(repository: Repository) -> None:
    subject = put(repository, "1")
    repository.put_manifest(b'{"manifests": 7}', INDEX, fallback_tag(subject.digest))
    assert repository.referrers(subject.digest, KIND) == []
    digest = repository.attach(note_on(subject), subject.digest)
    assert repository.referrers(subject.digest, KIND) == [digest]


def test_what_another_overwrote_is_added_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = put(repository, "1")
    theirs = {"mediaType": MANIFEST, "digest": OTHER, "size": 2, "artifactType": KIND}
    stale = merged(None, theirs)  # of somebody in another process, who read before we wrote
    assert stale
    overwrites = iter([lambda: repository.put_manifest(stale, INDEX, fallback_tag(subject.digest))])
    monkeypatch.setattr(time, "sleep", lambda _s: next(overwrites, lambda: OTHER)())
    ours = repository.attach(note_on(subject), subject.digest)
    assert set(repository.referrers(subject.digest, KIND)) == {ours, OTHER}


def test_two_who_attach_at_once_lose_nothing(repository: Repository) -> None:
    subject = put(repository, "1")
    with ThreadPoolExecutor(6) as pool:
        notes = [note_on(subject, number) for number in range(6)]
        attached = set(pool.map(lambda note: repository.attach(note, subject.digest), notes))
    assert set(repository.referrers(subject.digest, KIND)) == attached


def test_a_list_of_referrers_that_is_none_counts_as_no_api(
    registry: UnrulyRegistry, repository: Repository
) -> None:
    subject = put(repository, "1")
    digest = repository.attach(note_on(subject), subject.digest)
    registry.breaks("GET", "referrers", 405)
    assert repository.referrers(subject.digest, KIND) == [digest]
