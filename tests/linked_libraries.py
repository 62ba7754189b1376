"""Shared libraries with nothing in them but what they are linked with, made by the system's compiler."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def shared_library(
    path: Path,
    *,
    functions: Sequence[str] = (),
    needs: Sequence[Path] = (),
    rpath: str = "",
    runpath: str = "",
    soname: str | None = None,
) -> Path:
    """Make `path`, which exports `functions` and needs the libraries `needs`, by their SONAMEs.

    Args:
        rpath, runpath: where it looks for them; one of the two at most.
        soname: its own; by default the name of the file, "" for none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    soname = path.name if soname is None else soname
    options = [f"-Wl,-soname,{soname}"] if soname else []
    options += ["-Wl,--disable-new-dtags", f"-Wl,-rpath,{rpath}"] if rpath else []
    options += ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{runpath}"] if runpath else []
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions)
    shape = ["-shared", "-nostdlib", "-fPIC", "-s", "-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"]
    command = ["gcc", *shape, *options, "-x", "c", "-", "-x", "none", *map(str, needs), "-o", str(path)]
    subprocess.run(command, input=source.encode(), check=True)
    return path
