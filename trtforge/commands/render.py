"""render: the Dockerfiles of the selected cells, with all that a plain `docker build` of them needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trtforge.build import Build
from trtforge.commands.selection import JobsOption, Session, with_session
from trtforge.render import render_context


@with_session
def render(
    session: Session,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the folders go.")] = Path("rendered"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the Dockerfiles, write nothing.")] = False,
    jobs: JobsOption = None,
) -> None:
    """Write each image of the selected cells as a folder for `docker build`."""
    project, terminal = session.project, session.terminal
    cells = [choice.cell for choice in session.choose()]
    with terminal.progress() as progress:
        lock = project.lock_missing(cells, project.read_lock(), progress)
        chains = [project.recipes.chain(cell, lock) for cell in cells]
        recipes = list({recipe.key: recipe for chain in chains for recipe in chain}.values())
        if dry_run:
            terminal.say(*(recipe.dockerfile for recipe in recipes))
            terminal.answer([{"refs": recipe.refs, "dockerfile": recipe.dockerfile} for recipe in recipes])
            return
        layers = Build(project, progress, jobs=session.jobs(jobs).count).layers(recipes)
        answer = []
        for recipe in recipes:
            folder = output / recipe.image / recipe.ref.rpartition(":")[2]
            render_context(recipe, layers, project.store, folder)
            tags = " ".join(f"-t {ref}" for ref in recipe.refs)
            answer.append({"folder": str(folder), "build": f"docker build {tags} {folder}"})
    terminal.answer(answer)
    terminal.say("# in this order:", *(one["build"] for one in answer))
