"""A blob on its way to a registry: at once if it is small, else in pieces, going on where a connection broke.

Docker's registry (2.8, measured) goes on between two chunks only: it drops a session that broke within one,
and the upload begins anew.

Source: OCI distribution-spec 1.1, "Pushing blobs": monolithic (POST then PUT), chunked (POST, PATCH..., PUT),
and asking a session where it stands (GET).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trtforge.oci import Digest
    from trtforge.progress import Advance
    from trtforge.registry.connection import Connection

MONOLITHIC = 16 << 20
"""Bytes: a blob up to this size is sent in one request."""

CHUNK = 64 << 20
"""Bytes in one PATCH; proxies that limit requests often do so at 100 MB."""

_READ = 1 << 20


class Upload:
    """One blob's way into a repository. `run` may be called again after it failed: it goes on.

    Args:
        repository: its name.
        scopes: what token servers are asked for.
        opened: gives the blob, to be read from its beginning, as often as it is called.
        size: of the blob, in bytes.
        done: bytes that the registry has confirmed.
    """

    def __init__(
        self,
        connection: Connection,
        repository: str,
        scopes: tuple[str, ...],
        digest: Digest,
        opened: Callable[[], BinaryIO],
        size: int,
        advance: Advance,
    ) -> None:
        self._connection, self._scopes, self._digest = connection, scopes, digest
        self._blobs = f"{repository}/blobs"
        self._opened, self._size = opened, size
        self._told = _Told(advance)
        self._location: httpx.URL | None = None
        self._least = 0
        self._began = False
        self.done = 0

    def run(self) -> None:
        """Send what the registry has not got yet.

        Raises:
            httpx.HTTPError: something broke; whether it may pass is for the caller to say.
        """
        if self._began and self._is_there():  # only the answer was lost
            self._reach(self._size)
            return
        if self._began:
            self._ask_where_it_stands()
        self._began = True
        if self._location is None:
            self._begin()
        if self._at_once:
            self._finish(self._piece(0, self._size))
            return
        while self.done < self._size:
            self._send(min(max(CHUNK, self._least), self._size - self.done))
        self._finish(b"")

    @property
    def _at_once(self) -> bool:
        return self._size <= max(MONOLITHIC, self._least)

    def _is_there(self) -> bool:
        answer = self._connection.once("HEAD", f"{self._blobs}/{self._digest}", self._scopes, fine=[404])
        return answer.is_success

    def _begin(self) -> None:
        """Open a session; the registry may say how small a chunk may be, in bytes."""
        answer = self._connection.once(
            "POST", f"{self._blobs}/uploads/", self._scopes, {"Content-Length": "0"}
        )
        self._follow(answer)
        self._reach(0)
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        self._least = int(least) if least.isdecimal() else 0

    def _send(self, size: int) -> None:
        """The next chunk (Content-Range counts as in "end-6" of the specification: both ends included)."""
        assert self._location is not None
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Content-Range": f"{self.done}-{self.done + size - 1}",
        }
        piece = self._piece(self.done, size)
        answer = self._in_session("PATCH", self._location, headers, piece)
        self._follow(answer)
        confirmed = _confirmed(answer, self.done + size)
        if not self.done < confirmed <= self.done + size:
            self._give_up_session()
            raise httpx.RemoteProtocolError("the upload does not get on", request=answer.request)
        self._reach(confirmed)

    def _finish(self, content: _Piece | bytes) -> None:
        """Close the session, with the whole blob if it is small."""
        assert self._location is not None
        url = self._location.copy_add_param("digest", self._digest)
        size = 0 if isinstance(content, bytes) else content.size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._in_session("PUT", url, headers, content)
        self._reach(self._size)

    def _piece(self, start: int, size: int) -> _Piece:
        return _Piece(self._connection, self._opened, start, size, self._told)

    def _in_session(
        self, method: str, url: httpx.URL, headers: dict[str, str], content: _Piece | bytes
    ) -> httpx.Response:
        """A request in the session. That it is gone (404), or counts otherwise than we do (416), may pass."""
        try:
            return self._connection.once(method, url, self._scopes, headers, content)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (404, 416):
                raise
            self._give_up_session()
            raise httpx.RemoteProtocolError("the upload was lost", request=error.request) from error

    def _ask_where_it_stands(self) -> None:
        """How far the session has come; what cannot be gone on with is given up, and begun anew."""
        if self._location is None or self._at_once:
            self._give_up_session()
            return
        try:
            answer = self._connection.once("GET", self._location, self._scopes)
            self._follow(answer)
            self._reach(min(_confirmed(answer, 0), self._size))
        except httpx.HTTPStatusError as error:
            if error.response.is_server_error or error.response.status_code == 429:
                raise
            self._give_up_session()

    def _give_up_session(self) -> None:
        self._location = None
        self._reach(0)

    def _follow(self, answer: httpx.Response) -> None:
        """Go on where the registry says: relative or not, and with all the parameters it put there."""
        location = answer.headers.get("Location")
        if location:
            self._location = self._connection.followed(answer, location)
        elif self._location is None:
            raise httpx.RemoteProtocolError("an upload without a Location", request=answer.request)

    def _reach(self, done: int) -> None:
        self.done = done
        self._told.correct(done)


def _confirmed(answer: httpx.Response, otherwise: int) -> int:
    """Bytes that the session has, by its Range header: "0-<last byte>"; "0-0" means none, or just one."""
    found = re.fullmatch(r"(?:bytes=)?0-(\d+)", answer.headers.get("Range", ""))
    if found is None:
        return otherwise
    last = int(found[1])
    return last + 1 if last else 0


@dataclass
class _Told:
    """What the progress was told of."""

    advance: Advance
    done: int = 0

    def add(self, size: int) -> None:
        self.done += size
        self.advance(size)

    def correct(self, done: int) -> None:
        if done != self.done:
            self.add(done - self.done)


@dataclass(frozen=True)
class _Piece:
    """Bytes of a blob, which can be read again: a request is repeated with a new token, or elsewhere."""

    connection: Connection
    opened: Callable[[], BinaryIO]
    start: int
    size: int
    told: _Told

    def __iter__(self) -> Iterator[bytes]:
        self.told.correct(self.start)
        with self.opened() as stream:
            stream.seek(self.start)
            left = self.size
            while left:
                self.connection.go_on()
                chunk = stream.read(min(_READ, left))
                if not chunk:
                    raise httpx.LocalProtocolError("the blob became shorter")
                left -= len(chunk)
                yield chunk
                self.told.add(len(chunk))
