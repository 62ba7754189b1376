"""A blob on its way from a registry into a file, going on where a connection broke.

Sources: OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110, section 14 (range requests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.progress import Advance
    from trtforge.registry.connection import Connection


class Download:
    """One blob's way into the new file `target`. `run` may be called again after it failed: it goes on.

    Args:
        url: of the blob, relative to the registry's API.
        scopes: what token servers are asked for.
    """

    def __init__(
        self, connection: Connection, url: str, scopes: tuple[str, ...], target: Path, advance: Advance
    ) -> None:
        self._connection, self._url, self._scopes = connection, url, scopes
        self._target, self._advance = target, advance
        target.touch()

    @property
    def done(self) -> int:
        """Bytes that the file has."""
        return self._target.stat().st_size

    def run(self) -> None:
        """Ask for what is still missing.

        Raises:
            httpx.HTTPError: something broke; whether it may pass is for the caller to say.
        """
        done = self.done
        headers = {"Range": f"bytes={done}-"} if done else {}
        with (
            self._connection.stream("GET", self._url, self._scopes, headers) as answer,
            self._target.open("ab") as out,
        ):
            partial = answer.status_code == httpx.codes.PARTIAL_CONTENT
            fits = not done or answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            whole = answer.status_code in (httpx.codes.OK, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE)
            if done and (whole or (partial and not fits)):
                out.truncate(0)
                self._advance(-done)
            if answer.is_error:
                answer.read()
            answer.raise_for_status()
            if partial and not fits:
                raise httpx.RemoteProtocolError("another range than asked", request=answer.request)
            for chunk in answer.iter_raw():
                self._connection.go_on()
                out.write(chunk)
                self._advance(len(chunk))
