"""publish: the selected cells become tested images in a registry, under the tags that people pull."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import JobsOption, SchedulerOption, Session, with_session
from trtforge.errors import ForgeError
from trtforge.production.production import Production
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.entry import Entry
from trtforge.publishing.facts import Facts, facts_of
from trtforge.publishing.publish import clock_difference, promote, published_images, require_redistribution
from trtforge.publishing.tested import in_words
from trtforge.registry.namespace import Namespace
from trtforge.smoke import SmokeReport
from trtforge.terminal import Terminal, megabytes


@dataclass(frozen=True)
class Published:
    """What became of a cell: its entries, lowest first, or why its last good image stays.

    sent: bytes of layers that the registry did not have.
    """

    cell: str
    entries: tuple[Entry, ...] = ()
    sent: int = 0
    error: ForgeError | None = None


@with_session
def publish(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Publish nothing whose GPU checks were skipped.")
    ] = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = "",
) -> None:
    """Build, push, test what was pushed, and move the tags: for each cell all of it, or nothing."""
    project, terminal = session.project, session.terminal
    with (
        terminal.progress() as progress,
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
    ):
        require_redistribution(namespace, project.matrix.registry)
        if difference := clock_difference(namespace):
            terminal.warn(difference)
        cells = [choice.cell for choice in session.choose()]
        lock = project.lock_missing(cells, project.read_lock(), progress)
        chains = {cell: project.recipes.chain(cell, lock) for cell in cells}
        names = {chain[-1].key: project.cells.name(cell) for cell, chain in chains.items()}
        facts: dict[str, Facts] = {}
        for cell, chain in chains.items():
            facts |= facts_of(cell, chain, project.cells)
        recipes = [recipe for chain in chains.values() for recipe in chain]
        there = published_images(recipes, read_catalogue(namespace, progress), namespace)
        run = Production(project, namespace, progress, session.jobs(jobs).count, there, scheduler)
        done = []
        with closing(run.run(list(chains.values()))) as outcomes:
            for outcome in outcomes:
                error, entries = outcome.error, list[Entry]()
                try:
                    if error is None:
                        entries = promote(
                            outcome.staged,
                            outcome.reports,
                            facts,
                            namespace,
                            progress,
                            require_gpu=require_gpu,
                        )
                except ForgeError as refusal:
                    error = refusal
                name = names[outcome.chain[-1].key]
                done.append(Published(name, tuple(entries), outcome.pushed, error))
                _show(terminal, namespace, done[-1])
    terminal.answer([_answer(one, namespace) for one in done])
    if failed := [one for one in done if one.error]:
        terminal.warn(f"{len(done) - len(failed)} cells published, {len(failed)} not")
        raise typer.Exit(1)


def _show(terminal: Terminal, namespace: Namespace, one: Published) -> None:
    """Tell what became of a cell."""
    if one.error:
        terminal.trouble(one.error, ("cell", one.cell))
        return
    *below, top = one.entries
    name = namespace.name(top.image)
    terminal.say("", *(f"{name}:{tag}" for tag in (*top.tags, top.dated)))
    terminal.say(f"  digest   {top.digest}")
    sent = f"{megabytes(one.sent)} of it sent" if one.sent else "all of it was there"
    terminal.say(f"  size     {megabytes(top.size)} compressed, {sent}")
    for entry in below:
        terminal.say(f"  on       {entry.image}:{entry.dated}")
    for entry in reversed(one.entries):
        terminal.say(f"  smoke    {entry.image}: {_tested(entry.smoke)}")
    terminal.say(f"  pull     docker pull {name}:{top.tags[-1]}")


def _tested(report: SmokeReport | None) -> str:
    return in_words(report) if report else "has no tests of its own; tested through the image upon it"


def _answer(one: Published, namespace: Namespace) -> dict[str, Any]:
    if one.error:
        facts = [list(fact) for fact in one.error.facts]
        return {"cell": one.cell, "error": one.error.problem, "facts": facts}
    return {
        "cell": one.cell,
        "registry": str(namespace),
        "sent": one.sent,
        "images": [entry.model_dump(mode="json") for entry in one.entries],
    }
