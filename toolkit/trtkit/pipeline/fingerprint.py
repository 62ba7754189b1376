"""What a file or folder holds, as a hash: by it a step knows that its inputs changed."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from trtkit.sidecar import file_sha256


def fingerprint(text: str) -> str:
    """Of what `text` names: a file, a folder with all below it, FILE.py:callable or module:callable (their
    files, not what these import), or else the text itself."""
    if not text:  # as a path it would be the current folder
        return ""
    path = Path(text)
    if not path.exists() and (code := re.fullmatch(r"(.+):\w+", text)):
        path = _module_file(code[1]) or path
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
        return digest.hexdigest()
    return text


def _module_file(name: str) -> Path | None:
    """The file of FILE.py or of a Python module that can be found without importing anything else."""
    if name.endswith(".py"):
        return Path(name)
    try:
        spec = find_spec(name) if "." not in name else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, "" where it is absent."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
