"""What may go from a registry, and what has to stay: the policy, without the registry."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

    from trtforge.publishing.catalogue import Catalogue
    from trtforge.publishing.entry import Entry

_PATIENCE = timedelta(days=1)
"""What nothing refers to may be of a publish that is under way; none takes longer than this."""


def surplus(catalogue: Catalogue, keep: int, held: Collection[str]) -> tuple[Entry, ...]:
    """The entries that may go: all but the `keep` newest of each image and short tag, what is `held`, and
    what those stand on.

    Args:
        held: digests that something else refers to: a tag that is no dated one of ours.
    """
    series: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in sorted(catalogue.entries, key=lambda entry: entry.order, reverse=True):
        series[entry.image, entry.tags[-1]].append(entry)
    stays: set[str] = {entry.digest for entries in series.values() for entry in entries[:keep]}
    stays |= {entry.digest for entry in catalogue.entries if entry.digest in held}
    parents: dict[str, set[str]] = defaultdict(set)
    for entry in catalogue.entries:
        parents[entry.digest].add(entry.parent)
    new: Collection[str] = stays
    while new:
        new = {parent for digest in new for parent in parents.get(digest, ())} - stays
        stays |= new
    return tuple(entry for entry in catalogue.entries if entry.digest not in stays)


def aged(found: Collection[str], idle: Mapping[str, date], today: date) -> tuple[set[str], dict[str, date]]:
    """Which of the things `found` without use have been so for more than a day, and, of the others, since
    when: `Catalogue.idle` as it is to be now. (A manifest does not say when it was written.)"""
    since = {name: idle.get(name, today) for name in sorted(found)}
    due = {name for name, day in since.items() if today - day > _PATIENCE}
    return due, {name: day for name, day in since.items() if name not in due}
