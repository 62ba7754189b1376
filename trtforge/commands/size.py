"""size: what built images are made of, in bytes: layers, packages, budgets, and a picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from trtforge.cells import Cell
from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import Session, with_session
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.lock import Lock
from trtforge.progress import Progress
from trtforge.project import Project
from trtforge.publishing.catalogue import Catalogue, read_catalogue
from trtforge.sizes.budget import NAMED
from trtforge.sizes.growth import Growth
from trtforge.sizes.measured import Measured, measure
from trtforge.sizes.size import human, signed, total
from trtforge.sizes.treemap import draw_html, draw_svg
from trtforge.terminal import Terminal, plain_table

DRAWN = {".svg": draw_svg, ".html": draw_html}
"""What --treemap draws, by the file's suffix."""


@with_session
def size(
    session: Session,
    *,
    treemap: Annotated[
        Path | None, typer.Option(help="Draw one cell's image: FILE.svg, or FILE.html with a table.")
    ] = None,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
) -> None:
    """Show what images in the store are made of; without selectors, of every locked cell. Builds nothing."""
    project, terminal = session.project, session.terminal
    if treemap and treemap.suffix not in DRAWN:
        raise RequestError(
            f"--treemap cannot draw {treemap.name}",
            ("rule", f"the suffix says what it becomes: {' or '.join(DRAWN)}"),
            ("next", f"name it {treemap.stem}.svg"),
        )
    lock = project.read_lock()
    cells = _cells(session, lock)
    with terminal.progress() as progress:
        catalogue = last_published(project, progress, registry, registry_ca, plain_http=plain_http)
        found = {cell: measure(cell, lock, project, catalogue) for cell in cells}
    built = {cell: one for cell, one in found.items() if one}
    if not built:
        raise RequestError(
            "none of these images is in the store, so there is nothing to measure",
            ("next", "build one: python build.py --cuda 12.1 --arch ampere"),
        )
    if treemap:
        _draw(treemap, list(built.values()), terminal)
    terminal.answer([_answer(project.cells.name(cell), one) for cell, one in found.items()])
    if len(built) == 1:
        (one,) = built.values()
        _show(terminal, one)
    elif built:
        _show_many(terminal, project, built)
    if missing := [project.cells.name(cell) for cell, one in found.items() if one is None]:
        terminal.say("", f"not built: {', '.join(missing)}")


def last_published(
    project: Project,
    progress: Progress,
    registry: str | None = None,
    registry_ca: Path | None = None,
    *,
    plain_http: bool = False,
) -> Catalogue | None:
    """What the registry that is named, here or in matrix.yaml, says is published; None: none is named, it
    does not answer, or nobody is to be asked.

    Raises:
        EnvironmentLack: a registry was named here, and does not answer.
    """
    if not registry and (project.offline or not project.matrix.registry.default):
        return None
    try:
        with open_namespace(project, registry, registry_ca, plain_http) as namespace:
            return read_catalogue(namespace, progress)
    except EnvironmentLack as error:
        if registry:
            raise
        progress.note(f"not compared with what is published: {error.problem}")
        return None


def size_lines(one: Measured) -> list[str]:
    """The sizes in short, for people."""
    size, budget, spare = one.report.size, one.budget, one.left
    kinds = [("compressed", budget.compressed, spare.compressed), ("on disk", budget.on_disk, spare.on_disk)]
    allowed = (
        f"{human(most)} {kind} ({human(abs(left))} {'left' if left >= 0 else 'over'})"
        for kind, most, left in kinds
    )
    lines = [
        f"  size     {size.says()}",
        f"  budget   {', '.join(allowed)}",
        f"  largest  {_named((each.name, each.size) for each in one.report.packages)}",
    ]
    for label, saved in (("left out", one.report.left_out), ("slimmed", one.report.slimmed)):
        if saved:
            most = sorted(saved.items(), key=lambda item: (-item[1].compressed, item[0]))
            lines.append(f"  {label:<8} {total(saved.values()).says()}: {_named(most)}")
    if one.growth is None:
        return [*lines, "  since    no published image to compare with"]
    changed = sorted(one.growth.layers, key=lambda layer: -abs(layer[2].compressed))[:NAMED]
    layers = ", ".join(f"{name} {signed(change.compressed)}" for _, name, change in changed)
    return [
        *lines,
        f"  since    {one.growth.since}: {one.growth.change.says_change()}{f': {layers}' if layers else ''}",
    ]


def size_answer(one: Measured) -> dict[str, Any]:
    """The sizes, for machines."""
    return {
        "image": one.recipe.ref,
        **asdict(one.report.size),
        "budget": {"compressed": one.budget.compressed, "on_disk": one.budget.on_disk},
        "over_budget": [error.problem for error in one.over],
        "layers": [
            {"image": layer.image, "name": layer.name, "digest": layer.digest, **asdict(layer.size)}
            for layer in one.report.layers
        ],
        "packages": [
            {"image": each.image, "name": each.name, "kind": each.kind, "version": each.version}
            | asdict(each.size)
            for each in one.report.packages
        ],
        "left_out": {name: asdict(saved) for name, saved in one.report.left_out.items()},
        "slimmed": {name: asdict(saved) for name, saved in one.report.slimmed.items()},
        "since": _growth_answer(one.growth),
    }


def _growth_answer(growth: Growth | None) -> dict[str, Any] | None:
    if growth is None:
        return None
    layers = [{"image": image, "name": name, **asdict(change)} for image, name, change in growth.layers]
    return {"image": growth.since, **asdict(growth.change), "layers": layers}


def _cells(session: Session, lock: Lock) -> list[Cell]:
    """The cells that are asked for; without a word, all that are locked."""
    if session.request or session.all_cells:
        return [choice.cell for choice in session.choose()]
    return [Cell(**locked.axes) for locked in lock.cells.values() if locked.state == "locked"]


def _draw(file: Path, built: list[Measured], terminal: Terminal) -> None:
    if len(built) != 1:
        raise RequestError(
            f"--treemap draws one image, and {len(built) or 'none'} of these cells are built",
            ("next", "name one: python build.py size --cuda 12.1 --arch ampere --treemap FILE.svg"),
        )
    text = DRAWN[file.suffix](built[0].report, built[0].recipe.refs[-1])
    file.write_text(text, encoding="utf-8")
    terminal.warn(f"drawn: {file}")


def _answer(name: str, one: Measured | None) -> dict[str, Any]:
    return {"cell": name, "built": one is not None, **(size_answer(one) if one else {})}


def _show(terminal: Terminal, one: Measured) -> None:
    table = plain_table("image", "package", "version", "compressed", "on disk", "share")
    for column in table.columns[3:]:
        column.justify = "right"
    whole = one.report.size.compressed or 1
    for each in one.report.packages:
        share = f"{100 * each.size.compressed / whole:.1f} %"
        sizes = human(each.size.compressed), human(each.size.on_disk)
        table.add_row(each.image, each.name, each.version, *sizes, share)
    terminal.say(*one.recipe.refs, *size_lines(one), "", table)
    for error in one.over:
        terminal.trouble(error)


def _show_many(terminal: Terminal, project: Project, built: dict[Cell, Measured]) -> None:
    table = plain_table("cell", "compressed", "on disk", "budget left", "since the published one")
    for column in table.columns[1:]:
        column.justify = "right"
    for cell, one in built.items():
        size, left = one.report.size, min(one.left.compressed, one.left.on_disk)
        change = signed(one.growth.change.compressed) if one.growth else ""
        sizes = human(size.compressed), human(size.on_disk)
        table.add_row(project.cells.name(cell), *sizes, human(left), change)
    terminal.say(table)
    distinct = {layer.digest: layer.size for one in built.values() for layer in one.report.layers}
    terminal.say(
        "",
        f"{len(built)} images, whose {len(distinct)} distinct layers have {total(distinct.values()).says()}",
    )


def _named(sizes: Any) -> str:
    """The first few of these names and sizes."""
    few = [f"{name} {human(size.compressed)}" for name, size in list(sizes)[:NAMED]]
    return ", ".join(few)
