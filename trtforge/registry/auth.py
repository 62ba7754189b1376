"""How a registry is told who asks: basic authentication, or a bearer token from the server that it names.

A token is for what it was asked for (scopes) and expires; so there is one for each set of scopes, and a
refusal in the middle of anything, an upload too, brings a new one.

Sources: the distribution project's specifications of tokens (spec/auth/token, jwt, oauth, scope); RFC 7617,
RFC 6750.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING

import httpx

from trtforge.registry.access import LOOPBACK
from trtforge.registry.docker_config import find_credentials

if TYPE_CHECKING:
    from collections.abc import Generator

    from trtforge.registry.docker_config import Credentials


class Login:
    """Us, as one registry knows us: anonymous if there are no credentials. Tokens are kept.

    Args:
        host: of the registry, as credentials are kept for it.
        address: of its API; nothing else is told who asks.
        plain_http: credentials may be sent without TLS.
    """

    def __init__(self, host: str, address: httpx.URL, plain_http: bool = False) -> None:
        self.host, self.address, self.plain_http = host, address, plain_http
        self.headers: dict[frozenset[str], str] = {}
        self.asking = threading.Lock()

    def for_scopes(self, *scopes: str) -> httpx.Auth:
        """Authentication of one request, which needs `scopes`: "repository:name:pull,push"."""
        return _Authentication(self, frozenset(scopes))

    def is_for(self, url: httpx.URL) -> bool:
        """Whether the registry itself is at `url`: redirects lead elsewhere."""
        return (url.scheme, url.host, url.port) == (self.address.scheme, self.address.host, self.address.port)

    def token_server(self, realm: str) -> httpx.URL | None:
        """Where the registry sends us, if credentials may be sent there.

        They may over TLS, without leaving the machine, or when we were told so.
        """
        try:
            url = httpx.URL(realm)
        except httpx.InvalidURL:
            return None
        allowed = url.scheme == "https" or url.host in LOOPBACK or (self.plain_http and url.scheme == "http")
        return url if allowed else None


class _Authentication(httpx.Auth):
    def __init__(self, login: Login, scopes: frozenset[str]) -> None:
        self._login, self._scopes = login, scopes

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        login = self._login
        if not login.is_for(request.url):
            yield request
            return
        tried = login.headers.get(self._scopes)
        if tried:
            request.headers["Authorization"] = tried
        answer = yield request
        if answer.status_code != httpx.codes.UNAUTHORIZED or not login.is_for(answer.request.url):
            return
        ours = False
        while not ours and answer.status_code == httpx.codes.UNAUTHORIZED:
            with login.asking:
                header = login.headers.get(self._scopes)
                ours = header in (None, tried)  # else another thread's, got meanwhile; that may be over too
                if ours:
                    header = yield from self._answer(answer.headers.get_list("WWW-Authenticate"), request)
                    if not header or header == tried:
                        return
                    login.headers[self._scopes] = header
            tried = request.headers["Authorization"] = str(header)
            answer = yield request

    def _answer(
        self, challenges: list[str], request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, str | None]:
        """The header that answers one of the registry's `challenges`."""
        known = find_credentials(self._login.host, os.environ)
        for scheme, parameters in map(challenge, challenges):
            if scheme == "bearer" and (realm := self._login.token_server(parameters.get("realm", ""))):
                granted = yield self._token_request(realm, parameters, known, request)
                granted.read()
                return f"Bearer {_token(granted)}" if granted.is_success else None
            if scheme == "basic" and known and known.user:
                return _basic(known, request).headers["Authorization"]
        return None

    def _token_request(
        self,
        realm: httpx.URL,
        parameters: dict[str, str],
        known: Credentials | None,
        request: httpx.Request,
    ) -> httpx.Request:
        scopes = sorted(self._scopes | set(parameters.get("scope", "").split()))
        wanted = {key: value for key, value in parameters.items() if key not in ("realm", "scope", "error")}
        if known and known.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            form |= {"service": wanted.get("service", ""), "client_id": "trtforge", "scope": " ".join(scopes)}
            return httpx.Request("POST", realm, data=form, extensions=request.extensions)
        query = realm.params.merge(wanted)
        for scope in scopes:
            query = query.add("scope", scope)
        asking = httpx.Request("GET", realm.copy_with(params=query), extensions=request.extensions)
        return _basic(known, asking) if known else asking


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme, in lower case, and parameters of a WWW-Authenticate header (RFC 9110, section 11.6.1)."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): value for name, value in re.findall(r'(\w+)="([^"]*)"', rest)}


def _basic(known: Credentials, request: httpx.Request) -> httpx.Request:
    return next(httpx.BasicAuth(known.user, known.password).sync_auth_flow(request))


def _token(granted: httpx.Response) -> str:
    """The token in the answer of the token server."""
    try:
        body = granted.json()
        return str(body.get("token") or body["access_token"])
    except (ValueError, KeyError, AttributeError) as error:
        raise httpx.DecodingError(f"no token in the answer of {granted.url.host}") from error
