"""A registry on loopback that can be told to misbehave."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from trtforge.oci import CONFIG, INDEX, LAYER_GZIP, MANIFEST, Digest, canonical_json, digest_of

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator


def layer_blob(**files: str) -> tuple[bytes, Digest]:
    """A gzip-compressed tar of `files`, and its diff ID."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(raw.getvalue(), mtime=0), digest_of(raw.getvalue())


@dataclass
class LoopbackRegistry:
    """What the registry holds, how it behaves, what it was asked.

    host: "127.0.0.1:port".
    trouble: path -> what happens to the next requests for it: a status, or ("cut", bytes) to break off.
    wants: "" for everybody, "token" or "basic": who gets an answer.
    asked: (path, headers) of every request.
    """

    host: str = ""
    content: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    trouble: dict[str, deque[int | tuple[str, int]]] = field(default_factory=dict)
    wants: str = ""
    elsewhere: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def add_blob(self, data: bytes) -> dict[str, Any]:
        """Hold a blob; its digest and size, for a descriptor."""
        digest = digest_of(data)
        self.content[f"/v2/base/blobs/{digest}"] = ("application/octet-stream", data)
        return {"digest": digest, "size": len(data)}

    def add_manifest(self, value: dict[str, Any], *tags: str) -> Digest:
        """Hold a manifest or an index under its digest and `tags`."""
        raw = canonical_json(value)
        for version in (digest_of(raw), *tags):
            self.content[f"/v2/base/manifests/{version}"] = (value["mediaType"], raw)
        return digest_of(raw)

    def add_image(self, *blobs: tuple[bytes, Digest], tag: str = "1", **more: Any) -> Digest:
        """Hold an image of `blobs` (layer, diff ID) as base:`tag`; `more` changes its layers' descriptors."""
        config = {"os": "linux", "architecture": "amd64", "config": {"Env": ["A=b"]}}
        config |= {"rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in blobs]}}
        layers = [{"mediaType": LAYER_GZIP, **self.add_blob(blob), **more} for blob, _ in blobs]
        described = {"mediaType": CONFIG, **self.add_blob(canonical_json(config))}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        return self.add_manifest(manifest, tag)

    def add_index(self, tag: str, **images: Digest) -> Digest:
        """Hold an index of `images` (architecture -> manifest) as base:`tag`."""
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": 1,
                "platform": {"os": "linux", "architecture": name},
            }
            for name, digest in images.items()
        ]
        return self.add_manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, tag)

    def path_of(self, blob: bytes) -> str:
        return f"/v2/base/blobs/{digest_of(blob)}"

    def requests(self, path: str) -> list[dict[str, str]]:
        """The headers of every request for `path`."""
        return [headers for asked, headers in self.asked if asked == path]


@contextmanager
def loopback_registry() -> Iterator[LoopbackRegistry]:
    """A running registry, stopped at the end."""
    registry = LoopbackRegistry()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            registry.asked.append((self.path, dict(self.headers)))
            if self.path.startswith("/token"):
                return self.answer(
                    json.dumps({"token": hashlib.sha256(self.path.encode()).hexdigest()}).encode()
                )
            if not self.may_read():
                return None
            if registry.elsewhere and "/blobs/" in self.path:
                self.send_response(307)
                self.send_header("Location", f"http://{registry.elsewhere}{self.path}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            waiting = registry.trouble.get(self.path)
            event = waiting.popleft() if waiting else None
            if isinstance(event, int):
                return self.refuse(event)
            if self.path not in registry.content:
                return self.refuse(404)
            kind, data = registry.content[self.path]
            return self.answer(data, kind, cut=event[1] if event else None)

        def may_read(self) -> bool:
            given = self.headers.get("Authorization", "")
            expected = {"": "", "token": "Bearer ", "basic": "Basic dXNlcjpwYXNz"}[registry.wants]
            if given.startswith(expected):
                return True
            realm = (
                f'Bearer realm="http://{registry.host}/token?a=1",service="s",scope="repository:base:pull"'
            )
            self.refuse(401, realm if registry.wants == "token" else 'Basic realm="r"')
            return False

        def refuse(self, status: int, authenticate: str = "") -> None:
            self.send_response(status)
            if authenticate:
                self.send_header("WWW-Authenticate", authenticate)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, data: bytes, kind: str = "application/json", cut: int | None = None) -> None:
            begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(begin[1]) if begin else 0
            self.send_response(206 if begin else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data) - start))
            if begin:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start : cut if cut is None else start + cut])
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
