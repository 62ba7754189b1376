"""matrix.yaml, read: axes, rules and defaults as typed, frozen values.

The schema refuses unknown keys and unquoted versions, and names file and line of what it refuses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from trtforge.errors import MatrixError, RequestError
from trtforge.file_rules import FileRule  # noqa: TC001 (pydantic needs it at run time)
from trtforge.policy import Budgets, NightlyPolicy, RegistryPolicy
from trtforge.registry.reference import parse_reference
from trtforge.toolkit import Gcc, Toolkit  # noqa: TC001 (pydantic needs them at run time)

if TYPE_CHECKING:
    from pathlib import Path

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


def _wheels_alone(value: Any) -> Any:
    return {"wheels": value} if isinstance(value, list) else value


VersionText = Annotated[str, AfterValidator(_version)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.{}_-]*$", description="a Debian package")]
Wheel = Annotated[str, AfterValidator(_requirement)]
Sm = Annotated[str, Field(pattern=r"^[0-9]{2,3}$", description="compute capability without its point: 86")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Cuda(_Model):
    """A CUDA toolkit: the oldest driver of its major, its own driver, and the newest SM its ptxas knows."""

    driver: VersionText
    toolkit_driver: VersionText
    newest_sm: Sm


class Variant(_Model):
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


class Arch(_Model):
    """A GPU architecture and the compute capabilities we build for."""

    sm: list[Sm] = Field(min_length=1)
    gpus: str


class TorchBuild(_Model):
    """One published build of a torch release: the index it is on and the exact versions to ask there."""

    name: Name
    cuda: VersionText
    index: Name
    torch: VersionText
    torchvision: VersionText


class Torch(_Model):
    """A torch release and its builds, in order of preference."""

    builds: list[TorchBuild] = Field(min_length=1)


class TensorRT(_Model):
    """A TensorRT version, its flavour and the compute capabilities its builder targets."""

    flavour: Name
    sm: list[Sm] = Field(min_length=1)


class CudaLibrary(_Model):
    """The wheel of a CUDA library, as a requirement (PEP 508), and the folder in it where the library is."""

    package: Wheel
    folder: str


class Library(_Model):
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


class Os(_Model):
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


class BroughtBase(_Model):
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


class Axes(_Model):
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


class Rule(_Model):
    """Why a cell is valid or not: where `when` holds, `require` must.

    Both map a fact's name to a condition: a version specifier (PEP 440), a value, or a list of values.
    A `{fact}` in a condition or in `because` stands for that fact of the cell.
    """

    id: Name
    when: dict[str, str | list[str]] = Field(default_factory=dict)
    require: dict[str, str | list[str]] = Field(min_length=1)
    because: str
    source: str


class PublishRow(_Model):
    """Cells to lock and build every night: the product of the listed values."""

    cuda: list[VersionText]
    arch: list[Name]
    tensorrt: str
    torch: list[VersionText] = Field(default_factory=list)
    os: list[Name] = Field(default_factory=list)
    variant: list[Name] = Field(default_factory=list)
    code: list[Code] = Field(default_factory=list)

    def request(self) -> dict[str, tuple[str, ...]]:
        """The row as a request for cells."""
        axes = ("cuda", "arch", "torch", "os", "variant", "code")
        listed = {axis: tuple(getattr(self, axis)) for axis in axes}
        return {axis: values for axis, values in listed.items() if values} | {"tensorrt": (self.tensorrt,)}


class Contents(_Model):
    """What an image adds to the one it stands on: Debian packages and wheels; a plain list is wheels.

    toolkit: whether it compiles: with the toolkit of its cell's CUDA.
    """

    packages: list[Package] = Field(default_factory=list)
    wheels: list[Wheel] = Field(default_factory=list)
    toolkit: bool = False


_WHEELS_ALONE = BeforeValidator(_wheels_alone, json_schema_input_type=Contents | list[Wheel])


class Images(_Model):
    """What each image of the chain holds beside torch and TensorRT: Debian packages, then wheels.

    A `{fact}` of the cell may stand in those of images with TensorRT: "cuda-bindings=={cuda_major}.*".
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[Name, Annotated[Contents, _WHEELS_ALONE]]

    os: list[Package]
    pytorch_cuda: list[Wheel] = Field(alias="pytorch-cuda")
    tensorrt: list[Wheel]

    def last(self) -> dict[str, Contents]:
        """The images that a chain may end with, and what each holds."""
        return {"tensorrt": Contents(wheels=self.tensorrt), **self.__pydantic_extra__}


class Matrix(_Model):
    """The whole of matrix.yaml."""

    namespace: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]*$")]
    defaults: dict[str, str]
    axes: Axes
    flavours: dict[Name, Flavour]
    images: Images
    toolkits: dict[VersionText, Toolkit] = Field(default_factory=dict)
    projects: dict[Name, Name] = Field(default_factory=dict)
    indexes: dict[Name, str]
    mirrors: dict[Name, str] = Field(default_factory=dict)
    sdist_build: list[str]
    rules: list[Rule]
    files: list[FileRule] = Field(default_factory=list)
    slim: dict[Name, list[str]] = Field(
        default_factory=dict, description="wheel whose licence lets it be changed -> globs of its libraries"
    )
    publish: list[PublishRow]
    budgets: dict[Name, Budgets]
    registry: RegistryPolicy = RegistryPolicy()
    nightly: NightlyPolicy = NightlyPolicy()

    @model_validator(mode="after")
    def _names_exist(self) -> Matrix:
        for axis, value in self.defaults.items():
            if axis not in AXES or value not in self.axes.values(axis):
                raise ValueError(f"defaults: {axis}: {value} is not a value of the axis {axis}")
        for version, release in self.axes.tensorrt.items():
            if release.flavour not in self.flavours:
                raise ValueError(f"axes: tensorrt: {version}: there is no flavour {release.flavour}")
        images = [variant.image for variant in self.axes.variant.values()]
        for name, variant in self.axes.variant.items():
            if variant.image not in self.images.last():
                raise ValueError(f"axes: variant: {name}: there is no image {variant.image} with TensorRT")
            if images.count(variant.image) > 1:
                raise ValueError(
                    f"axes: variant: {name}: another variant has the image {variant.image} already"
                )
        for name, contents in self.images.last().items():
            if contents.toolkit and (lacking := self.axes.cuda.keys() - self.toolkits.keys()):
                raise ValueError(f"images: {name}: there is no toolkit for CUDA {', '.join(sorted(lacking))}")
        named = {"os", "pytorch-cuda", *self.images.last()}
        if missing := named - self.budgets.keys():
            raise ValueError(f"budgets: there is none for the image {', '.join(sorted(missing))}")
        if unknown := self.budgets.keys() - named:
            raise ValueError(f"budgets: there is no image {', '.join(sorted(unknown))}")
        used = {build.index for release in self.axes.torch.values() for build in release.builds}
        used |= {flavour.libs_index for flavour in self.flavours.values()}
        if missing := used - set(self.indexes) - {"default"}:
            raise ValueError(f"indexes: {', '.join(sorted(missing))} used but not declared")
        for kind, ids in (
            ("rules", [rule.id for rule in self.rules]),
            ("files", [rule.id for rule in self.files]),
        ):
            if repeated := {name for name in ids if ids.count(name) > 1}:
                raise ValueError(f"{kind}: {', '.join(sorted(repeated))} declared twice")
        for rule in self.files:
            if unknown := set(rule.gives_back) - set(self.axes.variant):
                raise ValueError(f"files: {rule.id}: there is no variant {', '.join(sorted(unknown))}")
        return self


def load_matrix(path: Path) -> Matrix:
    """Read `path`.

    Raises:
        MatrixError: it is missing, is not YAML or breaks the schema; with file and line.
    """
    try:
        tree = YAML(typ="rt").load(path)
    except FileNotFoundError as error:
        raise MatrixError(f"there is no {path}", ("next", "run this in trtforge's own folder")) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise MatrixError(
            f"{path.name} is not valid YAML: {error.problem}",
            ("at", f"{path.name}:{line}"),
            ("next", "mend that line"),
        ) from error
    try:
        return Matrix.model_validate(_plain(tree))
    except ValidationError as error:
        places = _places(path.name, tree, error)
        raise MatrixError(f"{path.name} does not say something valid", *places) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema of matrix.yaml, for editors (docs/matrix.schema.json)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Matrix.model_json_schema()}


def _plain(node: Any) -> Any:
    """The round-trip tree as plain Python values: ruamel's own subclasses would fail strict validation."""
    if isinstance(node, dict):
        return {_plain(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _places(name: str, tree: Any, error: ValidationError) -> list[tuple[str, str]]:
    """One line for each thing that is wrong: file, line, key and what is wrong with it."""
    facts = []
    for issue in error.errors():
        loc = [part for part in issue["loc"] if not str(part).startswith("[")]  # "[key]", our tags
        key = ".".join(str(part) for part in loc) or "the whole file"
        message = issue["msg"].removeprefix("Value error, ")
        if issue["type"] == "string_type":
            message += f" (quote it: {str(issue['input'])!r} may not mean what it says)"
        facts.append(("at", f"{name}:{_line(tree, loc)}: {key}: {message}"))
    return facts


def _line(tree: Any, loc: list[Any]) -> int:
    """The line of the deepest part of `loc` that is in the file, from 1."""
    line = 1
    for part in loc:
        try:
            line = (tree.lc.item(part) if isinstance(part, int) else tree.lc.key(part))[0] + 1
            tree = tree[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line
