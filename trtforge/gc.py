"""gc: what the store holds and no locked cell needs; or what it holds beyond a size, longest unused first.

What running work uses stays, whatever else is said (see `in_use`).
"""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.image import drop_images
from trtforge.in_use import in_use_since, needed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from trtforge.recipe import Recipe
    from trtforge.store import Store


@dataclass(frozen=True)
class Freed:
    """What gc takes, or would take: the paths, their bytes, and the bytes that the store has left."""

    paths: tuple[Path, ...]
    size: int
    left: int


@dataclass(frozen=True)
class _Held:
    """A file or folder in the store. spare: no recipe needs it. used: when it was last touched."""

    path: Path
    spare: bool
    size: int
    used: float


def collect(
    recipes: Sequence[Recipe], store: Store, max_size: int | None = None, *, dry_run: bool = False
) -> Freed:
    """Free what no image of `recipes` is or is made from, and the work of processes that were killed.

    Args:
        max_size: bytes that the store may have; then only what is beyond that goes, the longest unused first:
            of what `recipes` do not need, and if that is not enough, of the rest.
        dry_run: take nothing.
    """
    with store.gc_lock():
        since = in_use_since(store)
        held = _content(needed(recipes, store), store)
        idle = [one for one in held if one.used < since]
        chosen = [one for one in idle if one.spare]
        total = sum(one.size for one in held)
        if max_size is not None:
            chosen = _beyond(total - max_size, idle)
        dead = [_Held(path, True, size_of(path), 0) for path in store.dead_work()]
        if not dry_run:
            if max_size is None and since == math.inf:  # or who works has just named an image
                drop_images({recipe.key for recipe in recipes}, store)
            _delete([one.path for one in (*chosen, *dead)], store)
    freed = sum(one.size for one in chosen)
    return Freed(
        tuple(one.path for one in (*chosen, *dead)), freed + sum(one.size for one in dead), total - freed
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 if it has just gone."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(inner) for inner in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _content(wanted: Mapping[str, Collection[str]], store: Store) -> list[_Held]:
    """What lies in the folders of the store that `wanted` names."""
    found = []
    for folder, names in wanted.items():
        for path in sorted((store.root / folder).glob("*")):
            with suppress(FileNotFoundError):  # dropped just now: it was damaged
                found.append(_Held(path, path.name not in names, size_of(path), path.lstat().st_mtime))
    return found


def _beyond(size: int, held: Iterable[_Held]) -> list[_Held]:
    """As many of `held` as have `size` bytes together."""
    chosen: list[_Held] = []
    for one in sorted(held, key=lambda one: (not one.spare, one.used)):
        if size <= 0:
            break
        chosen.append(one)
        size -= one.size
    return chosen


def _delete(paths: Iterable[Path], store: Store) -> None:
    """Delete files and folders; a folder as one, so that nobody ever finds half of it."""
    with store.work_folder() as work:
        for number, path in enumerate(paths):
            with suppress(FileNotFoundError):
                if path.is_dir():
                    path.replace(work / str(number))
                    shutil.rmtree(work / str(number), ignore_errors=True)
                else:
                    path.unlink()
