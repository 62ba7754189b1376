"""What a registry's refusal means, in words that a person can act on.

Here is the place for the quirks in how registries say no.

Sources: OCI distribution-spec 1.1 (error codes); RFC 9110, section 15; RFC 4918, section 11.5 (507).
"""

from __future__ import annotations

import re
from typing import Any

import httpx

from trtforge.errors import EnvironmentLack, RequestError
from trtforge.patience import reason_of, tls_trouble

_FULL = re.compile(rb'no space left|disk quota exceeded|"Err": ?(28|122)\b')
"""Of a full disk, in words or as Linux's error number (ENOSPC, EDQUOT), which Docker's registry gives."""

_SAID_AT_MOST = 300
_TLS_NEXT = (
    "a certificate of a CA of your own: --registry-ca FILE; plain HTTP, on a network you trust: --plain-http"
)


def refused(place: str, doing: str, error: httpx.HTTPError) -> RequestError | EnvironmentLack:
    """The error for a person.

    Args:
        place: "registry.example/team/image".
        doing: what was asked of it: "read", "write", "delete".
    """
    host = place.partition("/")[0]
    found = ("found", _found(error))
    trouble = tls_trouble(error)
    if trouble is not None:
        why = getattr(trouble, "verify_message", "") or trouble.reason or str(trouble)
        return EnvironmentLack(f"{host} cannot be trusted", ("found", why), ("next", _TLS_NEXT))
    answer = error.response if isinstance(error, httpx.HTTPStatusError) else None
    status = answer.status_code if answer is not None else None
    if answer is not None and "HTTP request to an HTTPS server" in answer.text:
        return EnvironmentLack(
            f"{host} wants TLS",
            found,
            ("next", "leave --plain-http out; on loopback, give --registry-ca"),
        )
    if status == httpx.codes.NOT_FOUND:
        return RequestError(
            f"there is no {place}",
            ("asked", str(error.request.url)),
            found,
            ("next", "check the name; a tag may have been removed"),
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return EnvironmentLack(
            f"{host} does not let us {doing} {place.partition('/')[2]}",
            found,
            ("next", f"check the name, or log in: docker login {host}"),
        )
    if status == httpx.codes.INSUFFICIENT_STORAGE:
        return EnvironmentLack(
            f"the registry {host} has no space left",
            found,
            ("state", "what was there before is untouched"),
            ("next", "make room there, and run the same command again: python build.py gc --registry helps"),
        )
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return EnvironmentLack(
            f"{host} does not take something so large",
            found,
            ("next", "raise its limit, or that of the proxy before it (nginx: client_max_body_size)"),
        )
    return EnvironmentLack(
        f"{host} does not {doing} {place}",
        found,
        ("next", "check the network, and that the registry is well; the same command goes on from here"),
    )


def says_full(body: bytes) -> bool:
    """Whether an error's body says that the registry's disk is full."""
    return _FULL.search(body) is not None


def undeletable(place: str, error: httpx.HTTPStatusError) -> EnvironmentLack:
    """Deletion is disabled in the registry's own configuration, as it is by default."""
    return EnvironmentLack(
        f"{place.partition('/')[0]} does not delete",
        ("found", _found(error)),
        ("next", "allow it there (Docker's registry: storage.delete.enabled), or delete by its own means"),
    )


def _found(error: httpx.HTTPError) -> str:
    """What happened, and what the registry itself says of it (errors[].message of the OCI error body)."""
    said = _said(error.response) if isinstance(error, httpx.HTTPStatusError) else ""
    return f"{reason_of(error)}: {said}" if said else reason_of(error)


def _said(answer: httpx.Response) -> str:
    try:
        errors = answer.json()["errors"]
        return "; ".join(map(_sentence, errors))[:_SAID_AT_MOST]
    except (ValueError, KeyError, TypeError, AttributeError):
        plain = answer.headers.get("Content-Type", "").startswith("text/plain")
        return answer.text.strip()[:_SAID_AT_MOST] if plain else ""


def _sentence(error: dict[str, Any]) -> str:
    detail = error.get("detail")
    message = str(error.get("message") or error.get("code") or "")
    return f"{message} ({detail})" if isinstance(detail, str) and detail else message
