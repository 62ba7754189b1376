"""matrix.lock: what the matrix resolves to, by name, version and hash; generated, committed, never edited.

It holds no addresses. Two checksums guard it: `inputs` over what it was resolved from (matrix and templates),
`content` over its own body.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trtforge.base import Base  # noqa: TC001 (pydantic needs it at run time)
from trtforge.errors import LockError
from trtforge.index.pins import Pin  # noqa: TC001
from trtforge.oci import Digest, canonical_json, digest_of
from trtforge.system.os_packages import OsPackage  # noqa: TC001 (pydantic needs it at run time)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trtforge.index.local_project import LocalProject
    from trtforge.matrix import Matrix

_HEADER = """\
# Written by `python build.py lock`. Do not edit: a changed line is refused.
# Names, versions and hashes; the addresses come from your own index configuration.

"""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedCell(_Model):
    """A cell's place in the lock.

    state: "locked", or "unlocked" with the `reason` why its packages could not be had.
    base: the set of wheels of its PyTorch-CUDA image, "" on a brought base or where there is none.
    tensorrt: the set that the image with TensorRT adds. image: what that is called.
    added: the set that its own image adds upon that; packages: the Debian packages that its own image adds;
        "" for none. toolkit: what the wheels, and the packages, of its CUDA toolkit are called in `sets`, and
        in `packages`. upon: what its own image is called where it is not `image`.
    left_out: wheel -> globs of its files that the cell's own image lacks, by the file rules; "!" before those
        of files that stay all the same.
    """

    axes: dict[str, str]
    state: Literal["locked", "unlocked"]
    reason: str = ""
    base: str = ""
    tensorrt: str = ""
    image: str = "tensorrt"
    added: str = ""
    packages: str = ""
    toolkit: str = ""
    upon: str = ""
    left_out: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def sets(self) -> list[tuple[str, str]]:
        """The images of its chain that add wheels, the lowest first, and the set of each."""
        named = [("pytorch-cuda", self.base), (self.image, self.tensorrt), (self.upon, self.added)]
        return [(image, name) for image, name in named if name]


class Lock(_Model):
    """The whole of matrix.lock.

    os: operating system -> its Debian packages. bases: what was found in an operating system that is a
        brought base.
    packages: a name -> the Debian packages that an image adds to its operating system, or whose files are
        in a CUDA toolkit.
    wheels: file name -> pin. sets: a name -> the file names of the wheels that one image of the chain adds.
    cells: a cell's tag -> where its pins are.
    """

    inputs: str
    os: dict[str, tuple[OsPackage, ...]] = Field(default_factory=dict)
    packages: dict[str, tuple[OsPackage, ...]] = Field(default_factory=dict)
    bases: dict[str, Base] = Field(default_factory=dict)
    sets: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    cells: dict[str, LockedCell] = Field(default_factory=dict)
    wheels: dict[str, Pin] = Field(default_factory=dict)

    def pins(self, set_name: str) -> tuple[Pin, ...]:
        """The pins of a set."""
        return tuple(self.wheels[file] for file in self.sets[set_name])

    def pruned(self) -> Lock:
        """Without the sets, wheels, packages and systems that no cell uses."""
        locked = [cell for cell in self.cells.values() if cell.state == "locked"]
        sets = {name for cell in locked for _, name in cell.sets()}
        sets |= {cell.toolkit for cell in locked} & self.sets.keys()
        packages = {name for cell in locked for name in (cell.packages, cell.toolkit)}
        systems = {cell.axes["os"] for cell in locked}
        files = {file for name in sets for file in self.sets[name]}
        return self.model_copy(
            update={
                "os": {name: self.os[name] for name in sorted(systems & self.os.keys())},
                "packages": {name: self.packages[name] for name in sorted(packages & self.packages.keys())},
                "bases": {name: self.bases[name] for name in sorted(systems & self.bases.keys())},
                "sets": {name: self.sets[name] for name in sorted(sets)},
                "wheels": {file: self.wheels[file] for file in sorted(files)},
                "cells": dict(sorted(self.cells.items())),
            }
        )


def inputs_checksum(matrix: Matrix, images: Path, projects: Mapping[str, LocalProject]) -> Digest:
    """A checksum over what a lock is resolved from: the matrix's meaning (not its layout or comments, nor its
    policies), the templates below `images`, and what this repository's own `projects` need."""
    templates = {
        file.relative_to(images).as_posix(): digest_of(file.read_bytes())
        for file in sorted(images.rglob("*"))
        if file.is_file()
    }
    meaning = matrix.model_dump(by_alias=True, exclude={"budgets", "registry", "nightly"})
    needs = {name: [project.requirements(), project.extras] for name, project in sorted(projects.items())}
    return digest_of(canonical_json({"matrix": meaning, "templates": templates, "projects": needs}))


def read_lock(path: Path, inputs: Digest | None) -> Lock:
    """The lock at `path`, or an empty one where there is none.

    Args:
        inputs: what it must have been made from; None: anything.

    Raises:
        LockError: it was edited, is not readable, or was made from another matrix, other templates or
            projects with other needs.
    """
    again = ("next", "python build.py lock")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        content = table.pop("content", "")
        lock = Lock.model_validate(table)
    except FileNotFoundError:
        return Lock(inputs=inputs or "")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise LockError(
            f"{path.name} cannot be read", ("because", str(error).splitlines()[0]), again
        ) from error
    if content != _content(table):
        raise LockError(
            f"{path.name} was edited: its content is not what its checksum says",
            ("rule", "a lock is generated; what it says was resolved and hashed, not typed"),
            ("next", f"git checkout {path.name}, or python build.py lock to make it anew"),
        )
    if inputs is not None and lock.inputs != inputs:
        raise LockError(
            f"{path.name} is stale: matrix.yaml, a template in images/ or what a project of ours needs"
            " has changed since it was made",
            ("rule", "what is built is what was locked"),
            again,
        )
    return lock


def lock_text(lock: Lock) -> str:
    """`lock` as it is written."""
    table = lock.pruned().model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return _HEADER + tomli_w.dumps({"content": _content(table), **table}, multiline_strings=False)


def _content(table: dict[str, Any]) -> Digest:
    return digest_of(canonical_json(table))
