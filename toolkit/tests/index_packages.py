"""Packages from the package index, by name, version and hash, unpacked for a test to look into.

What was downloaded once stays in uv's own cache, so a second run asks nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def requirements(text: str) -> dict[str, str]:
    """A requirements file by requirement: {"name==version": the whole of it, its hashes too}."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    entries = [entry.strip() for entry in lines.replace("\\\n", " ").splitlines() if entry.strip()]
    return {entry.split()[0]: entry for entry in entries}


def unpack(requirement: str, folder: Path) -> Path:
    """Install the wheel of `requirement`, which carries its hashes, into `folder`; nothing it depends on.

    Raises:
        CalledProcessError: it is not on the index for this Python, or its bytes have another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder.with_name(folder.name + ".txt")
    listed.write_text(requirement + "\n", encoding="utf-8")
    command = [_uv(), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(folder)]
    exact = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirements", str(listed)]
    subprocess.run([*command, *exact], check=True)
    return folder


def _uv() -> str:
    """The uv beside this Python, or that of PATH."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise FileNotFoundError("uv is not here: pip install uv")
    return found
