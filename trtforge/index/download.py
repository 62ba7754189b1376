"""Files from package indexes: streamed, hashed on the way, resumed where a connection broke."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.nap import sleep_using_event

from trtforge.index.credentials import IndexCredentials
from trtforge.index.uv import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.progress import Advance

CHUNK = 1 << 20


class Stopped(Exception):
    """The download was told to stop."""


@dataclass(frozen=True)
class Patience:
    """How long to go on with a server in trouble.

    attempts: in a row that bring nothing new of a file; one that gets further starts the count anew.
    first_pause_s: seconds before the second attempt; each pause is twice the one before.
    longest_pause_s: no pause is longer, even if the server asks for more (Retry-After).
    silence_s: a connection that is silent for so long counts as broken.
    """

    attempts: int = 6
    first_pause_s: float = 1.0
    longest_pause_s: float = 120.0
    silence_s: float = 30.0

    def pause_s(self, failures: int, asked_s: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, when the server asked for `asked_s`."""
        return min(max(self.first_pause_s * 2.0 ** (failures - 1), asked_s), self.longest_pause_s)


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
            timeout=httpx.Timeout(patience.silence_s, connect=min(patience.silence_s, 15.0)),
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
            for attempt in Retrying(
                stop=lambda _state: part.failures >= self._patience.attempts,
                wait=lambda state: self._pause_s(state, part.failures),
                retry=retry_if_exception(_may_pass),
                sleep=sleep_using_event(self._stop),
                reraise=True,
            ):
                with attempt:
                    self._continue(url, part)
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
            self._go_on()
            part.failures += 1
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

    def _pause_s(self, state: RetryCallState, failures: int) -> float:
        error = state.outcome.exception() if state.outcome else None
        answer = error.response if isinstance(error, httpx.HTTPStatusError) else None
        asked = answer.headers.get("Retry-After", "") if answer is not None else ""
        return self._patience.pause_s(failures, seconds_of(asked, time.time()))


def seconds_of(retry_after: str, now: float) -> float:
    """What a Retry-After header asks for, at `now` (RFC 9110, section 10.2.3: seconds, or a date)."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except ValueError:
        return 0.0


@dataclass
class _Part:
    """The beginning of a file, the hash of it, and how often in a row getting more of it has failed."""

    out: BinaryIO
    advance: Advance
    size: int = 0
    largest: int = 0
    failures: int = 0
    validator: str = ""
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        self.out.write(chunk)
        self.hash.update(chunk)
        self.size += len(chunk)
        if self.size > self.largest:
            self.largest, self.failures = self.size, 0
        self.advance(len(chunk))

    def restart(self) -> None:
        self.out.seek(0)
        self.out.truncate()
        self.advance(-self.size)
        self.size, self.hash = 0, hashlib.sha256()


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 416, 425, 429) or error.response.is_server_error
    return isinstance(error, httpx.TransportError)


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


def reason_of(error: Exception) -> str:
    """One line that says why a server did not give a file."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or {"ReadTimeout": "it fell silent", "ConnectTimeout": "no connection in time"}.get(
        type(error).__name__, type(error).__name__
    )
