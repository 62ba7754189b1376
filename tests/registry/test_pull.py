"""A base image arrives whole and checked, or not at all."""

from __future__ import annotations

import base64
import gzip
import json
import random
import string
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.loopback_registry import LoopbackRegistry, layer_blob, loopback_registry
from trtforge.errors import BuildError, EnvironmentLack, HashMismatch, RequestError
from trtforge.oci import digest_of
from trtforge.patience import Patience
from trtforge.progress import Silent
from trtforge.registry.access import Access
from trtforge.registry.auth import challenge
from trtforge.registry.pull import PulledImage, pull_image, resolve_digest
from trtforge.registry.reference import Reference, parse_reference
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASTE = Access(patience=Patience(attempts=3, first_pause_s=0, longest_pause_s=0, silence_s=10))
NOISE = "".join(random.Random(1).choices(string.printable, k=300_000))
BIN, ETC = layer_blob(**{"bin/sh": NOISE}), layer_blob(**{"etc/os-release": "ID=tiny"})


@pytest.fixture
def registry() -> Iterator[LoopbackRegistry]:
    with loopback_registry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def pull(registry: LoopbackRegistry, store: Store, version: str = ":1") -> PulledImage:
    return pull_image(f"{registry.host}/base{version}", "linux/amd64", store, Silent(), HASTE)


def blobs_in(store: Store) -> set[str]:
    return {file.name for file in store.oci.glob("blobs/sha256/*")}


def test_an_image_is_in_the_store_after_a_pull(registry: LoopbackRegistry, store: Store) -> None:
    digest = registry.add_image(BIN, ETC)
    image = pull(registry, store)
    assert image.digest == digest
    assert image.config["config"] == {"Env": ["A=b"]}
    assert [(layer.digest, layer.diff_id) for layer in image.layers] == [
        (digest_of(blob), diff_id) for blob, diff_id in (BIN, ETC)
    ]
    for layer, (blob, _) in zip(image.layers, (BIN, ETC), strict=True):
        assert store.blob(layer.digest).read_bytes() == blob
        assert (layer.size, layer.unpacked) == (len(blob), len(gzip.decompress(blob)))
    assert json.loads(store.blob(digest).read_text())["layers"][0]["digest"] == digest_of(BIN[0])


def test_a_second_pull_asks_for_no_layer(registry: LoopbackRegistry, store: Store) -> None:
    registry.add_image(BIN)
    first = pull(registry, store)
    registry.asked.clear()
    assert pull(registry, store) == first
    assert not registry.requests(registry.path_of(BIN[0]))


def test_an_index_leads_to_the_platform(registry: LoopbackRegistry, store: Store) -> None:
    arm, amd = registry.add_image(ETC, tag="arm"), registry.add_image(BIN, tag="amd")
    index = registry.add_index("all", arm64=arm, amd64=amd)
    assert resolve_digest(f"{registry.host}/base:all", HASTE) == index
    assert pull(registry, store, f"@{index}").digest == amd
    with pytest.raises(RequestError) as refused:
        pull_image(f"{registry.host}/base:all", "linux/riscv64", store, Silent(), HASTE)
    assert refused.value.fact("found") == "linux/amd64, linux/arm64"


def test_an_anonymous_token_is_asked_for_once_and_kept(registry: LoopbackRegistry, store: Store) -> None:
    registry.add_image(BIN, ETC)
    registry.wants = "token"
    pull(registry, store)
    tokens = [path for path, _ in registry.asked if path.startswith("/token")]
    assert tokens == ["/token?a=1&service=s&scope=repository%3Abase%3Apull"]


def test_a_login_of_docker_is_used(registry: LoopbackRegistry, store: Store, docker_config: Path) -> None:
    registry.add_image(ETC)
    registry.wants = "basic"
    with pytest.raises(EnvironmentLack) as refused:
        pull(registry, store)
    assert refused.value.fact("next") == f"check the name, or log in: docker login {registry.host}"
    login = {"auths": {registry.host: {"auth": base64.b64encode(b"user:pass").decode()}}}
    (docker_config / "config.json").write_text(json.dumps(login))
    assert pull(registry, store).layers


def test_a_redirected_blob_arrives_and_the_token_does_not_go_along(
    registry: LoopbackRegistry, store: Store
) -> None:
    registry.add_image(BIN)
    registry.wants = "token"
    with loopback_registry() as elsewhere:
        elsewhere.content = dict(registry.content)
        registry.elsewhere = elsewhere.host
        assert pull(registry, store).layers
        assert elsewhere.asked
        assert all("Authorization" not in headers for _, headers in elsewhere.asked)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_that_passes_is_waited_for(registry: LoopbackRegistry, store: Store, status: int) -> None:
    registry.add_image(ETC)
    for path in ("/v2/base/manifests/1", registry.path_of(ETC[0])):
        registry.trouble[path] = deque([status, status])
    assert pull(registry, store).layers


def test_trouble_that_stays_is_reported(registry: LoopbackRegistry, store: Store) -> None:
    registry.add_image(ETC)
    registry.trouble["/v2/base/manifests/1"] = deque([503] * 9)
    with pytest.raises(EnvironmentLack) as reported:
        pull(registry, store)
    assert reported.value.fact("found") == "HTTP 503 Service Unavailable"
    assert len(registry.asked) == HASTE.patience.attempts


def test_a_broken_connection_is_gone_on_with(registry: LoopbackRegistry, store: Store) -> None:
    registry.add_image(BIN)
    path = registry.path_of(BIN[0])
    registry.trouble[path] = deque([("cut", 150_000)])
    pull(registry, store)
    assert [headers.get("Range") for headers in registry.requests(path)] == [None, "bytes=150000-"]


@pytest.mark.parametrize("part", ["manifest", "configuration", "layer", "unpacked layer"])
def test_what_is_not_what_its_digest_says_is_not_kept(
    registry: LoopbackRegistry, store: Store, part: str
) -> None:
    digest = registry.add_image((BIN[0], ETC[1]) if part == "unpacked layer" else BIN)
    manifest = json.loads(registry.content[f"/v2/base/manifests/{digest}"][1])
    path = {
        "manifest": f"/v2/base/manifests/{digest}",
        "configuration": f"/v2/base/blobs/{manifest['config']['digest']}",
    }.get(part, registry.path_of(BIN[0]))
    if part != "unpacked layer":
        kind, data = registry.content[path]
        registry.content[path] = kind, data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(HashMismatch) as refused:
        pull(registry, store, f"@{digest}")
    assert refused.value.name.endswith(f": its {part}")
    assert not blobs_in(store)


def test_a_layer_that_is_not_gzip_is_refused(registry: LoopbackRegistry, store: Store) -> None:
    plain = b"no gzip at all"
    registry.add_image((plain, digest_of(plain)))
    with pytest.raises(BuildError):
        pull(registry, store)
    assert not blobs_in(store)


def test_a_zstd_layer_is_refused_before_anything_is_loaded(registry: LoopbackRegistry, store: Store) -> None:
    zstd = "application/vnd.oci.image.layer.v1.tar+zstd"
    registry.add_image(ETC, mediaType=zstd)
    with pytest.raises(RequestError) as refused:
        pull(registry, store)
    assert refused.value.fact("found") == zstd
    assert not registry.requests(registry.path_of(ETC[0]))


def test_an_unknown_image_is_a_wrong_request(registry: LoopbackRegistry) -> None:
    with pytest.raises(RequestError, match="there is no"):
        resolve_digest(f"{registry.host}/base:absent", HASTE)


def test_what_is_not_a_manifest_is_a_wrong_request(registry: LoopbackRegistry) -> None:
    registry.add_manifest({"schemaVersion": 1, "mediaType": "application/json"}, "old")
    with pytest.raises(RequestError, match="not an image that can be a base"):
        resolve_digest(f"{registry.host}/base:old", HASTE)


def test_a_manifest_cannot_lead_out_of_the_store(registry: LoopbackRegistry, store: Store) -> None:
    registry.add_image(ETC, digest="sha256:../../escape")
    with pytest.raises(RequestError):
        pull(registry, store)


def test_a_registry_that_does_not_answer_is_an_environment_lack() -> None:
    with loopback_registry() as gone:
        host = gone.host
    with pytest.raises(EnvironmentLack):
        resolve_digest(f"{host}/base:1", HASTE)


@pytest.mark.parametrize(
    ("text", "host", "name", "version"),
    [
        ("ubuntu:22.04", "docker.io", "library/ubuntu", "22.04"),
        ("ubuntu", "docker.io", "library/ubuntu", "latest"),
        ("pytorch/pytorch:2.9.1", "docker.io", "pytorch/pytorch", "2.9.1"),
        ("docker.io/debian:12", "docker.io", "library/debian", "12"),
        ("localhost/a:b", "localhost", "a", "b"),
        ("localhost:5000/a/b__c", "localhost:5000", "a/b__c", "latest"),
        ("example.org/a/b:c@sha256:" + "0" * 64, "example.org", "a/b", "sha256:" + "0" * 64),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, host: str, name: str, version: str) -> None:
    assert parse_reference(text) == Reference(host, name, version)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Upper",
        "a b",
        "a:",
        "x/../y",
        "host.org/",
        "a@sha256:12",
        "a//b",
        "h.o:/x",
        "a..b/x",
        "h.o:123456/x",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_reference(text)


PART = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?", fullmatch=True)


@given(
    st.sampled_from(["example.org", "localhost", "127.0.0.1:5000", "docker.io"]),
    st.lists(PART, min_size=2, max_size=4),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
    | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
)
def test_a_reference_is_read_as_it_is_written(host: str, parts: list[str], version: str) -> None:
    reference = Reference(host, "/".join(parts), version)
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("docker.io", "https://registry-1.docker.io/v2/"),
        ("example.org", "https://example.org/v2/"),
        ("localhost:5000", "http://localhost:5000/v2/"),
        ("[::1]:5000", "http://[::1]:5000/v2/"),
        ("localhost.example.org", "https://localhost.example.org/v2/"),
    ],
)
def test_only_loopback_goes_without_tls(host: str, address: str) -> None:
    assert str(Access().address(host)) == address


def test_a_challenge_is_read_with_commas_inside_quotes() -> None:
    header = 'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"'
    assert challenge(header) == (
        "bearer",
        {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"},
    )
