"""The connection to one registry: it asks patiently, knows who asks, and can be ended from another thread.

Source: OCI distribution-spec 1.1; it speaks of addresses, not of repositories.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, TypeVar

import httpx

from trtforge.progress import Stopped
from trtforge.registry.auth import Login
from trtforge.registry.refusal import says_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from trtforge.registry.access import Access

T = TypeVar("T")

SMALL = 64 << 20
"""Bytes: what is read into memory is not larger (a catalogue; registries refuse manifests above 4 MiB)."""


class Connection:
    """One registry, to be used as a context and from many threads; at its end running transfers end too.

    Args:
        host: "registry.example:5000", as references name it.
    """

    def __init__(self, host: str, access: Access) -> None:
        self.host, self.access = host, access
        self.address = access.address(host)
        self._stop = threading.Event()
        self._login = Login(host, self.address, access.plain_http)
        self._client = httpx.Client(
            verify=access.trust(),
            follow_redirects=True,
            timeout=access.patience.timeout,
            # As many as there are threads at work: httpx would let the hundred and first wait.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            headers={"Accept-Encoding": "identity", "User-Agent": "trtforge"},
        )
        self._owned = True

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._owned:
            self._client.close()

    def branch(self) -> Connection:
        """The same connection, whose transfers can be ended alone."""
        branch = copy(self)
        branch._stop, branch._owned = threading.Event(), False
        return branch

    def go_on(self) -> None:
        """Raise Stopped if this connection's end has come."""
        if self._stop.is_set() or self._client.is_closed:
            raise Stopped

    def followed(self, answer: httpx.Response, named: str) -> httpx.URL:
        """The address that `answer` names, absolute or relative to its own.

        A registry behind a proxy that ends TLS may know itself by plain HTTP only.

        Raises:
            httpx.RemoteProtocolError: it is malformed.
        """
        try:
            url = answer.request.url.join(named)
        except httpx.InvalidURL as error:
            raise httpx.RemoteProtocolError(
                f"a malformed address: {named}", request=answer.request
            ) from error
        if self.address.scheme == "https" and url.scheme == "http" and url.host == self.address.host:
            return url.copy_with(scheme="https", port=self.address.port)
        return url

    @contextmanager
    def stream(
        self,
        method: str,
        url: httpx.URL | str,
        scopes: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        """One request, of which the body of the answer is not read yet.

        Args:
            url: relative to the API's address.
            scopes: what it needs, in the words of token servers.
            content: it must be possible to read it again: a request is repeated with a new token.
        """
        self.go_on()
        with self._client.stream(
            method,
            self.address.join(url),
            headers=headers,
            content=content,
            auth=self._login.for_scopes(*scopes),
        ) as answer:
            yield answer

    def once(
        self,
        method: str,
        url: httpx.URL | str,
        scopes: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        fine: Iterable[int] = (),
    ) -> httpx.Response:
        """One request and its whole answer; a failure is raised, but for the `fine` status codes.

        Raises:
            httpx.HTTPError: see `refusal.refused` for what it means.
        """
        with self.stream(method, url, scopes, headers, content) as answer:
            whole = _whole(answer)
        if whole.status_code not in fine:
            whole.raise_for_status()
        return whole

    def ask(
        self,
        method: str,
        url: httpx.URL | str,
        scopes: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        fine: Iterable[int] = (),
    ) -> httpx.Response:
        """As `once`, again while the registry is in trouble."""
        return self.patiently(lambda: self.once(method, url, scopes, headers, content, fine))

    def patiently(self, work: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """What `work` returns, done again while the registry is in trouble (see `Patience.retrying`)."""
        return self.access.patience.retrying(self._stop, reached)(work)


def _whole(answer: httpx.Response) -> httpx.Response:
    """`answer` with its body read."""
    body = bytearray()
    for chunk in answer.iter_raw():
        body += chunk
        if len(body) > SMALL:
            raise httpx.DecodingError(f"{answer.url.path} has more than {SMALL >> 20} MiB")
    # Docker's registry 2.x says 500 where 507 is meant, which would be waited for in vain.
    full = answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR and says_full(bytes(body))
    status = httpx.codes.INSUFFICIENT_STORAGE if full else answer.status_code
    return httpx.Response(
        status, headers=answer.headers, content=bytes(body), request=answer.request, history=answer.history
    )
