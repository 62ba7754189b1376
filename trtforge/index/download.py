"""Files from package indexes: streamed, hashed on the way, resumed where a connection broke."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from trtforge.index.credentials import IndexCredentials
from trtforge.index.uv import Sources
from trtforge.patience import Patience, reason_of
from trtforge.progress import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.progress import Advance

CHUNK = 1 << 20


class Web:
    """Connections to the servers of `sources`' indexes, to be used as a context and from many threads."""

    def __init__(self, sources: Sources, patience: Patience) -> None:
        self._patience = patience
        self._stop = threading.Event()
        self._live: set[socket.socket] = set()
        self._client = httpx.Client(
            auth=IndexCredentials(sources, os.environ),
            # The same certificates as uv's: SSL_CERT_FILE and SSL_CERT_DIR, or else the system's.
            verify=ssl.create_default_context(),
            follow_redirects=True,
            timeout=patience.timeout,
            headers={"Accept-Encoding": "identity", "User-Agent": "trtforge"},
        )

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """Make every download end at once, from whichever thread it runs in."""
        self._stop.set()
        for connection in tuple(self._live):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def size(self, url: str) -> int | None:
        """The bytes of the file at `url`, if the server says."""
        if url.startswith("file:"):
            return _path(url).stat().st_size
        try:
            answer = self._client.head(url)
        except httpx.TransportError:
            return None
        length = answer.headers.get("Content-Length", "")
        return int(length) if answer.is_success and length.isdecimal() else None

    def save(self, url: str, target: Path, advance: Advance) -> str:
        """Write the file at `url` to `target`; its sha256 in hexadecimal.

        Raises:
            httpx.HTTPError: the server went on failing, or refuses.
            OSError: the disk is full, or a file:// address names no readable file.
            Stopped: `stop` was called.
        """
        with target.open("wb") as out:
            if url.startswith("file:"):
                with _path(url).open("rb") as file:
                    part = _Part(out, advance)
                    for chunk in iter(lambda: file.read(CHUNK), b""):
                        self._go_on()
                        part.add(chunk)
                return part.hash.hexdigest()
            part = _Part(out, advance)
            self._patience.retrying(self._stop, lambda: part.largest)(self._continue, url, part)
            return part.hash.hexdigest()

    def _continue(self, url: str, part: _Part) -> None:
        """Ask for what is still missing of a file (RFC 9110, section 14: range requests)."""
        self._go_on()
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        if part.size and part.validator:
            headers["If-Range"] = part.validator
        try:
            with self._client.stream("GET", url, headers=headers) as answer, self._listed(answer):
                if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part.restart()
                answer.raise_for_status()
                begins = answer.headers.get("Content-Range", "").startswith(f"bytes {part.size}-")
                if part.size and not (answer.status_code == httpx.codes.PARTIAL_CONTENT and begins):
                    part.restart()
                    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                        raise httpx.RemoteProtocolError("the server sent another range than asked")
                etag = answer.headers.get("ETag", "")
                part.validator = "" if etag.startswith("W/") else etag
                for chunk in answer.iter_raw():  # as it comes: a size given here would hold bytes back
                    self._go_on()
                    part.add(chunk)
        except httpx.HTTPError:
            self._go_on()  # the connection broke because it was told to
            raise

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    @contextmanager
    def _listed(self, answer: httpx.Response) -> Iterator[None]:
        connection = answer.extensions["network_stream"].get_extra_info("socket")
        self._live.add(connection)
        try:
            yield
        finally:
            self._live.discard(connection)


@dataclass
class _Part:
    """The beginning of a file, the hash of it, and the most that there was of it so far."""

    out: BinaryIO
    advance: Advance
    size: int = 0
    largest: int = 0
    validator: str = ""
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        self.out.write(chunk)
        self.hash.update(chunk)
        self.size += len(chunk)
        self.largest = max(self.largest, self.size)
        self.advance(len(chunk))

    def restart(self) -> None:
        self.out.seek(0)
        self.out.truncate()
        self.advance(-self.size)
        self.size, self.hash = 0, hashlib.sha256()


def sha256_of(file: Path) -> str:
    """The file's sha256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def index_answers(url: str, timeout_s: float, sources: Sources | None = None) -> str | None:
    """Why the index (or, better, the page of a project in it) at `url` does not answer; None if it does.

    Only the head of the answer is read: the page of a whole index may have megabytes. `sources` tells the
    credentials of the extra indexes.
    """
    if url.startswith("file:"):
        return None if _path(url).exists() else "there is no such folder"
    try:
        with (
            httpx.Client(
                auth=IndexCredentials(sources or Sources(), os.environ),
                verify=ssl.create_default_context(),
                follow_redirects=True,
                timeout=timeout_s,
            ) as client,
            client.stream("GET", url) as answer,
        ):
            return None if answer.is_success else f"HTTP {answer.status_code} {answer.reason_phrase}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return reason_of(error)
