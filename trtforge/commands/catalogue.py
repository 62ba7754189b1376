"""catalogue: what is published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import Session, with_session
from trtforge.publishing.catalogue import Catalogue, Entry, read_catalogue
from trtforge.publishing.tested import in_words
from trtforge.registry.namespace import Namespace
from trtforge.terminal import megabytes, plain_table

_REQUESTS = 8
"""Tags looked at at once."""


@with_session
def catalogue(
    session: Session,
    *,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
) -> None:
    """List what is published: the image that each tag leads to; with --all, every dated image."""
    project, terminal = session.project, session.terminal
    with (
        terminal.progress() as progress,
        open_namespace(project, registry, registry_ca, plain_http) as namespace,
    ):
        found = read_catalogue(namespace, progress)
        wanted = [entry for entry in found.entries if _is_wanted(entry, session)]
        leads = _leads(wanted, namespace)
    newest_first = sorted(wanted, key=lambda entry: entry.order, reverse=True)
    shown = [entry for entry in newest_first if session.all_cells or entry.digest in leads.values()]
    shown.sort(key=lambda entry: (entry.image, entry.tags[-1]))
    terminal.answer(
        [
            entry.model_dump(mode="json")
            | {"leads_here": [tag for tag in entry.tags if leads[entry.image, tag] == entry.digest]}
            for entry in shown
        ]
    )
    if not shown:
        terminal.say(f"{namespace} has nothing published{' that was asked for' if session.request else ''}")
        return
    table = plain_table("image", "published as", "size", "smoke", "")
    for entry in shown:
        smoke = in_words(entry.smoke) if entry.smoke else f"through {entry.tested_through[:26]}"
        here = leads[entry.image, entry.tags[-1]] == entry.digest
        note = "" if not here or _is_newest(entry, found) else "rolled back to"
        table.add_row(f"{entry.image}:{entry.tags[-1]}", entry.dated, megabytes(entry.size), smoke, note)
    terminal.say(table)


def _is_wanted(entry: Entry, session: Session) -> bool:
    """Whether `entry` is what the selectors say; images that several cells share have not all axes."""
    meaning = session.project.cells.meaning
    for axis, values in session.request.items():
        meant = {one.partition("+")[0] for value in values for one in meaning(axis, value)}
        if entry.axes.get(axis) not in meant:
            return False
    return True


def _leads(entries: list[Entry], namespace: Namespace) -> dict[tuple[str, str], str | None]:
    """What each tag of `entries` leads to now."""
    tags = list({(entry.image, tag) for entry in entries for tag in entry.tags})
    with ThreadPoolExecutor(_REQUESTS, "tags") as pool:
        found = pool.map(lambda one: namespace.repository(one[0]).find_digest(one[1]), tags)
        return dict(zip(tags, found, strict=True))


def _is_newest(entry: Entry, found: Catalogue) -> bool:
    return found.newest(entry.image, entry.tags[-1]) == entry
