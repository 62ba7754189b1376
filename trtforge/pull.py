"""What is published comes to this machine: a tag is looked up, and the digest that it leads to is pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.errors import RequestError
from trtforge.publishing.entry import records_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from trtforge.engine.engine import Engine
    from trtforge.progress import Progress
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry
    from trtforge.registry.namespace import Namespace

IMAGE = "tensorrt"
"""The image that people pull where they name no variant; those below come with it, as its layers."""

SHOWN = 20
"""Tags that are listed at most where another one was asked for."""


def published(image: str, tag: str, namespace: Namespace, catalogue: Catalogue) -> Entry:
    """The `image` that `tag`, exact or short, leads to now: after a rollback not the newest.

    Raises:
        RequestError: there is no such tag, or it leads to an image that trtforge has not published.
        EnvironmentLack: the registry does not answer or refuses.
    """
    repository, name = namespace.repository(image), f"{namespace.name(image)}:{tag}"
    digest = repository.find_digest(tag)
    if digest is None:
        known = list(dict.fromkeys(entry.tags[-1] for entry in newest_images(catalogue, image)))
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        raise RequestError(
            f"{name} is not published",
            ("published", (", ".join(known[:SHOWN]) or "nothing") + more),
            ("next", "ask for one of these, or build it: the same command without the word pull"),
        )
    entry = next((one for one in catalogue.of(image, tag) if one.digest == digest), None)
    # Between its tags and the catalogue's update an image has only its record.
    entry = entry or catalogue.by_digest(image, digest) or next(iter(records_of(digest, repository)), None)
    if entry is None:
        raise RequestError(
            f"{name} leads to an image that trtforge has not published, so nothing is known of it",
            ("found", digest),
            *(("published", f"{one.dated} ({one.digest})") for one in catalogue.of(image, tag)[:3]),
            ("next", f"put ours back (python build.py rollback), or take it as it is: docker pull {name}"),
        )
    return entry


def newest_images(catalogue: Catalogue, image: str = IMAGE) -> list[Entry]:
    """The newest `image` of each cell, those published last first."""
    found = {entry.exact: entry for entry in sorted(catalogue.entries, key=_order) if entry.image == image}
    return sorted(found.values(), key=_order, reverse=True)


def _order(entry: Entry) -> tuple[date, int, str]:
    return entry.order


def reference(entry: Entry, namespace: Namespace) -> str:
    """What names exactly this image, wherever its tags lead: "host/path/tensorrt@sha256:..."."""
    return f"{namespace.name(entry.image)}@{entry.digest}"


def pull(
    entry: Entry,
    tags: Iterable[str],
    repositories: Sequence[str],
    namespace: Namespace,
    engine: Engine,
    progress: Progress,
) -> list[str]:
    """Pull an image into `engine` and give it each of `tags` in each of `repositories`; its names there.

    Raises:
        RequestError, BuildError, EnvironmentLack: it cannot be pulled; see `Engine.pull`.
    """
    source = reference(entry, namespace)
    engine.pull(source, progress, entry.size)
    names = [f"{repository}:{tag}" for tag in tags for repository in repositories]
    for name in names:
        engine.tag(source, name)
    return names
