"""Which libraries a tree of ELF files needs and would not get, by the rules of the dynamic linker.

Each file is loaded as the first of a process, or after those that are always loaded before it. Sources:
ld.so(8); for how DT_RPATH is inherited, glibc's elf/dl-load.c (_dl_map_object).
"""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from smoke.elf import Linkage


class Missing(NamedTuple):
    """The file at `path` needs, or opens, `name`, which is not found."""

    path: str
    name: str


class Closure:
    """A tree of libraries.

    Args:
        files: path -> linkage, of every ELF file in the tree.
        system: where a library of this name is among the loader's default folders; None: it is not there.
    """

    def __init__(self, files: Mapping[str, Linkage], system: Callable[[str], str | None]) -> None:
        self._files, self._system = files, system
        self._folders: dict[str, list[str]] = {}
        for path in files:
            self._folders.setdefault(posixpath.dirname(path), []).append(posixpath.basename(path))

    def missing(self, before: Callable[[str], Sequence[str]] = lambda _path: ()) -> list[Missing]:
        """What files need and would not get.

        Args:
            before: a file's path -> those that are loaded before it.
        """
        states: dict[tuple[str, ...], dict[str, str]] = {}
        found: dict[Missing, None] = {}
        for path in sorted(self._files):
            first = tuple(before(path))
            if first not in states:
                states[first] = {}
                for one in first:
                    self._load(one, states[first])
            for miss in self._load(path, dict(states[first])):
                found[miss] = None
        return list(found)

    def opened(self, path: str, pattern: str) -> bool:
        """Whether a library that matches `pattern` is where dlopen(3) from the file at `path` looks, or, with
        slashes, is there from the folder of `path`."""
        if "/" in pattern:
            wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), pattern))
            return any(fnmatchcase(file, wanted) for file in self._files)
        link = self._files[path]
        return any(
            fnmatchcase(name, pattern)
            for folder in _expanded((*link.rpath, *link.runpath), path)
            for name in self._folders.get(folder, ())
        )

    def _load(self, root: str, loaded: dict[str, str]) -> list[Missing]:
        """Add `root` and what it needs to what is `loaded`, breadth first; what is missing of it."""
        queue: list[tuple[str, tuple[str, ...]]] = [(root, ())]
        missing = []
        while queue:
            path, inherited = queue.pop(0)
            link = self._files.get(path)
            if link is None:  # of the system: its own affair
                continue
            loaded.setdefault(link.soname or posixpath.basename(path), path)
            rpath = () if link.runpath else _expanded(link.rpath, path)
            chain = (*rpath, *inherited)
            folders = _expanded(link.runpath, path) if link.runpath else chain
            for name in link.needed:
                if name in loaded:
                    continue
                at = self._find(name, folders)
                if at is None:
                    missing.append(Missing(path, name))
                else:
                    loaded[name] = at
                    queue.append((at, chain))
        return missing

    def _find(self, name: str, folders: Sequence[str]) -> str | None:
        for folder in folders:
            path = f"{folder}/{name}"
            if path in self._files:
                return path
        return self._system(name)


def _expanded(folders: Sequence[str], path: str) -> tuple[str, ...]:
    """`folders` with $ORIGIN, the folder of the file at `path`."""
    origin = posixpath.dirname(path)
    return tuple(
        posixpath.normpath(folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
        for folder in folders
    )
