"""--registry, --registry-ca and --plain-http: where images go or come from, and how it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.errors import RequestError
from trtforge.project import Project
from trtforge.registry.access import Access
from trtforge.registry.namespace import Namespace

_PANEL = "Registry"

RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Registry and path: registry.example/team (else matrix.yaml's default).",
        rich_help_panel=_PANEL,
    ),
]
RegistryCaOption = Annotated[
    Path | None,
    typer.Option(
        "--registry-ca",
        help="Certificates (PEM) to trust there, instead of the system's.",
        exists=True,
        dir_okay=False,
        rich_help_panel=_PANEL,
    ),
]
PlainHttpOption = Annotated[
    bool,
    typer.Option(
        "--plain-http",
        help="Speak to it without TLS; loopback needs no telling.",
        rich_help_panel=_PANEL,
    ),
]


def open_namespace(project: Project, registry: str | None, ca: Path | None, plain_http: bool) -> Namespace:
    """Connect to the namespace that the options name; it is a context.

    Raises:
        RequestError: none is named, neither here nor in matrix.yaml, or it is malformed;
            or --registry-ca and --plain-http contradict each other.
    """
    text = registry or project.matrix.registry.default
    if not text:
        raise RequestError(
            "no registry is named",
            ("next", "give one: --registry localhost:5000/trtforge; or set registry.default in matrix.yaml"),
        )
    if ca and plain_http:
        raise RequestError(
            "--registry-ca and --plain-http exclude each other: plain HTTP has no certificates",
            ("next", "leave one of them out"),
        )
    return Namespace.open(text, Access(ca=ca, plain_http=plain_http))
