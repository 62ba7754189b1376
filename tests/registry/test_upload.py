"""A blob arrives whole, whatever happens on the way, and no byte is sent twice without need."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unruly_registry import UnrulyRegistry, repository_in, unruly_registry
from trtforge.errors import DamagedFile, EnvironmentLack
from trtforge.oci import Digest, digest_of
from trtforge.progress import Stopped, ignore
from trtforge.registry import upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB = 1 << 10
DATA = random.Random(1).randbytes(1000 * KIB)
DIGEST = digest_of(DATA)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob of a megabyte is a large one here."""
    monkeypatch.setattr(upload, "MONOLITHIC", 100 * KIB)
    monkeypatch.setattr(upload, "CHUNK", 300 * KIB)
    monkeypatch.setattr(upload, "_READ", 16 * KIB)


@pytest.fixture
def registry() -> Iterator[UnrulyRegistry]:
    with unruly_registry() as registry:
        yield registry


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    (tmp_path / "blob").write_bytes(DATA)
    return tmp_path / "blob"


def send(registry: UnrulyRegistry, blob: Path) -> int:
    """Upload; what progress was told in sum."""
    told: list[int] = []
    with repository_in(registry) as repository:
        repository.upload(digest_of(blob.read_bytes()), blob, told.append)
    return sum(told)


def arrived(registry: UnrulyRegistry, data: bytes = DATA) -> bool:
    return registry.blobs.get(("tensorrt", digest_of(data))) == data


def sent(registry: UnrulyRegistry) -> int:
    """Bytes that were announced in PATCH requests."""
    return sum(int(asked.headers["Content-Length"]) for asked in registry.requests("PATCH"))


def test_a_small_blob_takes_one_request_in_one_session(registry: UnrulyRegistry, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(DATA[: 50 * KIB])
    assert send(registry, tmp_path / "small") == 50 * KIB
    assert arrived(registry, DATA[: 50 * KIB])
    assert [asked.method for asked in registry.asked] == ["HEAD", "POST", "PUT"]


def test_a_large_blob_goes_in_chunks(registry: UnrulyRegistry, blob: Path) -> None:
    assert send(registry, blob) == len(DATA)
    assert arrived(registry)
    ranges = [asked.headers["Content-Range"] for asked in registry.requests("PATCH")]
    assert ranges == ["0-307199", "307200-614399", "614400-921599", "921600-1023999"]


def test_a_blob_that_is_there_is_not_sent(registry: UnrulyRegistry, blob: Path) -> None:
    registry.blobs["tensorrt", DIGEST] = DATA
    assert send(registry, blob) == len(DATA)
    assert [asked.method for asked in registry.asked] == ["HEAD"]


def test_an_empty_blob_arrives(registry: UnrulyRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    send(registry, tmp_path / "empty")
    assert arrived(registry, b"")


@pytest.mark.parametrize("absolute", [True, False])
def test_a_session_may_be_named_in_both_ways(blob: Path, absolute: bool) -> None:
    with unruly_registry(absolute=absolute) as registry:  # with a parameter that has to be kept
        send(registry, blob)
        assert arrived(registry)


def test_chunks_are_as_large_as_the_registry_wants(blob: Path) -> None:
    with unruly_registry(least_chunk=400 * KIB) as registry:
        send(registry, blob)
        assert arrived(registry)
        sizes = [int(asked.headers["Content-Length"]) // KIB for asked in registry.requests("PATCH")]
        assert sizes == [400, 400, 200]


def test_a_blob_smaller_than_any_chunk_goes_at_once_and_again(blob: Path) -> None:
    with unruly_registry(least_chunk=2000 * KIB) as registry:
        registry.breaks("PUT", "uploads", ("cut", 200 * KIB))
        assert send(registry, blob) == len(DATA)
        assert arrived(registry)
        assert not registry.requests("PATCH")


def test_a_registry_that_takes_chunks_and_has_none_is_given_up(blob: Path) -> None:
    with unruly_registry(forgets=True) as registry, pytest.raises(EnvironmentLack, match="does not write"):
        send(registry, blob)
    assert len(registry.requests("PATCH")) == 3


def test_a_broken_connection_is_gone_on_with_from_where_the_registry_stands(
    registry: UnrulyRegistry, blob: Path
) -> None:
    registry.breaks("PATCH", "uploads", ("cut", 0), ("cut", 128 * KIB))
    assert send(registry, blob) == len(DATA)
    assert arrived(registry)
    starts = [asked.headers["Content-Range"].partition("-")[0] for asked in registry.requests("PATCH")]
    assert starts[:3] == ["0", "0", str(128 * KIB)]
    assert len(registry.requests("POST")) == 1


def test_a_lost_session_is_begun_anew(registry: UnrulyRegistry, blob: Path) -> None:
    registry.breaks("PATCH", "uploads", None, "lost")
    assert send(registry, blob) == len(DATA)
    assert arrived(registry)
    assert len(registry.requests("POST")) == 2


def test_a_session_lost_at_its_end_is_begun_anew(registry: UnrulyRegistry, blob: Path) -> None:
    registry.breaks("PUT", "uploads", "lost")
    send(registry, blob)
    assert arrived(registry)


def test_a_lost_answer_costs_no_second_upload(registry: UnrulyRegistry, blob: Path) -> None:
    registry.breaks("PUT", "uploads", "deaf")
    send(registry, blob)
    assert arrived(registry)
    assert sent(registry) == len(DATA)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "HEAD"])
def test_trouble_that_passes_is_waited_for(
    registry: UnrulyRegistry, blob: Path, method: str, status: int
) -> None:
    registry.breaks(method, "blobs", status, status)
    assert send(registry, blob) == len(DATA)
    assert arrived(registry)


def test_trouble_that_stays_is_reported_with_the_registrys_words(
    registry: UnrulyRegistry, blob: Path
) -> None:
    registry.refusal = {"message": "out of coffee", "detail": "since noon"}
    registry.breaks("PATCH", "uploads", *[503] * 9)
    with pytest.raises(EnvironmentLack) as reported:
        send(registry, blob)
    found = "HTTP 503 Service Unavailable: out of coffee (since noon)"
    assert reported.value.fact("found") == found
    assert len(registry.requests("PATCH")) == 3


def test_progress_starts_the_count_of_failures_anew(registry: UnrulyRegistry, blob: Path) -> None:
    registry.breaks("PATCH", "uploads", *[("cut", 100 * KIB)] * 9)  # more than the attempts that are made
    send(registry, blob)
    assert arrived(registry)


def test_a_token_that_expires_in_mid_upload_is_replaced(blob: Path) -> None:
    with unruly_registry(token_lasts=2) as registry:
        assert send(registry, blob) == len(DATA)
        assert arrived(registry)
        assert len(registry.requests("GET", "/token")) > 2
        assert len(registry.requests("POST", "uploads")) == 2  # one refused, and no second session


@pytest.mark.parametrize("status", [500, 507])
def test_a_full_disk_is_said_at_once(registry: UnrulyRegistry, blob: Path, status: int) -> None:
    registry.refusal = {"detail": {"Op": "write", "Err": 28}}
    registry.breaks("PATCH", "uploads", *[status] * 9)
    with pytest.raises(EnvironmentLack, match=rf"{registry.host} has no space left"):
        send(registry, blob)
    assert len(registry.requests("PATCH")) == 1


@pytest.mark.parametrize(("status", "text"), [(403, "does not let us write"), (413, "so large")])
def test_a_refusal_is_not_argued_with(registry: UnrulyRegistry, blob: Path, status: int, text: str) -> None:
    registry.breaks("PATCH", "uploads", *[status] * 9)
    with pytest.raises(EnvironmentLack, match=text):
        send(registry, blob)
    assert len(registry.requests("PATCH")) == 1


def test_a_damaged_file_is_noticed(registry: UnrulyRegistry, blob: Path) -> None:
    with repository_in(registry) as repository, pytest.raises(DamagedFile):
        repository.upload(Digest("sha256:" + "0" * 64), blob, ignore)
    assert not registry.blobs


def test_the_end_of_its_connection_ends_an_upload(registry: UnrulyRegistry, blob: Path) -> None:
    with repository_in(registry) as repository, repository.branch() as branch:

        def stop(_size: int) -> None:
            branch.connection.__exit__()

        with pytest.raises(Stopped):
            branch.upload(DIGEST, blob, stop)
        assert repository.blob_size(DIGEST) is None  # the others go on


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["POST", "PATCH", "PUT", "GET", "HEAD"]),
        st.sampled_from([None, 429, 500, "lost", "deaf", ("cut", 0), ("cut", 70 * KIB), ("cut", 200 * KIB)]),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(EVENTS, st.integers(0, 700 * KIB))
def test_whatever_breaks_a_blob_arrives_whole_or_the_trouble_is_reported(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Any]], size: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(DATA[:size])
    with unruly_registry() as registry:
        for method in {method for method, _ in events}:
            registry.breaks(method, "blobs", *[event for name, event in events if name == method])
        try:
            told = send(registry, file)
        except EnvironmentLack:
            assert events
        else:
            assert arrived(registry, DATA[:size])
            assert told == size
