"""Whose password goes where: credentials for package indexes, and for no other server."""

from __future__ import annotations

from netrc import NetrcParseError, netrc
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx

from trtforge.index.uv import uv_indexes

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from trtforge.index.uv import Sources


class IndexCredentials(httpx.Auth):
    """Credentials for the servers that the user has some for, and for no other server.

    They come from the addresses of the indexes (https://user:password@host/), from uv's variables
    UV_INDEX_<NAME>_USERNAME and _PASSWORD, or from netrc. uv leaves them out of the addresses it answers.
    """

    def __init__(self, sources: Sources, environ: Mapping[str, str]) -> None:
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        for address in (*uv_indexes(environ), *sources.indexes.values()):
            parts = urlsplit(address)
            if parts.username:
                found = unquote(parts.username), unquote(parts.password or "")
                self._known[_server(address)] = found
        for name, address in sources.indexes.items():
            prefix = "UV_INDEX_" + "".join(c if c.isalnum() else "_" for c in name.upper())
            if user := environ.get(f"{prefix}_USERNAME"):
                self._known[_server(address)] = user, environ.get(f"{prefix}_PASSWORD", "")
        try:
            self._netrc = netrc(environ.get("NETRC")).hosts
        except (OSError, NetrcParseError):
            self._netrc = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the server's credentials, if there are any. httpx drops them when redirected elsewhere."""
        known = self._known.get(_server(str(request.url)))
        if not known and request.url.host in self._netrc:
            user, _, password = self._netrc[request.url.host]
            known = user, password or ""
        if known:
            yield from httpx.BasicAuth(*known).auth_flow(request)
        else:
            yield request


def _server(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.rpartition("@")[2]
