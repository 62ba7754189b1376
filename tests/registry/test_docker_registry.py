"""All of it once more with a real registry: Docker's (Debian's docker-registry)."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.docker_registry import docker_registry
from tests.registry.images import image_of, layer_of
from trtforge.errors import EnvironmentLack
from trtforge.oci import digest_of
from trtforge.patience import Patience
from trtforge.progress import Silent
from trtforge.registry import upload
from trtforge.registry.access import Access
from trtforge.registry.artifact import put_artifact, read_artifact
from trtforge.registry.connection import Connection
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import Pushed, push_image
from trtforge.registry.referrers import fallback_tag
from trtforge.registry.shared_layers import SharedLayers
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not here")

KIND = "application/vnd.example.note+json"
DATA = random.Random(2).randbytes(5 << 20)
SOON = Access(patience=Patience(first_pause_s=0.05))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def namespace(host: str, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace of the test's own."""
    with Namespace.open(f"{host}/{request.node.name.lower().partition('[')[0]}", SOON) as namespace:
        yield namespace


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_an_image_goes_there_and_on_to_another_repository(namespace: Namespace, store: Store) -> None:
    image = image_of(store, 3)
    here, there = namespace.repository("pytorch-cuda"), namespace.repository("tensorrt")
    assert push_image(image, "1", here, store, Silent()) == Pushed(image.digest, image.size, 0, 0)
    assert push_image(image, "1", here, store, Silent()) == Pushed(image.digest, 0, 0, image.size)
    pushed = push_image(image, "1", there, store, Silent(), sources=[here])
    assert pushed == Pushed(image.digest, 0, image.size, 0)
    assert there.read_blob(image.layers[0].digest) == store.blob(image.layers[0].digest).read_bytes()


@pytest.mark.parametrize("size", [0, 1, 200_000, 1 << 20, len(DATA)])
def test_a_blob_arrives_in_one_piece_or_many(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(upload, "MONOLITHIC", 100_000)
    monkeypatch.setattr(upload, "CHUNK", 1 << 20)
    blob = tmp_path / "blob"
    blob.write_bytes(DATA[:size])
    told: list[int] = []
    repository = namespace.repository("x")
    repository.upload(digest_of(DATA[:size]), blob, told.append)
    assert repository.read_blob(digest_of(DATA[:size])) == DATA[:size]
    assert sum(told) == size


@contextmanager
def cutting(host: str, *cuts: int) -> Iterator[str]:
    """A way to `host` whose first connections are reset after so many bytes towards it."""
    remaining = list(cuts)
    address = (host.partition(":")[0], int(host.partition(":")[2]))

    def carry(source: socket.socket, target: socket.socket, left: int | None) -> None:
        try:
            while chunk := source.recv(65536):
                target.sendall(chunk)
                left = left - len(chunk) if left is not None else None
                if left is not None and left <= 0:
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            upstream = socket.create_connection(address)
            left = remaining.pop(0) if remaining else None
            threading.Thread(target=carry, args=(client, upstream, left), daemon=True).start()
            threading.Thread(target=carry, args=(upstream, client, None), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_between_chunks_an_upload_is_gone_on_with(
    namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MONOLITHIC", 100_000)
    monkeypatch.setattr(upload, "CHUNK", 1 << 20)
    blob = tmp_path / "blob"
    blob.write_bytes(DATA)
    once, methods = Connection.once, []

    def breaking(connection: Connection, method: str, *rest: Any, **more: Any) -> httpx.Response:
        methods.append(method)
        if methods == ["HEAD", "POST", "PATCH", "PATCH", "PATCH"]:
            raise httpx.ReadError("as told")
        return once(connection, method, *rest, **more)

    monkeypatch.setattr(Connection, "once", breaking)
    namespace.repository("x").upload(digest_of(DATA), blob, lambda _sent: None)
    assert (methods.count("POST"), methods.count("PATCH")) == (1, 6)  # five chunks, and the one that broke
    assert namespace.repository("x").read_blob(digest_of(DATA)) == DATA


def test_uploads_arrive_over_a_connection_that_breaks(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MONOLITHIC", 100_000)
    blob = tmp_path / "blob"
    blob.write_bytes(DATA)
    told: list[int] = []
    with (
        cutting(host, 1 << 20, 3 << 20, 2 << 20) as way,
        Namespace.open(f"{way}/broken", SOON) as namespace,
    ):
        repository = namespace.repository("x")
        repository.upload(digest_of(DATA), blob, told.append)
        assert repository.read_blob(digest_of(DATA)) == DATA
    assert sum(told) == len(DATA)


def test_what_is_attached_is_found_under_the_fall_back_tag(namespace: Namespace, store: Store) -> None:
    repository = namespace.repository("tensorrt")
    image = image_of(store, 1)
    push_image(image, "1", repository, store, Silent())
    subject = repository.find_manifest("1")
    digest = put_artifact(repository, KIND, b"tested", subject=subject)
    assert repository.referrers(image.digest, KIND) == [digest]
    assert read_artifact(repository, digest, KIND) == b"tested"
    assert set(repository.tags()) == {"1", fallback_tag(image.digest)}


def test_layers_are_shared(namespace: Namespace, store: Store) -> None:
    shared = SharedLayers(namespace.repository("layers"))
    layer = layer_of(store, 7)
    shared.keep("k" * 64, layer, store, Silent())
    assert shared.find("k" * 64) == layer


def test_a_tag_goes_alone_and_a_manifest_with_its_tags(namespace: Namespace, store: Store) -> None:
    repository = namespace.repository("tensorrt")
    image = image_of(store, 2)
    for tag in ("staging", "1", "2"):
        push_image(image, tag, repository, store, Silent())
    put_artifact(repository, KIND, b"tested", subject=repository.find_manifest("1"))
    repository.delete_tag("staging")
    assert set(repository.tags()) == {"1", "2", fallback_tag(image.digest)}
    repository.delete_manifest(image.digest)
    assert repository.tags() == []
    repository.delete_blob(image.layers[0].digest)
    assert repository.blob_size(image.layers[0].digest) is None


def test_where_deletion_is_disabled_that_is_said_and_nothing_moves(tmp_path: Path, store: Store) -> None:
    with (
        docker_registry(tmp_path, delete=False) as host,
        Namespace.open(f"{host}/fixed") as namespace,
    ):
        repository = namespace.repository("tensorrt")
        image = image_of(store, 1)
        push_image(image, "1", repository, store, Silent())
        with pytest.raises(EnvironmentLack, match="does not delete"):
            repository.delete_tag("1")
        assert repository.find_digest("1") == image.digest


def test_a_login_is_asked_for_and_used(tmp_path: Path, store: Store, docker_config: Path) -> None:
    image = image_of(store, 2)
    with docker_registry(tmp_path, login=True) as host, Namespace.open(f"{host}/private") as namespace:
        repository = namespace.repository("tensorrt")
        with pytest.raises(EnvironmentLack, match="does not let us") as refused:
            push_image(image, "1", repository, store, Silent())
        assert refused.value.fact("next") == f"check the name, or log in: docker login {host}"
        login = {"auths": {host: {"auth": base64.b64encode(b"user:pass").decode()}}}
        (docker_config / "config.json").write_text(json.dumps(login))
        assert push_image(image, "1", repository, store, Silent()).digest == image.digest


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA of our own (ca.pem) and its certificate for loopback (server.pem, server.key)."""
    folder = tmp_path_factory.mktemp("authority")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    signed = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names"
    for command in (
        f"{new} -x509 -days 2 -subj /CN=ours -keyout ca.key -out ca.pem",
        f"{new} -subj /CN=registry -keyout server.key -out server.csr",
        f"{signed} -in server.csr -out server.pem",
    ):
        openssl = ["openssl", *command.split()]
        subprocess.run(openssl, cwd=folder, check=True, capture_output=True, timeout=30)
    return folder


@pytest.fixture(scope="module")
def secure_host(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pair = (authority / "server.pem", authority / "server.key")
    with docker_registry(tmp_path_factory.mktemp("secure"), certificate=pair) as host:
        yield host


def test_a_ca_of_our_own_is_trusted_when_told(secure_host: str, authority: Path, store: Store) -> None:
    image = image_of(store, 2)
    with Namespace.open(f"{secure_host}/team", Access(ca=authority / "ca.pem")) as namespace:
        assert push_image(image, "1", namespace.repository("x"), store, Silent()).uploaded == image.size


def test_an_unknown_ca_is_refused_at_once(secure_host: str, tmp_path: Path) -> None:
    stranger = tmp_path / "ca.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=stranger"
    files = ["-keyout", os.devnull, "-out", str(stranger)]
    subprocess.run(["openssl", *command.split(), *files], check=True, capture_output=True, timeout=30)
    with (
        Namespace.open(f"{secure_host}/team", Access(ca=stranger)) as namespace,
        pytest.raises(EnvironmentLack, match="cannot be trusted") as refused,
    ):
        namespace.now()
    assert "--registry-ca" in (refused.value.fact("next") or "")


def test_plain_http_to_a_tls_registry_is_told_of(secure_host: str) -> None:
    with (
        Namespace.open(f"{secure_host}/team") as namespace,
        pytest.raises(EnvironmentLack, match="wants TLS") as refused,
    ):
        namespace.repository("x").tags()
    assert "--registry-ca" in (refused.value.fact("next") or "")


def test_tls_to_a_plain_registry_is_told_of(host: str, authority: Path) -> None:
    with (
        Namespace.open(f"{host}/team", Access(ca=authority / "ca.pem")) as namespace,
        pytest.raises(EnvironmentLack, match="cannot be trusted") as refused,
    ):
        namespace.repository("x").tags()
    assert "--plain-http" in (refused.value.fact("next") or "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.mark.parametrize("monolithic", [True, False])
def test_a_registry_whose_disk_is_full_is_told_of_and_what_it_has_stays(
    small_disk: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, monolithic: bool
) -> None:
    if not monolithic:
        monkeypatch.setattr(upload, "MONOLITHIC", 100_000)
    image = image_of(store, 2)
    (tmp_path / "large").write_bytes(DATA)
    with docker_registry(small_disk) as host, Namespace.open(f"{host}/team") as namespace:
        repository = namespace.repository("x")
        push_image(image, "1", repository, store, Silent())
        with pytest.raises(EnvironmentLack, match="has no space left"):
            repository.upload(digest_of(DATA), tmp_path / "large", lambda _sent: None)
        assert repository.find_digest("1") == image.digest
