"""The Docker registry (Debian's docker-registry) on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.oci import Digest


HTPASSWD = "user:$2b$05$trtforgeabcdefghijklm.uySKylb8mAXWsha.j0v6Sc19wUxG9XS\n"
"""The user `user` with the password `pass` (bcrypt, the only kind that Docker's registry takes)."""


@contextmanager
def docker_registry(
    folder: Path,
    *,
    delete: bool = True,
    login: bool = False,
    certificate: tuple[Path, Path] | None = None,
    host: str = "",
) -> Iterator[str]:
    """A running registry that keeps its data in `folder`; "127.0.0.1:port".

    Args:
        delete: whether it deletes when asked to; registries come with that disabled.
        login: only for those who are `user` with the password `pass` (basic authentication).
        certificate: certificate and key, in PEM, for TLS; else it speaks plain HTTP.
        host: that of one that was stopped; else a free one.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        host = host or f"127.0.0.1:{free.getsockname()[1]}"
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": delete},
        },
        "http": {"addr": host},
    }
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if certificate:
        settings["http"]["tls"] = dict(zip(("certificate", "key"), map(str, certificate), strict=True))
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(f"{'https' if certificate else 'http'}://{host}/v2/", process)
        yield host
    finally:
        process.terminate()
        process.wait(timeout=10)


def push(layout: Path, ref: str, target: str) -> None:
    """Copy `ref` of an OCI image layout to `target`, "host/name:tag", byte for byte."""
    copy = ["skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--quiet"]
    command = [*copy, "--insecure-policy", f"oci:{layout}:{ref}", f"docker://{target}"]
    subprocess.run(command, check=True, timeout=120)


def blob_in(folder: Path, digest: Digest) -> Path:
    """Where the registry in `folder` keeps a blob."""
    name = digest.removeprefix("sha256:")
    return folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        try:
            httpx.get(url, verify=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("docker-registry does not answer")
