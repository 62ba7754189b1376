"""push: the selected cells' images go from the store to a registry, under staging tags; no other moves."""

from __future__ import annotations

from typing import Any

import typer

from trtforge.build import Build, Built
from trtforge.catalogue import Catalogue, read_catalogue
from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import JobsOption, Session, with_session
from trtforge.errors import BuildError
from trtforge.image import find_image
from trtforge.oci import Digest
from trtforge.progress import Progress
from trtforge.publish import require_redistribution
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import Pushed, push_image
from trtforge.staged import staging_tag
from trtforge.store import Store
from trtforge.survey import LAYERS
from trtforge.terminal import megabytes


@with_session
def push(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    jobs: JobsOption = None,
) -> None:
    """Build, and push under staging tags: to look at, or to test elsewhere. Needs no Engine."""
    project, terminal = session.project, session.terminal
    with (
        terminal.progress() as progress,
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
    ):
        require_redistribution(namespace, project.matrix.registry)
        cells = [choice.cell for choice in session.choose()]
        lock = project.lock_missing(cells, project.read_lock(), progress)
        built = Build(project, progress, jobs=session.jobs(jobs).count).run(cells, lock)
        images = {one.recipe.key: one for cell in built for one in cell.chain}
        catalogue = read_catalogue(namespace, progress)
        pushed = [
            _push(one, _tag(one, catalogue), namespace, project.store, progress) for one in images.values()
        ]
    for name, done in pushed:
        terminal.say("", name, f"  digest   {done.digest}", f"  layers   {_ways(done)}")
    terminal.answer([_answer(name, done) for name, done in pushed])
    for cell in built:
        if cell.error:
            terminal.trouble(cell.error, ("cell", project.cells.tag(cell.cell)))
    if any(cell.error for cell in built):
        raise typer.Exit(1)


def _tag(one: Built, catalogue: Catalogue) -> str:
    """A staging tag; for an image that is published, and needs none, its dated one."""
    digest = Digest(one.record.digest)
    published = catalogue.by_digest(one.recipe.image, digest)
    return published.dated if published else staging_tag(digest)


def _push(one: Built, tag: str, namespace: Namespace, store: Store, progress: Progress) -> tuple[str, Pushed]:
    """Push an image, whose layers are mounted from where the namespace has them; its name, and how."""
    image = find_image(one.recipe.ref, one.recipe.key, store)
    if image is None:
        raise BuildError(
            f"the store has lost {one.recipe.ref}", ("next", "run the same command again: it is made anew")
        )
    below, repositories = one.recipe.parent, [namespace.repository(LAYERS)]
    while below:
        repositories.append(namespace.repository(below.image))
        below = below.parent
    target = namespace.repository(one.recipe.image)
    pushed = push_image(image, tag, target, store, progress, sources=repositories)
    return f"{namespace.name(one.recipe.image)}:{tag}", pushed


def _ways(done: Pushed) -> str:
    ways = {"sent": done.uploaded, "from other repositories": done.mounted, "there already": done.present}
    return ", ".join(f"{megabytes(size)} {way}" for way, size in ways.items() if size)


def _answer(name: str, done: Pushed) -> dict[str, Any]:
    sizes = {"uploaded": done.uploaded, "mounted": done.mounted, "present": done.present}
    return {"name": name, "digest": done.digest, **sizes}
