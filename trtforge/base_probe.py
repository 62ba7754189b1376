"""What is inside a base image, as JSON on the last line of stdout. Runs in the image, with its `python`.

Only its standard library is there for certain, in Python 3.8 or newer. `trtforge.base` reads the answer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

LOADER_FOLDER = "/usr/lib/x86_64-linux-gnu"
"""Where `layers.loader_links` puts its links."""


def main() -> None:
    paths = {name: Path(path).resolve() for name, path in sysconfig.get_paths().items()}
    prefix, purelib = paths["data"], paths["purelib"]
    owner = next(path for path in (purelib, *purelib.parents) if path.exists()).stat()
    places = [*Path("/usr/local").glob("cuda*"), prefix, *prefix.glob("targets/*"), *purelib.glob("nvidia/*")]
    answer = {
        "prefix": str(prefix),
        "purelib": str(purelib),
        "scripts": str(paths["scripts"]),
        "python": sys.version.split()[0],
        "interpreter": sys.executable,
        "uid": owner.st_uid,
        "gid": owner.st_gid,
        "directories": directories(paths, (0o755, owner.st_uid, owner.st_gid)),
        "glibc": glibc(),
        "headers": first(places, "include/cuda_runtime.h"),
        "nvcc": shutil.which("nvcc") or first(places, "bin/nvcc"),
        "packages": packages(),
    }
    answer.update(torch())
    print(json.dumps(answer, sort_keys=True))


def torch() -> dict[str, str]:
    """The versions that torch says of itself, "" where there is none; `no_torch`: why."""
    try:
        module = __import__("torch")
        return {"torch": str(module.__version__), "cuda": str(module.version.cuda or ""), "no_torch": ""}
    except Exception as error:
        return {"torch": "", "cuda": "", "no_torch": f"{type(error).__name__}: {error}"}


def glibc() -> str:
    """Its version, "" where the C library is another."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
    except ValueError:
        return ""


def first(places: list[Path], name: str) -> str:
    """The first place's file of this name, or ""."""
    return next((str(place / name) for place in sorted(places) if (place / name).is_file()), "")


def packages() -> dict[str, str]:
    """Name (PEP 503) -> version of every distribution that can be imported; of two, the one that would be."""
    found: dict[str, str] = {}
    for one in metadata.distributions(path=[path for path in sys.path if path]):
        if one.metadata["Name"]:
            found.setdefault(re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(), one.version)
    return found


def directories(paths: dict[str, Path], usual: tuple[int, int, int]) -> dict[str, str]:
    """Path -> "mode uid gid" of the directories that a layer has to name: those on the way to its files, and
    those in site-packages that are not `usual`."""
    beside = [paths["data"] / name for name in ("etc", "include", "lib", "share")]
    ways = [paths["purelib"], paths["scripts"], Path(LOADER_FOLDER), *beside]
    known = {path for way in ways for path in (way, *list(way.parents)[:-1]) if path.is_dir()}
    inside = (Path(folder, name) for folder, names, _ in os.walk(str(paths["purelib"])) for name in names)
    odd = {path for path in inside if not path.is_symlink() and _facts(path) != usual}
    return {str(path): "{:o} {} {}".format(*_facts(path)) for path in known | odd}


def _facts(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


main()
