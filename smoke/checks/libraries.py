"""Every ELF file in the environment gets the libraries it needs, and those it is known to open by name.

So whatever a file rule leaves out of an image, nothing that stays needs it.
"""

from __future__ import annotations

import os
import sysconfig
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoke.closure import Closure, Missing
from smoke.elf import MAGIC, BadElf, Linkage, linkage
from smoke.known_libraries import BEFORE, DRIVER, ELSEWHERE, OPENED

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDS = ("packages",)

TEXT = (".py", ".pyc", ".pyi", ".h", ".hpp", ".cuh", ".txt", ".json", ".yaml", ".md", ".bc", ".a", ".onnx")
"""Suffixes of files that are not looked into: most of all, and no program or library among them."""

DEFAULT_FOLDERS = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
"""Where the loader looks last: of Debian and its like, and of others."""


def check(expected: dict[str, Any]) -> dict[str, Any]:
    root = sysconfig.get_path("purelib")
    files, faults = read(root)
    found = unresolved(files, root, where_in(loader_folders()))
    lines = faults + [told(miss, root, expected.get("left_out", [])) for miss in found]
    assert not lines, "; ".join(lines)
    return {"files": len(files), "needed": sum(len(one.needed) for one in files.values())}


def read(root: str) -> tuple[dict[str, Linkage], list[str]]:
    """The linkage of every ELF file below `root`, and which of them cannot be read."""
    files, faults = {}, []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if name.endswith(TEXT) or not _is_elf(path):
                continue
            try:
                link = linkage(str(path))
            except BadElf as error:
                faults.append(f"{path.relative_to(root)} is broken: {error}")
                continue
            if link:
                files[str(path)] = link
    return files, faults


def unresolved(files: dict[str, Linkage], root: str, system: Callable[[str], str | None]) -> list[Missing]:
    """What the `files` below `root` need or open and would not get, but for what is known to be elsewhere."""
    closure = Closure(files, system)
    missing = [
        miss for miss in closure.missing(lambda path: before(path, files, root)) if not known(miss, root)
    ]
    for pattern, name, _why in OPENED:
        openers = [path for path in files if fnmatchcase(os.path.relpath(path, root), pattern)]
        missing += [Missing(path, name) for path in openers if not closure.opened(path, name)]
    return missing


def before(path: str, files: dict[str, Linkage], root: str) -> list[str]:
    """The files that are always loaded before the one at `path`."""
    relative = os.path.relpath(path, root)
    wanted = [one for pattern, first, _why in BEFORE if fnmatchcase(relative, pattern) for one in first]
    return sorted(file for file in files for one in wanted if fnmatchcase(os.path.relpath(file, root), one))


def known(miss: Missing, root: str) -> bool:
    """Whether it is right that nothing in the image has this."""
    if miss.name in DRIVER:
        return True
    relative = os.path.relpath(miss.path, root)
    return any(
        fnmatchcase(relative, pattern) and any(fnmatchcase(miss.name, name) for name in names)
        for pattern, names, _why in ELSEWHERE
    )


def told(miss: Missing, root: str, left_out: list[dict[str, Any]]) -> str:
    """What is missing, and by which file rule."""
    text = f"{os.path.relpath(miss.path, root)} needs {miss.name}, which the image does not have"
    rules = [
        f"the file rule {one['rule']} leaves {glob} of {one['package']} out"
        for one in left_out
        for glob in one["drop"]
        if _may_name(glob, miss.name)
    ]
    return ": ".join([text, *rules])


def _may_name(glob: str, name: str) -> bool:
    """Whether a rule's `glob` names files like `name`, which may be a glob itself."""
    last = glob.rpartition("/")[2]
    return last != "*" and (fnmatchcase(name, last) or fnmatchcase(last, name))


def loader_folders() -> list[str]:
    """Where the loader looks for libraries that are found by name alone."""
    environment = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [*filter(None, environment), *configured(Path("/etc/ld.so.conf")), *DEFAULT_FOLDERS]


def configured(file: Path) -> list[str]:
    """The folders that ldconfig(8) reads from `file`."""
    folders: list[str] = []
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            others = [
                other for pattern in words[1:] for other in sorted(Path("/").glob(_below(file, pattern)))
            ]
            folders += [folder for other in others for folder in configured(other)]
        else:
            folders += words
    return folders


def _below(file: Path, pattern: str) -> str:
    """The `pattern` of a file that `file` includes, relative to the root."""
    return str(file.parent / pattern).lstrip("/")


def where_in(folders: list[str]) -> Callable[[str], str | None]:
    """A function from a library's name to where it is in `folders`, if it is."""
    places: dict[str, str] = {}
    for folder in map(Path, reversed(folders)):
        if folder.is_dir():
            places.update((path.name, str(path)) for path in folder.iterdir())
    return places.get


def _is_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False
