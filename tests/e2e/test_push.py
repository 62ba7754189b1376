"""What we push is an image to others too: a second opinion from skopeo and podman."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.docker_registry import docker_registry
from tests.registry.images import image_of
from trtforge.progress import Silent
from trtforge.registry.artifact import put_artifact
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import push_image
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.image import Image

TOOLS = ("docker-registry", "skopeo", "podman")
KIND = "application/vnd.example.note+json"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"not all of {', '.join(TOOLS)} are here"),
]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Image, str, Store]]:
    """An image of three layers with a note attached; its name in a registry."""
    folder = tmp_path_factory.mktemp("registry")
    store = Store(tmp_path_factory.mktemp("store"))
    image = image_of(store, 3)
    with docker_registry(folder) as host, Namespace.open(f"{host}/team") as namespace:
        repository = namespace.repository("tensorrt")
        push_image(image, "1", repository, store, Silent())
        put_artifact(repository, KIND, b"{}", subject=repository.find_manifest("1"))
        yield image, namespace.name("tensorrt"), store


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspected(name: str, *options: str) -> Any:
    return json.loads(run("skopeo", "inspect", "--tls-verify=false", *options, f"docker://{name}"))


def test_skopeo_reads_it(pushed: tuple[Image, str, Store]) -> None:
    image, name, _ = pushed
    seen = inspected(f"{name}:1")
    assert seen["Digest"] == image.digest
    assert seen["Layers"] == [layer.digest for layer in image.layers]
    assert inspected(f"{name}:1", "--config")["architecture"] == "amd64"
    note = inspected(f"{name}:{image.digest.replace(':', '-')}", "--raw")["manifests"]
    assert [entry["artifactType"] for entry in note] == [KIND]


def test_skopeo_copies_it_unchanged(pushed: tuple[Image, str, Store], tmp_path: Path) -> None:
    image, name, store = pushed
    copy = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false")
    run(*copy, f"docker://{name}@{image.digest}", f"oci:{tmp_path / 'copy'}:1")
    blobs = tmp_path / "copy/blobs/sha256"
    for digest in (image.digest, *(layer.digest for layer in image.layers)):
        assert (blobs / digest.removeprefix("sha256:")).read_bytes() == store.blob(digest).read_bytes()


def test_podman_pulls_it_and_finds_its_files(pushed: tuple[Image, str, Store], tmp_path: Path) -> None:
    image, name, _ = pushed
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    trust = ("--signature-policy", str(policy), "--tls-verify=false", "--quiet")
    with tempfile.TemporaryDirectory() as short:  # podman wants no more than 50 characters here
        podman = ("podman", "--root", str(tmp_path / "root"), "--runroot", short, "--storage-driver", "vfs")
        image_id = run(*podman, "pull", *trust, f"{name}:1").strip()
        [seen] = json.loads(run(*podman, "image", "inspect", image_id))
    assert seen["Digest"] == image.digest
    assert seen["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
    top = next(folder for folder in (tmp_path / "root/vfs/dir").iterdir() if (folder / "file-2").exists())
    assert {file.name for file in top.iterdir()} >= {"file-0", "file-1", "file-2"}
