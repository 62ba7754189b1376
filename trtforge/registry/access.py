"""How registries are reached: which certificates are trusted, where plain HTTP is allowed, how patiently."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import RequestError
from trtforge.patience import Patience

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that may be spoken to without TLS."""

_HUB = "docker.io", "registry-1.docker.io"
"""Docker's own registry answers at another name than the one in references."""


@dataclass(frozen=True)
class Access:
    """How registries are reached.

    ca: certificates (PEM) trusted instead of the system's; given one, loopback is spoken to with TLS too.
    plain_http: without TLS beyond loopback too.
    """

    ca: Path | None = None
    plain_http: bool = False
    patience: Patience = field(default_factory=Patience)

    def address(self, host: str) -> httpx.URL:
        """Where the distribution API of the registry called `host` in references begins."""
        host = _HUB[1] if host == _HUB[0] else host
        loopback = httpx.URL(f"http://{host}").host in LOOPBACK
        plain = self.plain_http or (loopback and self.ca is None)
        return httpx.URL(f"{'http' if plain else 'https'}://{host}/v2/")

    def trust(self) -> ssl.SSLContext:
        """The certificates that are trusted.

        Raises:
            RequestError: `ca` cannot be read, or holds none.
        """
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise RequestError(
                f"{self.ca} holds no certificates",
                ("found", error.strerror or str(error)),
                ("next", "give --registry-ca the registry's CA in PEM form"),
            ) from error
