"""A document kept in a registry comes back as it was, or it is said what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unruly_registry import UnrulyRegistry, repository_in, unruly_registry
from trtforge.errors import BuildError
from trtforge.oci import MANIFEST
from trtforge.registry.artifact import put_artifact, read_artifact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.registry.repository import Repository

KIND = "application/vnd.example.note+json"


@pytest.fixture(scope="module")
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def repository(registry: UnrulyRegistry) -> Iterator[Repository]:
    with repository_in(registry) as repository:
        yield repository


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_it_comes_back_as_it_was(repository: Repository, body: bytes) -> None:
    digest = put_artifact(repository, KIND, body, tag="latest")
    assert read_artifact(repository, "latest", KIND) == read_artifact(repository, digest, KIND) == body


def test_what_is_absent_is_none(repository: Repository) -> None:
    assert read_artifact(repository, "absent", KIND) is None


def test_it_may_be_attached_and_have_a_tag(repository: Repository) -> None:
    put_artifact(repository, KIND, b"subject", tag="subject")
    subject = repository.find_manifest("subject")
    digest = put_artifact(repository, KIND, b"note", tag="note", subject=subject)
    assert subject
    assert repository.referrers(subject.digest, KIND) == [digest]
    assert repository.find_digest("note") == digest


def test_the_manifest_is_what_the_specification_says(repository: Repository) -> None:
    put_artifact(repository, KIND, b"note", tag="note")
    found = repository.find_manifest("note")
    assert found
    value = json.loads(found.body)
    assert (value["mediaType"], value["artifactType"]) == (MANIFEST, KIND)
    assert value["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert repository.read_blob(value["config"]["digest"]) == b"{}"


def test_another_kind_is_refused(repository: Repository) -> None:
    put_artifact(repository, "application/vnd.other", b"note", tag="other")
    with pytest.raises(BuildError, match=r"is not a application/vnd\.example\.note"):
        read_artifact(repository, "other", KIND)


@pytest.mark.parametrize("damage", ["manifest", "lost", "changed"])
def test_damage_is_told_of(registry: UnrulyRegistry, repository: Repository, damage: str) -> None:
    put_artifact(repository, KIND, b"fragile", tag="fragile")
    key = next(key for key, blob in registry.blobs.items() if blob == b"fragile")
    if damage == "manifest":
        registry.manifests["tensorrt", "fragile"] = (MANIFEST, b"{}")
    elif damage == "lost":
        del registry.blobs[key]
    else:
        registry.blobs[key] = b"changed"
    with pytest.raises(BuildError):
        read_artifact(repository, "fragile", KIND)
