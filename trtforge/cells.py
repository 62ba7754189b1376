"""From a request to cells: one combination of the matrix each, or the rule that says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from string import Formatter

from trtforge.axes import AXES, BroughtBase, CudaLibrary, Library, Os, TorchBuild, Variant
from trtforge.errors import EnvironmentLack, MatrixError, RequestError
from trtforge.matrix import Contents, Matrix, Rule
from trtforge.refusal import refusal
from trtforge.rules import Facts, Rulebook
from trtforge.toolkit import Toolkit

Request = Mapping[str, tuple[str, ...]]
"""What a person asked for: axis -> values, several values select several cells, a missing axis is open."""

Available = Callable[["Cell"], str | None]
"""Says why the packages of a cell cannot be had here and now, or None where they can."""


@dataclass(frozen=True, order=True)
class Cell:
    """One combination chosen from the matrix; it becomes one image."""

    cuda: str
    arch: str
    torch: str
    build: str
    tensorrt: str
    os: str
    python: str
    variant: str
    code: str = "all"

    def axes(self) -> dict[str, str]:
        """Every field by its name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Verdict:
    """A cell and the rules that it breaks; none: it is valid."""

    cell: Cell
    broken: tuple[Rule, ...]


@dataclass(frozen=True)
class Choice:
    """A cell that was chosen, and in words what was passed over for it."""

    cell: Cell
    passed_over: tuple[str, ...] = ()


class Cells:
    """The combinations of one matrix."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self._rulebook = Rulebook(matrix.rules)

    def facts(self, cell: Cell) -> Facts:
        """What the rules, the recipes and the plan may know of `cell`."""
        axes = self.matrix.axes
        build, system = self.build(cell), axes.os[cell.os]
        flavour = axes.tensorrt[cell.tensorrt].flavour
        return cell.axes() | {
            "cuda_major": _major(cell.cuda),
            "torch_cuda": build.cuda,
            "torch_cuda_major": _major(build.cuda),
            "flavour": flavour,
            "os_python": system.python,
            "glibc": system.glibc,
            "base": "brought" if isinstance(system, BroughtBase) else "own",
            "os_from": "packages" if isinstance(system, Os) and not system.image else "image",
            "gcc": self._gcc(cell),
        }

    def _gcc(self, cell: Cell) -> str:
        """The newest GCC, by its major version, that both the OS and the CUDA toolkit of `cell` can have."""
        system, toolkit = self.matrix.axes.os[cell.os], self.matrix.toolkits.get(cell.cuda)
        majors = [one.gcc for one in (system, toolkit) if isinstance(one, Os | Toolkit)]
        return min(majors, key=int, default="")

    def build(self, cell: Cell) -> TorchBuild:
        """The torch build of `cell`."""
        return next(build for build in self.matrix.axes.torch[cell.torch].builds if build.name == cell.build)

    def variant(self, cell: Cell) -> Variant:
        """What the variant of `cell` means: the image that its chain ends with."""
        return self.matrix.axes.variant[cell.variant]

    def wheels(self, cell: Cell) -> list[str]:
        """What the image with TensorRT of `cell` has beside it, as requirements (PEP 508), with the CUDA
        library that TensorRT loads, where torch does not bring it.

        Raises:
            MatrixError: a `{fact}` in a requirement is none.
        """
        wheels, library = self._contents(cell, self.with_tensorrt(cell)).wheels, self.cuda_library(cell)
        return [*wheels, library.package] if library else wheels

    def with_tensorrt(self, cell: Cell) -> str:
        """The image in the chain of `cell` that brings TensorRT: its own, or the one below."""
        variant = self.variant(cell)
        return "tensorrt" if variant.on == "tensorrt" else variant.image

    def added(self, cell: Cell) -> Contents:
        """What the own image of `cell` adds: Debian packages; wheels, if it stands on one with TensorRT (the
        others' are `wheels`).

        Raises:
            MatrixError: a `{fact}` in a requirement is none.
        """
        contents = self._contents(cell, self.variant(cell).image)
        alone = self.variant(cell).on == "tensorrt"
        return contents if alone else contents.model_copy(update={"wheels": []})

    def packages_name(self, cell: Cell) -> str:
        """What the Debian packages are called that the own image of `cell` adds. Those of several cells are
        the same, unless facts of the cells stand in their names."""
        image, facts = self.variant(cell).image, self.facts(cell)
        texts = self.matrix.images.last()[image].packages
        used = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}
        return "-".join([image, "on", cell.os, *(f"{name}{facts[name]}" for name in sorted(used))])

    def toolkit(self, cell: Cell) -> Toolkit | None:
        """The CUDA toolkit that the own image of `cell` holds."""
        return self.matrix.toolkits[cell.cuda] if self.added(cell).toolkit else None

    def _contents(self, cell: Cell, image: str) -> Contents:
        facts, contents = self.facts(cell), self.matrix.images.last()[image]
        try:
            wheels = [text.format_map(facts) for text in contents.wheels]
            packages = [text.format_map(facts) for text in contents.packages]
        except KeyError as error:
            raise MatrixError(
                f"images: {image}: nothing is known of a cell that is called {error}",
                ("known", ", ".join(facts)),
                ("next", "name one of these in matrix.yaml"),
            ) from error
        return Contents(packages=packages, wheels=wheels, toolkit=contents.toolkit)

    def library(self, cell: Cell) -> Library:
        """The TensorRT library of `cell`: the whole one of its flavour, or the lean one that runs engines."""
        flavour = self.matrix.flavours[self.flavour(cell)]
        lean = flavour.lean if self.variant(cell).runtime == "lean" else None
        return lean or flavour

    def cuda_library(self, cell: Cell) -> CudaLibrary | None:
        """The library that TensorRT loads and the image of `cell` would lack."""
        if self.variant(cell).torch:
            return None
        return self.matrix.flavours[self.flavour(cell)].needs.get(_major(cell.cuda))

    def sm(self, cell: Cell) -> tuple[str, ...]:
        """The compute capabilities `cell` is for: its architecture's, as far as its TensorRT targets them."""
        targets = self.matrix.axes.tensorrt[cell.tensorrt].sm
        return tuple(sm for sm in self.matrix.axes.arch[cell.arch].sm if sm in targets)

    def arch_list(self, cell: Cell) -> str:
        """The same as torch's extensions want it: TORCH_CUDA_ARCH_LIST ("8.0;8.6")."""
        return ";".join(f"{sm[:-1]}.{sm[-1]}" for sm in self.sm(cell))

    def slim_sm(self, cell: Cell) -> tuple[str, ...]:
        """The compute capabilities whose code alone torch's libraries keep; none: they keep all.

        All of the architecture's: the PyTorch-CUDA image is the same whatever TensorRT stands on it.
        """
        return tuple(self.matrix.axes.arch[cell.arch].sm) if cell.code == "slim" else ()

    def knows(self, cell: Cell) -> bool:
        """Whether the matrix has, or still has, every value of `cell`."""
        axes = self.matrix.axes
        known = all(getattr(cell, axis) in axes.values(axis) for axis in AXES)
        return known and cell.build in {build.name for build in axes.torch[cell.torch].builds}

    def verdict(self, cell: Cell) -> Verdict:
        """Whether `cell` keeps the rules."""
        return Verdict(cell, self._rulebook.broken(self.facts(cell)))

    def every(self) -> Iterator[Verdict]:
        """Each combination of the matrix, with the torch build that its CUDA decides."""
        return (self.verdict(cell) for cell in self.candidates({}))

    @cached_property
    def _preferences(self) -> dict[str, list[str]]:
        """For each axis its values: the default, then the others in the matrix's order."""
        ordered = {}
        for axis in AXES:
            values = self.matrix.axes.values(axis)
            default = self.matrix.defaults.get(axis)
            ordered[axis] = sorted(values, key=lambda value, default=default: value != default)  # type: ignore[misc]
        return ordered

    def candidates(self, request: Request) -> Iterator[Cell]:
        """The cells that satisfy `request`, best first, valid or not."""
        choices = [request.get(axis) or self._preferences[axis] for axis in AXES]
        for cuda, arch, torch, tensorrt, system, python, variant, code in product(*choices):
            release, _, name = torch.partition("+")
            build = self._torch_build(release, name, cuda)
            yield Cell(cuda, arch, release, build, tensorrt, system, python, variant, code)

    def _torch_build(self, release: str, name: str, cuda: str) -> str:
        builds = self.matrix.axes.torch[release].builds
        same_major = [build.name for build in builds if _major(build.cuda) == _major(cuda)]
        return name or (same_major[0] if same_major else builds[0].name)

    def meaning(self, axis: str, value: str) -> tuple[str, ...]:
        """What `value` stands for on `axis`: itself, or for a flavour (`rtx`) each of its versions.

        Raises:
            RequestError: the axis has no such value; with those that it has.
        """
        known = self._preferences[axis]
        shorts = {flavour.short: name for name, flavour in self.matrix.flavours.items()}
        if axis == "tensorrt" and value == "auto":
            return tuple(known)
        if axis == "tensorrt" and (value in shorts or value in self.matrix.flavours):
            flavour = shorts.get(value, value)
            return tuple(v for v in known if self.matrix.axes.tensorrt[v].flavour == flavour)
        if value in known or (axis == "torch" and value in self._torch_builds()):
            return (value,)
        allowed = [*known, *(["auto", *shorts] if axis == "tensorrt" else [])]
        raise RequestError(
            f"--{axis} {value}: the matrix has no such value",
            ("values", ", ".join(allowed)),
            ("next", f"choose one of these, or add {value} to axes: {axis}: in matrix.yaml"),
        )

    def _torch_builds(self) -> set[str]:
        releases = self.matrix.axes.torch.items()
        return {f"{version}+{build.name}" for version, release in releases for build in release.builds}

    def choose(self, request: Request, available: Available = lambda _cell: None) -> list[Choice]:
        """One valid cell for each combination of the values that `request` lists.

        An open axis takes its first value that makes the cell valid and, if TensorRT's flavour was left open,
        whose packages are `available`.

        Raises:
            RequestError: an axis has no such value.
            CompatibilityError: a combination has no valid cell; with the rule and the nearest valid cells.
            EnvironmentLack: there are valid cells, and none whose packages can be had here.
        """
        asked = {axis: request[axis] for axis in AXES if request.get(axis)}
        choices = [
            self._best(dict(zip(asked, combination, strict=True)), available)
            for combination in product(*asked.values())
        ]
        return list({choice.cell: choice for choice in choices}.values())

    def published(self, request: Request | None = None) -> list[Choice]:
        """The cells of the matrix's publish rows; with a `request`, those among them that it selects.

        Raises:
            RequestError: an axis has no such value.
        """
        chosen = [choice for row in self.matrix.publish for choice in self.choose(row.request())]
        asked = {
            axis: {one for value in values for one in self.meaning(axis, value)}
            for axis, values in (request or {}).items()
        }
        return list({one.cell: one for one in chosen if _selects(asked, one.cell)}.values())

    def first(self, asked: Mapping[str, str]) -> Cell | None:
        """The preferred valid cell with these values, if there is one, be its packages to be had or not."""
        request = {axis: self.meaning(axis, value) for axis, value in asked.items()}
        return next(self._valid(request), None)

    def _valid(self, request: Request) -> Iterator[Cell]:
        return (cell for cell in self.candidates(request) if not self.verdict(cell).broken)

    def _best(self, asked: Mapping[str, str], available: Available) -> Choice:
        """The preferred valid cell that has the `asked` values."""
        request = {axis: self.meaning(axis, value) for axis, value in asked.items()}
        left_open = asked.get("tensorrt", "auto") == "auto"
        best, passed_over = None, dict[str, None]()
        for cell in self._valid(request):
            best = best or cell
            reason = available(cell) if left_open else None
            if reason is None:
                return Choice(cell, tuple(passed_over))
            passed_over[reason] = None
        if best is None:
            raise refusal(self, asked, request)
        raise EnvironmentLack(
            f"no TensorRT for {self.described(best)} can be had here",
            *(("because", reason) for reason in passed_over),
            ("next", "give the wheels with --wheelhouse DIR, or reach the index and ask again"),
        )

    def described(self, cell: Cell) -> str:
        """`cell` in words, for people."""
        torch = (
            f"torch {cell.torch}+{cell.build}" if self.variant(cell).torch else f"{cell.variant}, no torch"
        )
        return f"CUDA {cell.cuda}, {cell.arch}, {torch}, TensorRT {cell.tensorrt}, {cell.os}"

    def flavour(self, cell: Cell) -> str:
        """The TensorRT flavour of `cell`."""
        return self.matrix.axes.tensorrt[cell.tensorrt].flavour

    def name(self, cell: Cell) -> str:
        """What `cell` is called among all cells, in the lock and in reports: its tag and its variant."""
        is_default = cell.variant == self.matrix.defaults.get("variant")
        return self.tag(cell) if is_default else f"{self.tag(cell)}-{cell.variant}"

    def tag(self, cell: Cell) -> str:
        """The tag that names `cell` wholly among those of its variant, which has an image of its own:
        `rtx1.7.1.116-pt2.9.1-cu12.1-ampere`; defaults are left out, and torch where there is none."""
        short = self.matrix.flavours[self.flavour(cell)].short
        tensorrt = cell.tensorrt if short == "full" else f"{short}{cell.tensorrt}"
        torch = cell.torch
        if cell.build != self._torch_build(cell.torch, "", cell.cuda):
            torch += f"_{cell.build}"
        parts = [tensorrt, f"pt{torch}"] if self.variant(cell).torch else [tensorrt]
        return "-".join([*parts, self.short_tag(cell)])

    def short_tag(self, cell: Cell) -> str:
        """The tag people type: `cu12.1-ampere`, with the OS where it is not the default, and `slim`."""
        system = [] if cell.os == self.matrix.defaults.get("os") else [cell.os]
        return "-".join([f"cu{cell.cuda}", cell.arch, *system, *_slim(cell)])

    def base_tag(self, cell: Cell) -> str:
        """The tag of the PyTorch-CUDA image that `cell` stands on: `2.9.1-cu12.1-debian12`; a slim one is for
        an architecture: `2.9.1-cu12.1-debian12-ampere-slim`."""
        torch = cell.torch
        if cell.build != self._torch_build(cell.torch, "", cell.cuda):
            torch += f"_{cell.build}"
        slim = [cell.arch, *_slim(cell)] if cell.code == "slim" else []
        return "-".join([torch, f"cu{cell.cuda}", cell.os, *slim])


def _selects(asked: Mapping[str, set[str]], cell: Cell) -> bool:
    said = {axis: {value} for axis, value in cell.axes().items()}
    said["torch"].add(f"{cell.torch}+{cell.build}")
    return all(said[axis] & values for axis, values in asked.items())


def _slim(cell: Cell) -> list[str]:
    return ["slim"] if cell.code == "slim" else []


def _major(version: str) -> str:
    return version.partition(".")[0]
