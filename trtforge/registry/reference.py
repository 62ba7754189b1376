"""Names of images in registries, read as Docker reads them.

Sources: OCI distribution-spec 1.1 (names and tags); the reference grammar of the distribution project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trtforge.errors import RequestError

_HUB = "docker.io"
_HOST = re.compile(r"(?:[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """An image in a registry.

    host: of the registry, with its port if any.
    name: of the repository.
    version: a digest if the reference has one, else a tag.
    """

    host: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}{'@' if self.version.startswith('sha256:') else ':'}{self.version}"


def parse_reference(text: str) -> Reference:
    """Read a reference as Docker does: "ubuntu:22.04" is docker.io/library/ubuntu:22.04.

    Raises:
        RequestError: it is not one.
    """
    host, slash, rest = text.partition("/")
    if not slash or not (set(".:") & set(host) or host == "localhost"):
        host, rest = _HUB, text
    found = _REFERENCE.fullmatch(rest)
    if found is None or not _HOST.fullmatch(host):
        raise RequestError(
            f"{text!r} is not an image reference",
            ("next", "write it as registry/name:tag or registry/name@sha256:..."),
        )
    name = found["name"]
    if host == _HUB and "/" not in name:
        name = f"library/{name}"
    return Reference(host, name, found["digest"] or found["tag"] or "latest")
