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
        done = [
            (image, roll_back(namespace, catalogue, image, tag, to, progress))
            for image, tag in _names(session)
        ]
    for image, one in done:
        name = namespace.name(image)
        terminal.say("", *(f"{name}:{tag}" for tag in one.moved or one.now.tags))
        terminal.say(f"  from     {_told(one.before) if one.before else 'nothing of ours'}")
        terminal.say(f"  to       {_told(one.now)}")
        if not one.moved:
            terminal.say("  moved    nothing: they were there already")
    terminal.answer([_answer(namespace.name(image), one) for image, one in done])


def _names(session: Session) -> list[tuple[str, str]]:
    """The images and short tags of the selected cells; exact ones where TensorRT or torch is named."""
    cells = session.project.cells
    chosen = session.published() if session.all_cells else cells.choose(session.request)
    exact = {"tensorrt", "torch"} & session.request.keys()
    names = [
        (cells.variant(one.cell).image, cells.tag(one.cell) if exact else cells.short_tag(one.cell))
        for one in chosen
    ]
    return list(dict.fromkeys(names))


def _told(entry: Entry) -> str:
    return f"{entry.dated}  {entry.digest}"


def _answer(name: str, one: RolledBack) -> dict[str, Any]:
    return {
        "name": f"{name}:{one.tag}",
        "from": one.before.dated if one.before else None,
        "to": one.now.dated,
        "digest": one.now.digest,
        "moved": list(one.moved),
    }
