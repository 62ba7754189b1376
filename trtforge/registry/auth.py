"""How a registry is told who asks: basic authentication, or a bearer token from the server that it names.

Sources: the distribution project's token specification (spec/auth/token); RFC 7617, RFC 6750; Docker's
config.json.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from trtforge.registry.reference import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class RegistryAuth(httpx.Auth):
    """Answers a registry's challenge, anonymously if there are no credentials; tokens are kept.

    Args:
        credentials: user and password for this registry; None: anonymous.
    """

    def __init__(self, credentials: tuple[str, str] | None) -> None:
        self._basic = httpx.BasicAuth(*credentials) if credentials else None
        self._header: str | None = None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._header:
            request.headers["Authorization"] = self._header
        answer = yield request
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return
        scheme, parameters = challenge(answer.headers.get("WWW-Authenticate", ""))
        realm = parameters.pop("realm", "")
        if scheme == "basic" and self._basic:
            signed = next(self._basic.sync_auth_flow(request))
            self._header = signed.headers["Authorization"]
        elif scheme == "bearer" and _may_know_us(realm):
            address = httpx.URL(realm).copy_merge_params(parameters)
            asking = httpx.Request("GET", address, extensions=request.extensions)
            if self._basic:
                asking = next(self._basic.sync_auth_flow(asking))
            granted = yield asking
            granted.read()
            if not granted.is_success:
                return
            self._header = f"Bearer {_token(granted)}"
        else:
            return
        request.headers["Authorization"] = self._header
        yield request


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme, in lower case, and parameters of a WWW-Authenticate header (RFC 9110, section 11.6.1)."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): value for name, value in re.findall(r'(\w+)="([^"]*)"', rest)}


def docker_credentials(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """What `docker login` wrote into config.json for `host`, if it keeps passwords there.

    Args:
        environ: DOCKER_CONFIG names the folder of config.json; else it is ~/.docker.
    """
    server_name = "index.docker.io" if host == "docker.io" else host
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    try:
        entries = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auths", {})
    except (OSError, ValueError):
        return None
    for server, entry in entries.items():
        if re.sub(r"^https?://|/.*$", "", server) == server_name and entry.get("auth"):
            try:
                user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return user, password
    return None


def _token(granted: httpx.Response) -> str:
    """The token in the answer of the token server."""
    try:
        body = granted.json()
        return str(body.get("token") or body["access_token"])
    except (ValueError, KeyError, AttributeError) as error:
        raise httpx.DecodingError(f"no token in the answer of {granted.url.host}") from error


def _may_know_us(realm: str) -> bool:
    """Whether credentials may be sent there: over TLS, or without leaving the machine."""
    url = httpx.URL(realm)
    return url.scheme == "https" or url.host in LOOPBACK
