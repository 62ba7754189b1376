"""doctor: what this machine has of what a build needs, and for each thing it lacks, how to get it."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trtforge.errors import ForgeError
from trtforge.index.resolve import index_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trtforge.engine.engine import Engine
    from trtforge.project import Project

FULL_BUILD = 20e9
"""Bytes of free disk that one cell needs from nothing: 4.2 GB of wheels, as much of layers, 7.5 GB in the
Engine, which copies an image once more while it loads it (measured on the default cell)."""


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    status: "ok"; "warning": a build works, something is missing; "problem": a build does not work.
    remedy: what to do, "" if nothing.
    """

    name: str
    status: Literal["ok", "warning", "problem"]
    found: str
    remedy: str = ""


def examine(project: Project, connect: Callable[[], Engine]) -> Iterator[Finding]:
    """Every check, as soon as it is done."""
    yield _machine()
    matrix = _matrix(project)
    yield matrix
    if matrix.status == "ok":  # else the lock cannot be judged, and no index is known
        yield _lock(project)
    yield from _engine(connect)
    yield _disk(project)
    yield _mmdebstrap()
    if matrix.status == "ok":
        yield from _indexes(project)


def _machine() -> Finding:
    found = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return Finding("machine", "ok", found)
    return Finding("machine", "problem", found, "images are linux/amd64 and are built on such a machine")


def _matrix(project: Project) -> Finding:
    try:
        count = len(project.matrix.publish)
    except ForgeError as error:
        return _problem("matrix", error)
    return Finding("matrix", "ok", f"{len(project.matrix.rules)} rules, {count} published rows")


def _lock(project: Project) -> Finding:
    try:
        cells = project.read_lock().cells.values()
    except ForgeError as error:
        return _problem("lock", error)
    unlocked = [cell for cell in cells if cell.state == "unlocked"]
    found = f"{len(cells) - len(unlocked)} cells locked, {len(unlocked)} unlocked"
    return Finding("lock", "warning" if unlocked else "ok", found, unlocked[0].reason if unlocked else "")


def _engine(connect: Callable[[], Engine]) -> Iterator[Finding]:
    try:
        engine = connect()
        version = engine.api.version()
    except ForgeError as error:
        yield _problem("engine", error)
        return
    yield Finding(
        "engine", "ok", f"Docker {version['Version']}, API {version['ApiVersion']}, {engine.address}"
    )
    if engine.has_gpu():
        yield Finding("gpu", "ok", "the Engine can give containers a GPU")
    else:
        remedy = "GPU checks will be skipped; they need the NVIDIA driver and the NVIDIA Container Toolkit"
        yield Finding("gpu", "warning", "the Engine has none", remedy)


def _disk(project: Project) -> Finding:
    folder = next(place for place in (project.cache, *project.cache.parents) if place.exists())
    free = shutil.disk_usage(folder).free
    found = (
        f"{free / 1e9:.0f} GB free for {project.cache}; a first build needs about {FULL_BUILD / 1e9:.0f} GB"
    )
    if free >= FULL_BUILD:
        return Finding("disk", "ok", found)
    return Finding("disk", "warning", found, "python build.py gc, or set TRTFORGE_CACHE to a larger disk")


def _mmdebstrap() -> Finding:
    if path := shutil.which("mmdebstrap"):
        return Finding("mmdebstrap", "ok", path)
    remedy = "apt-get install --no-install-recommends mmdebstrap"
    return Finding("mmdebstrap", "problem", "not installed; it makes the OS layer", remedy)


def _indexes(project: Project) -> Iterator[Finding]:
    for name, url in project.matrix.indexes.items():
        silent = index_answers(url, 5, project.sources)
        remedy = f"cells that need it stay unlocked; name a mirror under indexes: {name}: or use --wheelhouse"
        yield Finding(
            f"index {name}", "warning" if silent else "ok", silent or "answers", remedy if silent else ""
        )


def _problem(name: str, error: ForgeError) -> Finding:
    return Finding(name, "problem", error.problem, ": ".join(filter(None, map(error.fact, ("at", "next")))))
