"""push: the selected cells under staging tags in a registry; nothing public moves."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import typer

from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import JobsOption, SchedulerOption, Session, with_session
from trtforge.production.production import Production
from trtforge.production.staged import Staged, staging_tag
from trtforge.publishing.catalogue import Catalogue, read_catalogue
from trtforge.publishing.publish import published_images, require_redistribution
from trtforge.registry.namespace import Namespace
from trtforge.terminal import megabytes


@with_session
def push(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = "",
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
        chains = [project.recipes.chain(cell, lock) for cell in cells]
        names = {chain[-1].key: project.cells.name(cell) for cell, chain in zip(cells, chains, strict=True)}
        catalogue = read_catalogue(namespace, progress)
        there = published_images((one for chain in chains for one in chain), catalogue, namespace)
        run = Production(
            project, namespace, progress, session.jobs(jobs).count, there, scheduler, tests=False
        )
        answers, failed = [], 0
        with closing(run.run(chains)) as outcomes:
            for outcome in outcomes:
                cell = names[outcome.chain[-1].key]
                if outcome.error:
                    failed += 1
                    terminal.trouble(outcome.error, ("cell", cell))
                    continue
                images = [_image(one, catalogue, namespace) for one in outcome.staged]
                sent = f"{megabytes(outcome.pushed)} sent" if outcome.pushed else "all of it was there"
                terminal.say("", f"{cell}  {sent}", *(f"  {one['name']}  {one['digest']}" for one in images))
                answers.append({"cell": cell, "sent": outcome.pushed, "images": images})
    terminal.answer(answers)
    if failed:
        raise typer.Exit(1)


def _image(one: Staged, catalogue: Catalogue, namespace: Namespace) -> dict[str, Any]:
    """What an image is called: by its staging tag, or if it is published, and has none, by its dated one."""
    published = catalogue.by_digest(one.recipe.image, one.image.digest)
    tag = published.dated if published else staging_tag(one.image.digest)
    return {"name": f"{namespace.name(one.recipe.image)}:{tag}", "digest": one.image.digest}
