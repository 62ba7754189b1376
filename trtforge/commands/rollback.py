"""rollback: the tags of an earlier dated image are put back on it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import Session, with_session
from trtforge.errors import RequestError
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.entry import Entry
from trtforge.publishing.rollback import RolledBack
from trtforge.publishing.rollback import rollback as roll_back
from trtforge.registry.namespace import Namespace

_IMAGE = "tensorrt"


@with_session
def rollback(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    to: Annotated[
        str, typer.Option(help="The day to go back to, 20261120, or 20261120.2; else one image back.")
    ] = "",
) -> None:
    """Put the tags of the selected cells back on an earlier image, until something else is published."""
    if to and not re.fullmatch(r"\d{8}(\.[1-9]\d*)?", to):
        raise RequestError(
            f"--to {to} is no day", ("next", "write it as in a dated tag: 20261120, or 20261120.2")
        )
    project, terminal = session.project, session.terminal
    with (
        terminal.progress() as progress,
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
    ):
        catalogue = read_catalogue(namespace, progress)
        done = [roll_back(namespace, catalogue, _IMAGE, tag, to, progress) for tag in _tags(session)]
    for one in done:
        name = namespace.name(_IMAGE)
        terminal.say("", *(f"{name}:{tag}" for tag in one.moved or one.now.tags))
        terminal.say(f"  from     {_told(one.before) if one.before else 'nothing of ours'}")
        terminal.say(f"  to       {_told(one.now)}")
        if not one.moved:
            terminal.say("  moved    nothing: they were there already")
    terminal.answer([_answer(one, namespace) for one in done])


def _tags(session: Session) -> list[str]:
    """The short tags of the selected cells; exact ones where TensorRT or torch is named."""
    cells = session.project.cells
    chosen = session.published() if session.all_cells else cells.choose(session.request)
    exact = {"tensorrt", "torch"} & session.request.keys()
    tags = [cells.tag(choice.cell) if exact else cells.short_tag(choice.cell) for choice in chosen]
    return list(dict.fromkeys(tags))


def _told(entry: Entry) -> str:
    return f"{entry.dated}  {entry.digest}"


def _answer(one: RolledBack, namespace: Namespace) -> dict[str, Any]:
    return {
        "name": f"{namespace.name(_IMAGE)}:{one.tag}",
        "from": one.before.dated if one.before else None,
        "to": one.now.dated,
        "digest": one.now.digest,
        "moved": list(one.moved),
    }
