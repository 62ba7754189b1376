"""sbom: the software bill of materials of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.commands.selection import Session, with_session
from trtforge.errors import RequestError
from trtforge.sbom import sbom as bill_of


@with_session
def sbom(
    session: Session,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; standard output otherwise.")
    ] = None,
) -> None:
    """Print one cell's software bill of materials (CycloneDX 1.6, JSON). Builds nothing."""
    project, terminal = session.project, session.terminal
    cells = [choice.cell for choice in session.choose()]
    if len(cells) != 1:
        raise RequestError(
            f"a bill of materials is of one image, and these are {len(cells)} cells",
            ("asked", ", ".join(map(project.cells.name, cells[:5])) + (", ..." if len(cells) > 5 else "")),
            ("next", "name one: python build.py sbom --cuda 12.1 --arch ampere"),
        )
    with terminal.progress() as progress:
        lock = project.lock_missing(cells, project.read_lock(), progress)
    bill = bill_of(project.recipes.chain(cells[0], lock), project.projects)
    if output is None:
        typer.echo(bill, nl=False)
        return
    output.write_text(bill, encoding="utf-8")
    terminal.answer({"cell": project.cells.name(cells[0]), "file": str(output)})
    terminal.say(f"written: {output}")
