"""What `docker login` left: credentials in Docker's config.json, or with the helper that it names.

Sources: docker/cli, docs of config.json (auths, credsStore, credHelpers); docker/docker-credential-helpers
(README.md: "Development").
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtforge.errors import EnvironmentLack

if TYPE_CHECKING:
    from collections.abc import Mapping

_HELPER_PATIENCE_S = 60
_IDENTITY = "<token>"
"""The user name by which a helper says that the secret is an identity token."""


@dataclass(frozen=True)
class Credentials:
    """Who asks. Either user and password, or an identity token, which a token server takes instead."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.user or 'identity token'})"


def find_credentials(host: str, environ: Mapping[str, str]) -> Credentials | None:
    """The credentials for the registry `host`; None: anonymous.

    Args:
        environ: DOCKER_CONFIG names the folder of config.json; else it is ~/.docker.

    Raises:
        EnvironmentLack: config.json cannot be read, or the helper that it names is not here or fails.
    """
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(file, str(error)) from error
    if not isinstance(config, dict):
        raise _unreadable(file, "no JSON object")
    server = "https://index.docker.io/v1/" if host == "docker.io" else host
    helper = (config.get("credHelpers") or {}).get(host) or config.get("credsStore")
    kept = _from_helper(str(helper), server, file, environ) if helper else None
    return kept or _from_file(config.get("auths") or {}, server, file)


def _from_helper(helper: str, server: str, file: Path, environ: Mapping[str, str]) -> Credentials | None:
    """What `docker-credential-<helper> get` says: the server on its input, JSON on its output."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server,
            capture_output=True,
            text=True,
            env=dict(environ),
            timeout=_HELPER_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        late = isinstance(error, subprocess.TimeoutExpired)
        raise EnvironmentLack(
            f"the credential helper {program} " + ("does not answer" if late else "cannot be run"),
            ("named in", str(file)),
            ("next", f"install {program}, or take it out of credsStore and credHelpers and log in again"),
        ) from error
    said = done.stdout.strip()
    if done.returncode != 0:
        if "credentials not found" in said:  # the helpers' protocol knows no better sign
            return None
        raise _helper_failed(program, server, said or done.stderr.strip() or f"exit {done.returncode}")
    try:
        answer = json.loads(said)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise _helper_failed(program, server, "something else than Username and Secret") from error
    return Credentials(identity_token=secret) if user == _IDENTITY else Credentials(user, secret)


def _from_file(auths: Mapping[str, Any], server: str, file: Path) -> Credentials | None:
    """What config.json itself keeps; older versions of docker wrote servers as addresses."""
    for name, entry in auths.items():
        if _host_of(name) != _host_of(server) or not isinstance(entry, dict):
            continue
        if token := entry.get("identitytoken"):
            return Credentials(identity_token=str(token))
        if encoded := entry.get("auth"):
            try:
                user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError, TypeError) as error:
                raise _unreadable(file, f"auths: {name}: no base64 of user:password") from error
            return Credentials(user, password)
    return None


def _host_of(server: str) -> str:
    return re.sub(r"^https?://|/.*$", "", server)


def _unreadable(file: Path, why: str) -> EnvironmentLack:
    return EnvironmentLack(
        f"{file} cannot be read", ("found", why), ("next", "repair it, or move it away and log in again")
    )


def _helper_failed(program: str, server: str, said: str) -> EnvironmentLack:
    return EnvironmentLack(
        f"the credential helper {program} has no answer for {server}",
        ("found", said),
        ("next", f"try it by hand: echo {server} | {program} get"),
    )
