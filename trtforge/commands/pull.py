"""pull: a published image comes into the Engine; without selectors, the one that fits this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import Session, with_session
from trtforge.engine.engine import Engine
from trtforge.fit import best_fit
from trtforge.machine import capability, read_machine
from trtforge.progress import Progress
from trtforge.publishing.catalogue import Catalogue, read_catalogue
from trtforge.publishing.entry import Entry
from trtforge.publishing.tested import in_words
from trtforge.pull import IMAGE, newest_images, published, reference
from trtforge.pull import pull as pull_entry
from trtforge.registry.namespace import Namespace
from trtforge.smoke import SmokeReport, as_table
from trtforge.smoke import smoke as run_smoke
from trtforge.terminal import Terminal, megabytes

IN_EXACT_TAGS = ("torch", "tensorrt", "python")
"""The axes that a short tag does not tell: who names one of them means the exact tag."""


@dataclass(frozen=True)
class Wanted:
    """An image to pull.

    tags: those it gets here, first the one that was meant. why: what made it the one, in words.
    native: whether the driver is as new as its CUDA, as far as was looked.
    """

    entry: Entry
    tags: tuple[str, ...]
    why: tuple[str, ...] = ()
    native: bool = True


@dataclass(frozen=True)
class Pulled:
    """A pulled image: its names here, how to run it, and what its tests say here, if they ran."""

    names: list[str]
    run: str
    smoke: SmokeReport | None


@with_session
def pull(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Test the image here too.")] = False,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the docker pull command, and pull nothing.")
    ] = False,
) -> None:
    """Pull a published image; without selectors, the newest that fits this machine's GPUs and driver."""
    project, terminal = session.project, session.terminal
    with (
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
        terminal.progress() as progress,
    ):
        wanted = find_wanted(session, namespace, read_catalogue(namespace, progress))
        for line in (line for one in wanted for line in one.why):
            terminal.warn(line)
        if not print_only:
            engine, home = project.engine(), project.matrix.namespace
            pulled = [_bring(one, namespace, home, engine, progress, smoke) for one in wanted]
    if print_only:
        terminal.say(*(f"docker pull {reference(one.entry, namespace)}" for one in wanted))
        terminal.answer([_answer(one, namespace) for one in wanted])
        return
    for one, here in zip(wanted, pulled, strict=True):
        _show(terminal, one.entry, here)
    terminal.answer([_answer(one, namespace, here) for one, here in zip(wanted, pulled, strict=True)])
    if not all(here.smoke.ok for here in pulled if here.smoke):
        raise typer.Exit(1)


def find_wanted(session: Session, namespace: Namespace, catalogue: Catalogue) -> list[Wanted]:
    """The published images of the cells that were asked for; if nothing was, the one for this machine."""
    cells = session.project.cells
    if session.all_cells:
        names = [(cells.variant(one.cell).image, cells.tag(one.cell)) for one in session.published()]
    elif session.request:
        exact = any(axis in session.request for axis in IN_EXACT_TAGS)
        chosen = [choice.cell for choice in cells.choose(session.request)]
        names = [
            (cells.variant(cell).image, cells.tag(cell) if exact else cells.short_tag(cell))
            for cell in chosen
        ]
    else:
        machine, matrix = read_machine(), session.project.matrix
        fit = best_fit(newest_images(catalogue), machine, matrix)
        entry = published(IMAGE, fit.entry.exact, namespace, catalogue)
        return [Wanted(entry, entry.tags[::-1], fit.why, fit.native)]
    entries = {name: published(*name, namespace, catalogue) for name in names}
    return [Wanted(entry, tuple(dict.fromkeys((tag, *entry.tags)))) for (_, tag), entry in entries.items()]


def _bring(
    one: Wanted, namespace: Namespace, home: str, engine: Engine, progress: Progress, smoke: bool
) -> Pulled:
    repositories = [f"{home}/{one.entry.image}", namespace.name(one.entry.image)]
    names = pull_entry(one.entry, one.tags, repositories, namespace, engine, progress)
    report = None
    if smoke:
        with progress.task(f"smoke tests in {names[0]}"):
            report = run_smoke(engine, names[0])
    return Pulled(names, run_line(names[0], one, engine.has_gpu()), report)


def run_line(name: str, one: Wanted, gpu: bool) -> str:
    """What runs the image: a look at its torch; one without torch serves.

    A driver runs every CUDA of its major, but NVIDIA's Container Toolkit starts no image whose CUDA is newer
    than the driver's, unless NVIDIA_DISABLE_REQUIRE tells it not to look.
    """
    gpus = (" --gpus all" + ("" if one.native else " -e NVIDIA_DISABLE_REQUIRE=1")) if gpu else ""
    if "torch" not in one.entry.axes:
        return f'docker run --rm{gpus} -p 8000:8000 -v "$PWD/models:/models:ro" {name}'
    show = "import torch; print(torch.__version__, torch.cuda.is_available())"
    return f"docker run --rm{gpus} {name} python -c '{show}'"


def _show(terminal: Terminal, entry: Entry, here: Pulled) -> None:
    terminal.say("", *here.names)
    terminal.say(f"  digest     {entry.digest}")
    terminal.say(f"  published  {entry.day}, as {entry.dated}")
    terminal.say(f"  size       {megabytes(entry.size)} compressed, {megabytes(entry.unpacked)} on disk")
    capabilities = ", ".join(map(capability, entry.sm))
    terminal.say(f"  for        compute capability {capabilities}; driver {entry.driver} or newer")
    terminal.say(f"  smoke      {_tested(entry.smoke)}")
    if here.smoke:
        terminal.say("", as_table(here.smoke))
    terminal.say("", f"  {here.run}")


def _tested(report: SmokeReport | None) -> str:
    """What the tests said when the image was published; what was skipped never looks passed."""
    if report is None:
        return "no results of its own; --smoke tests it here"
    return in_words(report) + ("; --smoke tests it here" if report.count("skipped") else "")


def _answer(one: Wanted, namespace: Namespace, here: Pulled | None = None) -> dict[str, Any]:
    return {
        "pull": reference(one.entry, namespace),
        "why": list(one.why),
        "entry": one.entry.model_dump(mode="json"),
        "names": here.names if here else [],
        "run": here.run if here else "",
        "smoke": here.smoke.model_dump(mode="json") | {"ok": here.smoke.ok} if here and here.smoke else None,
    }
