"""Recipes: for each image of a cell's chain the rendered Dockerfile and what its layers are made from.

A recipe is known before anything is downloaded or built: the lock is all it needs. Its key names everything
that decides the image's bytes, so an image whose key is unchanged is up to date.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trtforge.axes import Os
from trtforge.base import Base
from trtforge.cell_cuts import Cuts, back_cuts, base_cuts, own_cuts
from trtforge.errors import LockError
from trtforge.expected import expected, expected_on
from trtforge.guard_facts import guard_facts
from trtforge.image_templates import ImageTemplates
from trtforge.index.local_project import LocalProject, local_projects, named
from trtforge.layer_order import given_back_layers, wheel_layers
from trtforge.layers.cut import WHOLE
from trtforge.layers.install_target import InstallTarget
from trtforge.layers.sources import (
    LayerSource,
    LinksSource,
    OsSource,
    PackagesSource,
    ToolkitSource,
    WheelSource,
)
from trtforge.layers.toolkit_layer import ToolkitParts
from trtforge.locking import os_suite, toolkit_origin
from trtforge.toolkit import home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.cells import Cell, Cells
    from trtforge.index.pins import Pin
    from trtforge.lock import Lock, LockedCell


@dataclass(frozen=True)
class Recipe:
    """How one image is made.

    image: its name in the chain ("os", "pytorch-cuda", "tensorrt", "serve", ...).
    refs: what it is called: first the name that says all, then short ones.
    parent: the recipe of the image it stands on; base: what it stands on where that is not ours.
    sources: the source of each ADD -> what that layer is made from.
    files: the other files of the build context. key: names everything that decides the image.
    """

    image: str
    refs: tuple[str, ...]
    parent: Recipe | None
    dockerfile: str
    sources: dict[str, LayerSource]
    files: dict[str, bytes]
    key: str
    base: Base | None = None

    @property
    def ref(self) -> str:
        """The name that says all."""
        return self.refs[0]


class Recipes:
    """The recipes of one project folder: its templates in images/, what they copy from guard/ and smoke/."""

    def __init__(self, project: Path, cells: Cells) -> None:
        self._cells = cells
        self._smoke, self._guard = project / "smoke", project / "guard" / "guard.py"
        self._projects = local_projects(cells.matrix.projects, project)
        self._templates = ImageTemplates(project / "images")

    def chain(self, cell: Cell, lock: Lock) -> tuple[Recipe, ...]:
        """The recipes of `cell`, parent first.

        Raises:
            LockError: the cell is not locked.
        """
        locked = lock.cells.get(self._cells.name(cell))
        if locked is None or locked.state != "locked":
            raise LockError(
                f"{self._cells.name(cell)} is not locked",
                ("because", locked.reason if locked else "nothing has locked it yet"),
                ("next", "python build.py lock"),
            )
        pins = lock.pins(locked.tensorrt)
        if brought := lock.bases.get(cell.os):
            return (self._on_brought(cell, brought, pins),)
        system, target = self._system(cell, lock), InstallTarget(cell.python)
        chain = [self._os(cell, system)]
        base = lock.pins(locked.base) if locked.base else ()
        if base:
            chain.append(self._base(cell, chain[-1], system, base))
        there = [*base, *pins]
        packages, upon = _packages(lock, locked, system), self._cells.variant(cell).on == "tensorrt"
        below = () if upon else packages
        cuts = base_cuts(self._cells, cell, base) | own_cuts(self._cells, cell, pins)
        facts = self._expected(cell, there, cuts)
        chain.append(self._with_tensorrt(cell, chain[-1], pins, target, system, facts, below))
        if upon:
            added = lock.pins(locked.added) if locked.added else ()
            back = back_cuts(self._cells, cell, base, pins)
            back_layers = given_back_layers(there, back, target)
            first = [*packages, *back_layers, *self._toolkit(cell, lock, locked, target)]
            chain.append(self._upon(cell, chain[-1], there, added, cuts | back, target, system, first))
        return tuple(chain)

    def _expected(self, cell: Cell, pins: Sequence[Pin], cuts: Cuts) -> dict[str, Any]:
        """What the tests of the cell's image with TensorRT compare with."""
        own = [project.pin for project in self._own(cell)]
        facts = expected(self._cells, cell, self._cells.with_tensorrt(cell), [*pins, *own], cuts)
        return facts | ({"projects": {pin.name: pin.version for pin in own}} if own else {})

    def _own(self, cell: Cell) -> list[LocalProject]:
        """The projects of this repository that the cell's image with TensorRT holds."""
        return named(self._cells.wheels(cell), self._projects)

    def _system(self, cell: Cell, lock: Lock) -> OsSource | None:
        """What the OS layer is made from; None where the OS is an image from a registry."""
        if _registry_image(self._cells, cell):
            return None
        return OsSource(os_suite(self._cells.matrix, cell.os), lock.os[cell.os])

    def _os(self, cell: Cell, system: OsSource | None) -> Recipe:
        sources = [system] if system else []
        image = _registry_image(self._cells, cell)
        packages = self._cells.matrix.images.os if image else []
        facts = {"os": cell.os, "python": cell.python, "packages": packages}
        return self._recipe("os", (cell.os,), image, sources, {}, **facts)

    def _base(self, cell: Cell, parent: Recipe, system: OsSource | None, pins: Sequence[Pin]) -> Recipe:
        direct = ["torch", "torchvision", *self._cells.matrix.images.pytorch_cuda]
        cuts = base_cuts(self._cells, cell, pins)
        return self._recipe(
            "pytorch-cuda",
            (self._cells.base_tag(cell),),
            parent,
            wheel_layers(pins, direct, InstallTarget(cell.python), system, cuts),
            self._inside(cell, expected(self._cells, cell, "pytorch-cuda", pins, cuts)),
            cuda=cell.cuda,
            driver=self._cells.matrix.axes.cuda[cell.cuda].driver,
            torch=cell.torch,
            build=cell.build,
        )

    def _on_brought(self, cell: Cell, base: Base, pins: Sequence[Pin]) -> Recipe:
        facts = expected_on(base, self._expected(cell, pins, own_cuts(self._cells, cell, pins)))
        return self._with_tensorrt(cell, base, pins, base.target, None, facts)

    def _with_tensorrt(
        self,
        cell: Cell,
        below: Recipe | Base,
        pins: Sequence[Pin],
        target: InstallTarget,
        system: OsSource | None,
        facts_inside: dict[str, Any],
        packages: Sequence[LayerSource] = (),
    ) -> Recipe:
        """The image that brings TensorRT, what it is used with, and our own projects."""
        image, own = self._cells.with_tensorrt(cell), self._own(cell)
        tensorrt, facts = self._cells.library(cell), self._cells.facts(cell)
        asked = [tensorrt.bindings, tensorrt.frontend, *self._cells.wheels(cell)]
        direct = [canonicalize_name(Requirement(text.format_map(facts)).name) for text in asked]
        libs = next(pin for pin in pins if pin.name == tensorrt.libs.format_map(facts))
        cuts = own_cuts(self._cells, cell, pins)
        sources = [*packages, *wheel_layers(pins, direct, target, system, cuts)]
        sources.append(LinksSource(libs, tensorrt.libs_folder, target, cuts.get(libs.name, WHOLE)))
        if library := self._cells.cuda_library(cell):
            name = canonicalize_name(Requirement(library.package).name)
            sources += [LinksSource(pin, library.folder, target) for pin in pins if pin.name == name]
        sources += [WheelSource((project.pin,), target, system) for project in own]
        examples = {path: content for project in own for path, content in project.examples().items()}
        return self._recipe(
            image,
            (self._cells.tag(cell), self._cells.short_tag(cell)),
            below,
            sources,
            self._inside(cell, facts_inside) | examples,
            examples=bool(examples),
            settings=below.nvidia_settings(cell.cuda) if isinstance(below, Base) else {},
            guard_before=below.guarded if isinstance(below, Base) else None,
            **self._of_cell(cell),
        )

    def _upon(
        self,
        cell: Cell,
        below: Recipe,
        there: Sequence[Pin],
        added: Sequence[Pin],
        cuts: Cuts,
        target: InstallTarget,
        system: OsSource | None,
        first: Sequence[LayerSource],
    ) -> Recipe:
        """The cell's own image upon the one with TensorRT, which has the wheels `there`: the layers `first`,
        which make `cuts` of these, then the wheels `added`."""
        image, contents = self._cells.variant(cell).image, self._cells.added(cell)
        own = own_cuts(self._cells, cell, added)
        facts = self._expected(cell, [*there, *added], cuts | own) | {"image": image}
        settings: dict[str, Any] = {}
        if toolkit := self._cells.toolkit(cell):
            facts["toolkit"] = {"cuda": cell.cuda, "home": home(cell.cuda)}
            headers = [f"{target.site_packages}/{folder}" for folder in toolkit.headers]
            settings = {
                "home": home(cell.cuda),
                "flags": toolkit.flags,
                "headers": headers,
            }
        packages = [source.packages for source in first if isinstance(source, PackagesSource)]
        if packages:
            facts["system_packages"] = {one.name: one.version for added in packages for one in added}
        direct = [canonicalize_name(Requirement(text).name) for text in contents.wheels]
        return self._recipe(
            image,
            (self._cells.tag(cell), self._cells.short_tag(cell)),
            below,
            [*first, *wheel_layers(added, direct, target, system, own)],
            self._inside(cell, facts),
            toolkit=settings,
            **self._of_cell(cell),
        )

    def _toolkit(
        self, cell: Cell, lock: Lock, locked: LockedCell, target: InstallTarget
    ) -> list[LayerSource]:
        """The layers of the CUDA toolkit that the cell's own image holds, if it holds one."""
        toolkit, name = self._cells.toolkit(cell), locked.toolkit
        if toolkit is None:
            return []
        gcc, layout = self._cells.facts(cell)["gcc"], tuple(toolkit.layout.items())
        pins = lock.pins(name) if name in lock.sets else ()
        packages, origin = lock.packages.get(name, ()), toolkit_origin(self._cells.matrix, cell.cuda)
        parts = ToolkitParts(home(cell.cuda), gcc, layout)
        runtime = next(pin for pin in lock.pins(locked.base) if pin.name == toolkit.runtime.package)
        return [
            ToolkitSource(parts, packages, origin, pins, target),
            LinksSource(runtime, toolkit.runtime.folder, target),
        ]

    def _of_cell(self, cell: Cell) -> dict[str, Any]:
        """What the templates of the images for one cell may say."""
        sm = self._cells.sm(cell)
        return {
            "cuda": cell.cuda,
            "driver": self._cells.matrix.axes.cuda[cell.cuda].driver,
            "torch": cell.torch,
            "tensorrt": cell.tensorrt,
            "flavour": self._cells.flavour(cell),
            "arch": cell.arch,
            "sm": sm,
            "torch_cuda_arch_list": self._cells.arch_list(cell),
        }

    def _inside(self, cell: Cell, facts: dict[str, Any]) -> dict[str, bytes]:
        """What COPY opt/ brings: tests, the `facts` they compare with, the guard and its facts."""
        tests = {
            f"opt/smoke/{file.relative_to(self._smoke).as_posix()}": file.read_bytes()
            for file in sorted(self._smoke.rglob("*.py"))
        }
        guard = guard_facts(self._cells, cell, facts["image"])
        return tests | {
            "opt/smoke/expected.json": _json(facts | {"guard": guard}),
            "opt/trtforge/guard": self._guard.read_bytes(),
            "opt/trtforge/image.json": _json(guard),
        }

    def _recipe(
        self,
        image: str,
        tags: tuple[str, ...],
        below: Recipe | Base | str | None,
        sources: Sequence[LayerSource],
        files: dict[str, bytes],
        **facts: Any,
    ) -> Recipe:
        refs = tuple(f"{self._cells.matrix.namespace}/{image}:{tag}" for tag in tags)
        named = {f"layers/{source.key}.tar.gz": source for source in sources}
        layers = [{"path": path, "says": source.says()} for path, source in named.items()]
        parent = below if isinstance(below, Recipe) else None
        base = below if isinstance(below, Base) else None
        named_below = base.image if base else parent.ref if parent else below or "scratch"
        facts |= {"tag": tags[0], "parent": named_below, "layers": layers}
        context = self._templates.fill(image, parent.key if parent else "", files, **facts)
        return Recipe(image, refs, parent, context.dockerfile, named, context.files, context.key, base)


def _packages(lock: Lock, locked: LockedCell, system: OsSource | None) -> tuple[PackagesSource, ...]:
    """The layer with the Debian packages that a cell's own image adds to the `system`, if it adds any."""
    if not locked.packages or system is None:
        return ()
    return (PackagesSource(system, lock.packages[locked.packages]),)


def _registry_image(cells: Cells, cell: Cell) -> str | None:
    """The image that the OS of `cell` begins with, if it is not bootstrapped by us."""
    system = cells.matrix.axes.os[cell.os]
    return system.image if isinstance(system, Os) else None


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
