"""A copy of what images are made from, in a project of its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.conftest import PROJECT
from trtforge.matrix import load_matrix

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = ("guard", "images", "smoke")


def copy_project(target: Path, *folders: str) -> None:
    """Copy these folders (all that images are made from, if none is named) and our own Python projects."""
    for name in folders or FOLDERS:
        shutil.copytree(PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, folder in load_matrix(PROJECT / "matrix.yaml").projects.items():
        small_project(target / folder, name, PROJECT / folder)


def small_project(target: Path, name: str, like: Path) -> None:
    """A Python project with the metadata of another, and next to nothing in it."""
    (target / name).mkdir(parents=True)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(like / file, target)
    (target / name / "__init__.py").write_text('"""In place of the real one."""\n\n__version__ = "0.1"\n')
    (target / "examples").mkdir()
    (target / "examples" / "one.yaml").write_text("{}\n")
