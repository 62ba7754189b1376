"""gc: free what no locked cell needs."""

from __future__ import annotations

from typing import Annotated

import typer

from trtforge.base import NAME as BASES
from trtforge.cells import Cell
from trtforge.errors import EnvironmentLack
from trtforge.gc import collect, size_of, unneeded
from trtforge.project import Project, find_root
from trtforge.terminal import Terminal, megabytes


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Free what no locked cell needs: in the store, and in the Engine our images that have no name."""
    terminal, project = Terminal(json=json), Project(find_root())
    lock = project.read_lock()
    locked = [Cell(**cell.axes) for cell in lock.cells.values() if cell.state == "locked"]
    recipes = [recipe for cell in locked for recipe in project.recipes.chain(cell, lock)]
    if dry_run:
        paths = unneeded(recipes, project.store)
        terminal.say(*(f"{megabytes(size_of(path)):>10}  {path}" for path in paths))
        terminal.answer({"would_free": sum(map(size_of, paths)), "paths": [str(path) for path in paths]})
        return
    freed = collect(recipes, project.store)
    try:
        engine = project.engine()
        needed = {recipe.base.tag for recipe in recipes if recipe.base}
        for tag in set(engine.tags(BASES)) - needed:
            engine.remove(tag)
        in_engine = engine.prune()
    except EnvironmentLack as error:
        terminal.warn(f"the Engine was left alone: {error.problem}")
        in_engine = 0
    terminal.say(f"freed {megabytes(freed)} in the store, {megabytes(in_engine)} in the Engine")
    terminal.answer({"store": freed, "engine": in_engine})
