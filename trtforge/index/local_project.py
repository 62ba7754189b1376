"""A Python project of this repository that goes into images: its wheel, and what it needs.

No index has it, so no lock names its wheel: like templates and smoke tests it comes with the checkout. What
it needs is locked like everything else. The wheel is the same on every machine (see `sdist.canonicalise`).
"""

from __future__ import annotations

import ast
import hashlib
import logging
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flit_core.wheel import WheelBuilder
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from trtforge.errors import BuildError, MatrixError
from trtforge.index.pins import Pin
from trtforge.index.sdist import canonicalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)

EXAMPLES = "examples"
"""The folder of a project that images get beside its wheel."""


def _requirement(text: str) -> str:
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement (PEP 508)") from error
    return text


_Requirements = list[Annotated[str, AfterValidator(_requirement)]]


class _Project(BaseModel):
    """The table [project] of a pyproject.toml, as far as it is read here (the rest is flit's)."""

    name: str
    dependencies: _Requirements = Field(default_factory=list)
    extras: dict[str, _Requirements] = Field(default_factory=dict, alias="optional-dependencies")


@dataclass(frozen=True)
class LocalProject:
    """A pure-Python project, built by flit. folder: the one with its pyproject.toml."""

    folder: Path

    @classmethod
    def here(cls, folder: Path) -> LocalProject:
        """The one in `folder`; on another machine the one beside the trtforge that runs there."""
        beside = Path(__file__).parents[2] / folder.name
        return cls(folder if folder.exists() else beside)

    @cached_property
    def _project(self) -> _Project:
        """The part of its pyproject.toml that is about it.

        Raises:
            MatrixError: there is none, or it does not say what it must.
        """
        file = self.folder / "pyproject.toml"
        try:
            project = _Project.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))["project"])
        except FileNotFoundError:
            because = "there is no such file"
        except KeyError:
            because = "it has no table [project]"
        except ValidationError as error:
            first = error.errors()[0]
            because = f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        except (OSError, ValueError) as error:  # of TOML or UTF-8
            because = str(error)
        else:
            return project
        raise MatrixError(
            f"{self.folder.name}/ is no Python project",
            ("at", str(file)),
            ("because", because),
            ("next", "correct `projects` in matrix.yaml, or that file"),
        )

    def requirements(self, extras: Iterable[str] = ()) -> tuple[str, ...]:
        """What it needs, with these extras.

        Raises:
            MatrixError: it has no such extra.
        """
        groups = {canonicalize_name(name): group for name, group in self.extras.items()}
        needed = list(self._project.dependencies)
        for extra in sorted(map(canonicalize_name, extras)):
            if extra not in groups:
                raise MatrixError(
                    f"{self.name} has no extra {extra}",
                    ("extras", ", ".join(groups) or "none"),
                    ("next", "correct `images` in matrix.yaml"),
                )
            needed += groups[extra]
        return tuple(dict.fromkeys(needed))

    @property
    def name(self) -> str:
        """In canonical form."""
        return canonicalize_name(self._project.name)

    @property
    def extras(self) -> dict[str, list[str]]:
        """What each of its extras adds."""
        return self._project.extras

    @cached_property
    def wheel(self) -> tuple[str, bytes]:
        """File name and bytes of its wheel; equal sources give equal bytes.

        Raises:
            BuildError: it does not build.
        """
        logging.getLogger("flit_core").setLevel(logging.WARNING)
        with tempfile.TemporaryDirectory(prefix="trtforge-") as work:
            built = Path(work, "built.whl")
            try:
                with built.open("w+b") as out:
                    builder = WheelBuilder.from_ini_path(self.folder / "pyproject.toml", out)
                    builder.source_time_stamp = _ZIP_EPOCH  # files may be older than what a zip can say
                    builder.build()
                _check_syntax(built)
            except Exception as error:  # flit imports what does not state its version as a literal
                raise BuildError(
                    f"{self.folder.name}/ does not build", ("because", _told(error)), ("next", "correct it")
                ) from error
            return builder.wheel_filename, canonicalise(built, Path(work, "canonical.whl")).read_bytes()

    @cached_property
    def pin(self) -> Pin:
        """Its wheel as a pin that no index has.

        Raises:
            MatrixError: it is no project.
            BuildError: it does not build.
        """
        name, (filename, content) = self.name, self.wheel
        _, version, _, _ = parse_wheel_filename(filename)
        sha256 = hashlib.sha256(content).hexdigest()
        return Pin(name=name, version=str(version), filename=filename, sha256=sha256, size=len(content))

    def examples(self) -> dict[str, bytes]:
        """Its examples, by their path in its folder."""
        found = sorted(path for path in (self.folder / EXAMPLES).rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in found
            if "__pycache__" not in path.parts
        }


def local_projects(folders: Mapping[str, str], root: Path) -> dict[str, LocalProject]:
    """The projects in `folders` of `root` (name -> folder: `projects` of matrix.yaml), by canonical name.

    Raises:
        MatrixError: there is none, or it has another name.
    """
    projects = {}
    for name, folder in folders.items():
        project = LocalProject(root / folder)
        if project.name != canonicalize_name(name):
            raise MatrixError(
                f"the project in {folder}/ is {project.name}, not {name}",
                ("next", "correct `projects` in matrix.yaml, or its pyproject.toml"),
            )
        projects[project.name] = project
    return projects


def needed(texts: Iterable[str], projects: Mapping[str, LocalProject]) -> Iterator[str]:
    """The requirements `texts`, those of `projects` replaced by what these need."""
    found = _with_their_needs(texts, projects)
    return (text for text in found if _name(text) not in projects)


def named(texts: Iterable[str], projects: Mapping[str, LocalProject]) -> list[LocalProject]:
    """The `projects` that the requirements `texts` name, and those that these need."""
    names = dict.fromkeys(_name(text) for text in _with_their_needs(texts, projects))
    return [projects[name] for name in names if name in projects]


def _with_their_needs(texts: Iterable[str], projects: Mapping[str, LocalProject]) -> list[str]:
    """`texts`, and what the `projects` among them need: each once, those that are needed last."""
    found = list(dict.fromkeys(texts))
    for text in found:  # which grows: extras may name the project itself, projects each other
        if project := projects.get(_name(text)):
            more = project.requirements(Requirement(text).extras)
            found += [one for one in more if one not in found]
    return found


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _check_syntax(wheel: Path) -> None:
    """See that Python can read each module: an image with one that it cannot would be made all the same."""
    with zipfile.ZipFile(wheel) as members:
        for name in members.namelist():
            if name.endswith(".py"):
                ast.parse(members.read(name), name)


def _told(error: Exception) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {error.msg}"
    return str(error) or type(error).__name__
