"""gc: free what no locked cell needs, or what is beyond a size; in a registry, what policy lets go."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from trtforge.base import NAME as BASES
from trtforge.cells import Cell
from trtforge.commands.registry_options import PlainHttpOption, RegistryCaOption, open_namespace
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.gc import collect, size_of
from trtforge.project import Project, find_root
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.prune import prune
from trtforge.recipe import Recipe
from trtforge.registry.namespace import Namespace
from trtforge.terminal import Terminal, megabytes


def gc(
    *,
    max_size: Annotated[
        str | None,
        typer.Option(help="Bring the store down to this (50GB, 20GiB), what was not used for longest first."),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="Prune this registry instead, by the policy in matrix.yaml.")
    ] = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Free what no locked cell needs: in the store, and in the Engine our images that have no name."""
    terminal, project = Terminal(json=json), Project(find_root())
    bound = None if max_size is None else bytes_of(max_size)
    if registry is None:
        _collect(project, terminal, bound, dry_run)
        return
    if bound is not None:
        raise RequestError(
            "--max-size is about the store, and --registry about a registry",
            (
                "next",
                "give one of them; how many images of a cell a registry keeps: nightly: keep: in matrix.yaml",
            ),
        )
    with open_namespace(project, registry, registry_ca, plain_http) as namespace:
        _prune(namespace, project.matrix.nightly.keep, terminal, dry_run)


def bytes_of(size: str) -> int:
    """A size as people write it: "50GB" (of 1000), "20GiB" (of 1024), "1.5TB".

    Raises:
        RequestError: it is none.
    """
    try:
        return TypeAdapter(ByteSize).validate_python(size)
    except ValidationError as error:
        raise RequestError(f"{size!r} is not a size", ("next", "write it as 50GB or 20GiB")) from error


def _collect(project: Project, terminal: Terminal, bound: int | None, dry_run: bool) -> None:
    lock = project.read_lock()
    locked = [Cell(**cell.axes) for cell in lock.cells.values() if cell.state == "locked"]
    recipes = [recipe for cell in locked for recipe in project.recipes.chain(cell, lock)]
    freed = collect(recipes, project.store, bound, dry_run=dry_run)
    if bound is not None and freed.left > bound:
        terminal.warn(f"the store keeps {megabytes(freed.left)}: what runs now uses it")
    if dry_run:
        terminal.say(*(f"{megabytes(size_of(path)):>10}  {path}" for path in freed.paths))
        terminal.answer({"would_free": freed.size, "paths": [str(path) for path in freed.paths]})
        return
    in_engine = _tidy_engine(project, recipes, terminal)
    terminal.say(
        f"freed {megabytes(freed.size)} in the store, which has {megabytes(freed.left)} left, "
        f"and {megabytes(in_engine)} in the Engine"
    )
    terminal.answer({"store": freed.size, "left": freed.left, "engine": in_engine})


def _tidy_engine(project: Project, recipes: list[Recipe], terminal: Terminal) -> int:
    """Remove the bases that no recipe stands on, and our images without a name; bytes freed."""
    try:
        engine = project.engine()
        needed = {recipe.base.tag for recipe in recipes if recipe.base}
        for tag in set(engine.tags(BASES)) - needed:
            engine.remove(tag)
        return engine.prune()
    except EnvironmentLack as error:
        terminal.warn(f"the Engine was left alone: {error.problem}")
        return 0


def _prune(namespace: Namespace, keep: int, terminal: Terminal, dry_run: bool) -> None:
    with terminal.progress() as progress:
        pruned = prune(namespace, read_catalogue(namespace, progress), keep, progress, dry_run)
    names = [*pruned.images, *pruned.tags, *pruned.layers]
    terminal.say(*names)
    done = "would go" if dry_run else "removed"
    terminal.say(f"{done}: {len(names)}, {megabytes(pruned.freed)} of blobs; {keep} images of each cell stay")
    terminal.answer({"dry_run": dry_run, "removed": names, "freed": pruned.freed})
