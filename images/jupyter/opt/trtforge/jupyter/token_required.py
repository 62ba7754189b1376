"""No Jupyter server runs in this image that anyone could use without a token or password.

An extension of Jupyter Server: it is loaded once all configuration is read (files, environment, arguments),
before the server listens, and ends it if what came out lets everybody in. Source: Jupyter Server's
documentation, "Server Extensions"; jupyter_server/auth/identity.py.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

LEAST = 16
"""Characters of a token that a person chooses: 64 bits, if they are hexadecimal and random."""

WRONG_REQUEST = 2


def refuse(problem: str) -> NoReturn:
    """End with `problem` and what to do."""
    print(
        f"error: {problem}\n"
        f"  rule  no Jupyter server without a token of at least {LEAST} characters, or a password\n"
        "  next  leave JUPYTER_TOKEN unset for a random one, or set it to one: openssl rand -hex 24\n"
        f"exit {WRONG_REQUEST}",
        file=sys.stderr,
        flush=True,
    )
    sys.exit(WRONG_REQUEST)


def weakness(provider: Any) -> str | None:
    """Why anyone, or who guesses, would get past the server's identity `provider`; None if nobody does."""
    from jupyter_server.auth.security import passwd_check

    token, password = getattr(provider, "token", ""), getattr(provider, "hashed_password", "")
    if not provider.auth_enabled:
        return "the configuration leaves neither token nor password"
    if token and len(token) < LEAST:
        return f"the token is shorter than {LEAST} characters"
    if password and passwd_check(password, ""):
        return "the password is empty"
    return None


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "token_required"}]


def _load_jupyter_server_extension(server: Any) -> None:
    if problem := weakness(server.identity_provider):
        refuse(problem)
    if server.allow_unauthenticated_access:
        refuse("ServerApp.allow_unauthenticated_access lets anyone use what asks for no login by itself")
