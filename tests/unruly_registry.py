"""A small registry in memory that can be told to misbehave, and what it was asked.

It does what OCI distribution-spec 1.1 says, in the ways that real registries differ in (see `Habits`), and
breaks where it is told to (see `UnrulyRegistry.breaks`).
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit

from trtforge.oci import INDEX, Digest, digest_of
from trtforge.patience import Patience
from trtforge.registry.access import Access
from trtforge.registry.connection import Connection
from trtforge.registry.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<part>blobs/uploads|blobs|manifests|tags|referrers)/(?P<rest>.*)")


HASTE = Access(patience=Patience(attempts=3, first_pause_s=0, longest_pause_s=0, silence_s=10))


@dataclass
class Habits:
    """The ways in which registries differ.

    mounts: takes blobs over from other repositories; else it begins an upload session.
    referrers: keeps count of what is attached to manifests.
    deletes: what it deletes when asked to.
    absolute: names upload sessions with its own address.
    page: tags in one answer.
    token_lasts: requests that a token is good for; 0: it wants none.
    least_chunk: OCI-Chunk-Min-Length, in bytes.
    storage: host of another registry, where blobs are redirected to.
    forgets: takes chunks and says that it has nothing.
    """

    mounts: bool = True
    referrers: bool = False
    deletes: Literal["tags", "manifests", "nothing"] = "manifests"
    absolute: bool = True
    page: int = 1000
    token_lasts: int = 0
    least_chunk: int = 0
    storage: str = ""
    forgets: bool = False


@dataclass(frozen=True)
class Asked:
    """A request. path: without the query."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class UnrulyRegistry:
    """What the registry holds, how it behaves, what it was asked.

    host: "127.0.0.1:port".
    blobs, manifests: (repository, digest or tag) -> the bytes, with the media type for manifests.
    broken: (method, part of a path) -> what happens to the next such requests: a status; ("cut", n): the
        connection is reset when n bytes of the request's body are in; "lost": the session is forgotten first;
        ("lie", digest): that is what it says the manifest is; "deaf": done, but the answer never comes;
        "short": the connection is reset in the middle of the answer's body.
    """

    host: str = ""
    habits: Habits = field(default_factory=Habits)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    broken: dict[tuple[str, str], deque[Any]] = field(default_factory=dict)
    refusal: dict[str, Any] = field(default_factory=lambda: {"message": "as told"})
    asked: list[Asked] = field(default_factory=list)
    tokens: dict[str, tuple[set[str], int]] = field(default_factory=dict)

    def breaks(self, method: str, part: str, *events: Any) -> None:
        """Have `events` happen to the next requests whose path has `part` in it."""
        self.broken[method, part] = deque(events)

    def event(self, method: str, path: str) -> Any:
        for (name, part), events in self.broken.items():
            if name == method and part in path and events:
                return events.popleft()
        return None

    def requests(self, method: str, part: str = "") -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method and part in asked.path]

    def referrers_of(self, name: str, subject: str) -> list[dict[str, Any]]:
        found = {}
        for (repository, _), (kind, body) in list(self.manifests.items()):
            manifest = json.loads(body)
            if repository == name and manifest.get("subject", {}).get("digest") == subject:
                found[digest_of(body)] = {
                    "mediaType": kind,
                    "digest": digest_of(body),
                    "size": len(body),
                    "artifactType": manifest["artifactType"],
                }
        return list(found.values())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    registry: UnrulyRegistry

    def log_message(self, *_arguments: object) -> None:
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        registry = self.registry
        registry.asked.append(Asked(self.command, url.path, query, dict(self.headers)))
        if url.path == "/token":
            return self._grant(parse_qs(url.query).get("scope", []))
        if not self._may(url.path):
            return None
        self.event = registry.event(self.command, url.path)
        if isinstance(self.event, int):
            self._body()
            return self._refuse(self.event)
        if url.path == "/v2/":
            return self._answer(200)
        found = _PATH.fullmatch(url.path)
        if found is None:
            return self._refuse(404)
        part = {"blobs/uploads": "uploads"}.get(found["part"], found["part"])
        body = b"" if part == "uploads" else self._body()
        answer: Callable[[str, str, dict[str, str], bytes], None] = getattr(self, f"_{part}")
        return answer(found["name"], found["rest"], query, body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = _handle  # noqa: N815

    # who asks

    def _grant(self, scopes: list[str]) -> None:
        token = uuid.uuid4().hex
        self.registry.tokens[token] = (set(scopes), self.registry.habits.token_lasts)
        self._answer(200, json.dumps({"token": token}).encode())

    def _may(self, path: str) -> bool:
        if not self.registry.habits.token_lasts:
            return True
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        scopes, left = self.registry.tokens.get(token, (set(), 0))
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        found = _PATH.fullmatch(path)
        name = found["name"] if found else ""
        granted = {f"{s.rpartition(':')[0]}:{a}" for s in scopes for a in s.rpartition(":")[2].split(",")}
        if left and f"repository:{name}:{action}" in granted:
            self.registry.tokens[token] = (scopes, left - 1)
            return True
        realm = f'Bearer realm="http://{self.registry.host}/token",service="s"'
        self._refuse(
            401, {"WWW-Authenticate": realm, "Connection": "close"}
        )  # a body may still be on its way
        return False

    # what it holds

    def _manifests(self, name: str, version: str, _query: dict[str, str], body: bytes) -> None:
        held, habits = self.registry.manifests, self.registry.habits
        if self.command == "PUT":
            digest = digest_of(body)
            held[name, version] = held[name, digest] = (self.headers["Content-Type"], body)
            headers = {"Docker-Content-Digest": self._said(digest)}
            subject = json.loads(body).get("subject")
            if subject and habits.referrers:
                headers["OCI-Subject"] = subject["digest"]
            return self._answer(201, headers=headers)
        is_tag = not version.startswith("sha256:")
        if self.command == "DELETE" and (
            habits.deletes == "nothing" or (is_tag and habits.deletes != "tags")
        ):
            return self._refuse(405, code="UNSUPPORTED")
        if (name, version) not in held:
            return self._refuse(404)
        kind, content = held[name, version]
        if self.command == "DELETE":
            for key in [key for key, value in list(held.items()) if key[0] == name and value[1] == content]:
                if not is_tag or key[1] == version:
                    del held[key]
            return self._answer(202)
        said = self._said(digest_of(content))
        return self._answer(200, content, {"Docker-Content-Digest": said}, kind)

    def _said(self, digest: Digest) -> str:
        lies = isinstance(self.event, tuple) and self.event[0] == "lie"
        return str(self.event[1]) if lies else digest

    def _blobs(self, name: str, digest: str, _query: dict[str, str], _body: bytes) -> None:
        blobs = self.registry.blobs
        if (name, digest) not in blobs:
            return self._refuse(404)
        if self.command == "DELETE":
            if self.registry.habits.deletes == "nothing":
                return self._refuse(405, code="UNSUPPORTED")
            del blobs[name, digest]
            return self._answer(202)
        if storage := self.registry.habits.storage:
            return self._answer(307, headers={"Location": f"http://{storage}{self.path}"})
        return self._answer(200, blobs[name, digest])

    def _tags(self, name: str, _rest: str, query: dict[str, str], _body: bytes) -> None:
        tags = sorted(v for n, v in self.registry.manifests if n == name and not v.startswith("sha256:"))
        if not tags:
            return self._refuse(404)
        size = self.registry.habits.page
        page = [tag for tag in tags if tag > query.get("last", "")][:size]
        more = page and page[-1] != tags[-1]
        link = {"Link": f'</v2/{name}/tags/list?n={size}&last={page[-1]}>; rel="next"'} if more else {}
        return self._answer(200, json.dumps({"name": name, "tags": page}).encode(), link)

    def _referrers(self, name: str, subject: str, _query: dict[str, str], _body: bytes) -> None:
        if not self.registry.habits.referrers:
            return self._refuse(404)
        found = self.registry.referrers_of(name, subject)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        return self._answer(200, json.dumps(index).encode(), kind=INDEX)

    # uploads

    def _uploads(self, name: str, session: str, query: dict[str, str], _body: bytes) -> None:
        registry = self.registry
        if self.event == "lost":
            registry.sessions.pop(session, None)
        if self.command == "POST":
            self._body()
            return self._begin(name, query)
        if session not in registry.sessions or query.get("state") != "kept+=":
            self._body()
            return self._refuse(404, code="BLOB_UPLOAD_UNKNOWN")
        held = registry.sessions[session]
        if self.command == "DELETE":
            del registry.sessions[session]
            return self._answer(204)
        if self.command == "GET":
            return self._stands(name, session, 204)
        start = self.headers.get("Content-Range", f"{len(held)}-").partition("-")[0]
        if int(start) != len(held):
            self._body()
            return self._refuse(416)
        held += self._body()
        if self.command == "PATCH":
            return self._stands(name, session, 202)
        del registry.sessions[session]
        if digest_of(bytes(held)) != query["digest"]:
            return self._refuse(400, code="DIGEST_INVALID")
        registry.blobs[name, query["digest"]] = bytes(held)
        return self._reset() if self.event == "deaf" else self._answer(201)

    def _begin(self, name: str, query: dict[str, str]) -> None:
        source = (query.get("from", ""), query.get("mount", ""))
        if self.registry.habits.mounts and source in self.registry.blobs:
            self.registry.blobs[name, source[1]] = self.registry.blobs[source]
            return self._answer(201)
        session = uuid.uuid4().hex
        self.registry.sessions[session] = bytearray()
        return self._stands(name, session, 202)

    def _stands(self, name: str, session: str, status: int) -> None:
        here = f"/v2/{name}/blobs/uploads/{session}?state=kept%2B%3D"
        own = f"http://{self.registry.host}" if self.registry.habits.absolute else ""
        size = 0 if self.registry.habits.forgets else len(self.registry.sessions[session])
        headers = {"Location": own + here, "Range": f"0-{max(0, size - 1)}"}
        if self.registry.habits.least_chunk:
            headers["OCI-Chunk-Min-Length"] = str(self.registry.habits.least_chunk)
        self._answer(status, headers=headers)

    # the wire

    def _body(self) -> bytes:
        """The request's body; told to cut, it keeps what has come in its session, as registries do."""
        size = int(self.headers.get("Content-Length") or 0)
        if isinstance(self.event, tuple) and self.event[0] == "cut":
            session = urlsplit(self.path).path.rpartition("/")[2]
            part = self.rfile.read(min(self.event[1], size))
            if session in self.registry.sessions:
                self.registry.sessions[session] += part
            self._reset()
            raise ConnectionAbortedError
        return self.rfile.read(size)

    event: Any = None

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _refuse(self, status: int, headers: dict[str, str] | None = None, code: str = "UNKNOWN") -> None:
        body = json.dumps({"errors": [{"code": code, **self.registry.refusal}]}).encode()
        self._answer(status, body, {"Retry-After": "0", **(headers or {})})

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body[: len(body) // 2] if self.event == "short" else body)
            if self.event == "short":
                self._reset()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """Connections that break are what the tests are about."""


@contextmanager
def unruly_registry(**habits: Any) -> Iterator[UnrulyRegistry]:
    """A running registry with these `Habits`, stopped at the end."""
    registry = UnrulyRegistry(habits=Habits(**habits))
    handler = type("Handler", (_Handler,), {"registry": registry})
    with _Server(("127.0.0.1", 0), handler) as server:
        registry.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def repository_in(
    registry: UnrulyRegistry, name: str = "tensorrt", access: Access = HASTE
) -> Iterator[Repository]:
    """A repository of it, connected to, by somebody in haste unless `access` says otherwise."""
    with Connection(registry.host, access) as connection:
        yield Repository(connection, name)
