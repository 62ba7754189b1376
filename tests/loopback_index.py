"""A package index (PEP 503) served on loopback from a folder of files, and the tiny packages to put in it.

The server can misbehave on purpose: faults are queued per file and used up one a request.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tarfile
import threading
import zipfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pytest


@dataclass(frozen=True)
class Status:
    """Answer with this status (and headers) instead of the file."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CutAfter:
    """Promise what was asked, send this many bytes of it, and hang up."""

    size: int
    heed_range: bool = True


@dataclass(frozen=True)
class StallAfter:
    """Promise the whole file, send this many bytes of it, and say nothing more until `until` is set."""

    size: int
    until: threading.Event


Fault = Status | CutAfter | StallAfter


@dataclass
class LoopbackIndex:
    """A running index.

    url: the index's address, to be given to uv or pip.
    folder: the files it offers, flat; what is added or changed there is served at once.
    hashes: whether links carry `#sha256=` (PEP 503 lets an index leave them out).
    password: if set, every request must carry it (user "user").
    asked: the path of every request, in order.
    authorised: whether each file request carried a password.
    ranges: the Range header of every file request, in order ("" where there was none).
    faults: file name -> what to do instead of serving it, one a request, first to last.
    frozen_links: project -> its page of links, served from now on whatever becomes of the files.
    """

    url: str
    folder: Path
    hashes: bool = True
    password: str = ""
    asked: list[str] = field(default_factory=list)
    authorised: list[bool] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    faults: defaultdict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    frozen_links: dict[str, str] = field(default_factory=dict)

    def links(self, project: str) -> str:
        """The page of links to a project's files, empty if there are none (PEP 503)."""
        return "\n".join(
            f'<a href="/files/{file.name}{self._fragment(file)}">{file.name}</a>'
            for file in sorted(self.folder.iterdir())
            if file.name.endswith((".whl", ".tar.gz")) and _project(file.name) == project
        )

    def _fragment(self, file: Path) -> str:
        return f"#sha256={sha256_of(file)}" if self.hashes else ""

    @property
    def projects_asked(self) -> set[str]:
        """The projects whose link list was asked for."""
        return {match[1] for path in self.asked if (match := re.fullmatch(r"/simple/([^/]+)/", path))}

    def file_url(self, name: str) -> str:
        """Where the file `name` is served."""
        return self.url.replace("/simple/", f"/files/{name}")

    def with_credentials(self) -> str:
        """The address with user and password in it."""
        return self.url.replace("://", f"://user:{self.password}@")


def ask_only(index: LoopbackIndex, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make `index` the user's default index, with an empty cache in `folder` and no other configuration."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))


@contextmanager
def loopback_index(folder: Path, *, hashes: bool = True, password: str = "") -> Iterator[LoopbackIndex]:
    """Serve `folder` at http://127.0.0.1:<free port>/simple/ while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    index = LoopbackIndex(f"http://127.0.0.1:{port}/simple/", folder, hashes, password)
    server.RequestHandlerClass = type("Handler", (_Handler,), {"index": index})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    index: LoopbackIndex
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.index.asked.append(path)
        if self.index.password and not self._authorised():
            self._answer(401, b"", ("WWW-Authenticate", 'Basic realm="index"'))
        elif match := re.fullmatch(r"/simple/([^/]+)/", path):
            self._links(match[1])
        elif path.startswith("/files/"):
            self._file(self.index.folder / path.removeprefix("/files/"))
        else:
            self._answer(404, b"")

    do_HEAD = do_GET  # noqa: N815

    def _authorised(self) -> bool:
        expected = base64.b64encode(f"user:{self.index.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _links(self, project: str) -> None:
        page = self.index.frozen_links.get(project) or self.index.links(project)
        self._answer(200 if page else 404, f"<!DOCTYPE html>\n{page}".encode(), ("Content-Type", "text/html"))

    def _file(self, file: Path) -> None:
        if not file.is_file():
            return self._answer(404, b"")
        asked_range = self.headers.get("Range") or ""
        fault: Fault | None = None
        if self.command == "GET":
            self.index.ranges.append(asked_range)
            self.index.authorised.append("Authorization" in self.headers)
            queue = self.index.faults[file.name]
            fault = queue.pop(0) if queue else None
        if isinstance(fault, Status):
            return self._answer(fault.code, b"", *fault.headers)

        data = file.read_bytes()
        etag = f'"{sha256_of(file)}"'
        status, headers = 200, [("Accept-Ranges", "bytes"), ("ETag", etag)]
        heeded = self.headers.get("If-Range", etag) == etag and getattr(fault, "heed_range", True)
        if heeded and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked_range)):
            start, end = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
            status, headers = 206, [*headers, ("Content-Range", f"bytes {start}-{end}/{len(data)}")]
            data = data[start : end + 1]
        self.close_connection = fault is not None
        self._answer(status, data, *headers, send=fault.size if fault else None)
        if isinstance(fault, StallAfter):
            self.wfile.flush()
            fault.until.wait(60)
        return None

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str], send: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:send])

    def log_message(self, *_args: object) -> None:
        pass


def _project(filename: str) -> str | None:
    parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
    try:
        return parse(filename)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def sha256_of(file: Path) -> str:
    """The file's sha256 in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tiny_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """A wheel of a few hundred bytes: `files`, or one module that says its version."""
    module = canonicalize_name(name).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    tags = "".join(
        f"Tag: {python}-{abi}-{platform}\n"
        for python in tag.split("-")[0].split(".")
        for abi in tag.split("-")[1].split(".")
        for platform in tag.split("-")[2].split(".")
    )
    members = {
        **(files or {f"{module}/__init__.py": f'__version__ = "{version}"\n'.encode()}),
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tiny\nRoot-Is-Purelib: true\n{tags}".encode(),
    }
    record = "".join(f"{path},sha256={_record_hash(data)},{len(data)}\n" for path, data in members.items())
    members[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return wheel


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def tiny_sdist(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A source distribution of `files` plus its PKG-INFO."""
    root = PurePosixPath(f"{canonicalize_name(name).replace('-', '_')}-{version}")
    members = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **files}
    folder.mkdir(parents=True, exist_ok=True)
    sdist = folder / f"{root}.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for path, text in members.items():
            entry = tarfile.TarInfo(str(root / path))
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return sdist
