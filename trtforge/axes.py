"""The axes of the matrix: what each of their values says, as typed, frozen values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from trtforge.errors import RequestError
from trtforge.registry.reference import parse_reference
from trtforge.toolkit import Gcc  # noqa: TC001 (pydantic needs it at run time)

AXES = ("cuda", "arch", "torch", "tensorrt", "os", "python", "variant", "code")
"""The axes of the matrix, in the order in which a request is read."""


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text!r} is not a version (PEP 440)") from error
    return text


def _pinned(text: str) -> str:
    try:
        version = parse_reference(text).version
    except RequestError as error:
        raise ValueError(error.problem) from error
    if not version.startswith("sha256:"):
        raise ValueError(f"{text!r} is not pinned: write registry/name@sha256:..., a tag may move")
    return text


def _requirement(text: str) -> str:
    try:
        Requirement(re.sub(r"{\w+}", "1", text))
    except InvalidRequirement as error:
        raise ValueError(f"{text!r} is no requirement (PEP 508)") from error
    return text


def _variants(value: Any) -> Any:
    if isinstance(value, list):
        raise ValueError("no longer a list: write `runtime: {image: tensorrt}` for each, with its image")
    return value


VersionText = Annotated[str, AfterValidator(_version)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.{}_-]*$", description="a Debian package")]
Wheel = Annotated[str, AfterValidator(_requirement)]
Sm = Annotated[str, Field(pattern=r"^[0-9]{2,3}$", description="compute capability without its point: 86")]


class Strict(BaseModel):
    """A part of matrix.yaml: frozen, and with the keys and types that it declares, no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cuda(Strict):
    """A CUDA toolkit: the oldest driver of its major, its own driver, and the newest SM its ptxas knows."""

    driver: VersionText
    toolkit_driver: VersionText
    newest_sm: Sm


class Variant(Strict):
    """What a cell is for. image: the last of its chain; on: the image of the same cell that it stands on.

    runtime: lean where it only runs engines: the part of TensorRT that does so is enough, if there is one.
    """

    image: Name
    on: Literal["os", "pytorch-cuda", "tensorrt"] = "pytorch-cuda"
    runtime: Literal["whole", "lean"] = "whole"

    @property
    def torch(self) -> bool:
        """Whether PyTorch is in its chain."""
        return self.on != "os"


class Arch(Strict):
    """A GPU architecture and the compute capabilities we build for."""

    sm: list[Sm] = Field(min_length=1)
    gpus: str


class TorchBuild(Strict):
    """One published build of a torch release: the index it is on and the exact versions to ask there."""

    name: Name
    cuda: VersionText
    index: Name
    torch: VersionText
    torchvision: VersionText


class Torch(Strict):
    """A torch release and its builds, in order of preference."""

    builds: list[TorchBuild] = Field(min_length=1)


class TensorRT(Strict):
    """A TensorRT version, its flavour and the compute capabilities its builder targets."""

    flavour: Name
    sm: list[Sm] = Field(min_length=1)


class CudaLibrary(Strict):
    """The wheel of a CUDA library, as a requirement (PEP 508), and the folder in it where the library is."""

    package: Wheel
    folder: str


class Library(Strict):
    """What the packages of a TensorRT library are called, its Python module, and its libraries' folder."""

    module: str
    libs: str
    bindings: str
    frontend: str
    libs_folder: str


class Flavour(Library):
    """A TensorRT flavour: its library, and the index that it is on.

    lean: the part of it that runs engines and cannot build any, where that is a library of its own.
    needs: CUDA's major -> the wheel with the CUDA library that its libraries load, where torch brings none.
    family: compute capability -> the one whose files the builder loads, where it has none for that itself.
    """

    short: Name
    libs_index: Name
    builds_without_gpu: bool
    lean: Library | None = None
    needs: dict[str, CudaLibrary] = Field(default_factory=dict)
    family: dict[Sm, Sm] = Field(default_factory=dict)


class Os(Strict):
    """An operating system: its packages make the first layer. gcc: the major version of its own compiler.

    image: begin with this image of it instead; what it lacks is installed by the Engine (`--builder docker`).
    """

    distribution: Literal["debian", "ubuntu"]
    codename: Name
    python: VersionText
    glibc: VersionText
    gcc: Gcc
    image: Annotated[str, AfterValidator(_pinned)] | None = Field(
        default=None, description="registry/name@sha256:..."
    )


class BroughtBase(Strict):
    """An image with torch that the user has already, named by digest. What is said of it here is verified."""

    base: Annotated[str, AfterValidator(_pinned), Field(description="registry/name@sha256:...")]
    python: VersionText
    glibc: VersionText


def _beginning(value: Any) -> str | None:
    """Which of the two an entry of the axis `os` is; None: it says both, or neither."""
    said = value if isinstance(value, dict) else getattr(type(value), "model_fields", ())
    kinds = [tag for tag, key in (("[os]", "distribution"), ("[base]", "base")) if key in said]
    return kinds[0] if len(kinds) == 1 else None


_EITHER = "say either `distribution` and `codename`, or `base`"
Beginning = Annotated[
    Annotated[Os, Tag("[os]")] | Annotated[BroughtBase, Tag("[base]")],
    Discriminator(_beginning, custom_error_type="beginning", custom_error_message=_EITHER),
]


Code = Annotated[
    Literal["all", "slim"],
    Field(
        description="GPU code in torch's own libraries: all that its wheel has, or what the cell's GPUs run"
    ),
]


class Axes(Strict):
    """Every value an axis can take, in order of preference."""

    cuda: dict[VersionText, Cuda] = Field(min_length=1)
    arch: dict[Name, Arch] = Field(min_length=1)
    torch: dict[VersionText, Torch] = Field(min_length=1)
    tensorrt: dict[VersionText, TensorRT] = Field(min_length=1)
    os: dict[Name, Beginning] = Field(min_length=1)
    python: list[VersionText] = Field(min_length=1)
    variant: Annotated[dict[Name, Variant], BeforeValidator(_variants), Field(min_length=1)]
    code: list[Code] = Field(default=["all"], min_length=1)

    def values(self, axis: str) -> list[str]:
        """The values of `axis`, preferred ones first."""
        return list(getattr(self, axis))
