"""matrix.yaml, read: axes, rules and defaults as typed, frozen values.

The schema refuses unknown keys and unquoted versions, and names file and line of what it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from trtforge.axes import AXES, Axes, Code, Flavour, Name, Package, Strict, VersionText, Wheel
from trtforge.errors import MatrixError
from trtforge.file_rules import FileRule  # noqa: TC001 (pydantic needs it at run time)
from trtforge.policy import Budgets, NightlyPolicy, RegistryPolicy
from trtforge.toolkit import Toolkit  # noqa: TC001 (pydantic needs it at run time)

if TYPE_CHECKING:
    from pathlib import Path


class Rule(Strict):
    """Why a cell is valid or not: where `when` holds, `require` must.

    Both map a fact's name to a condition: a version specifier (PEP 440), a value, or a list of values.
    A `{fact}` in a condition or in `because` stands for that fact of the cell.
    """

    id: Name
    when: dict[str, str | list[str]] = Field(default_factory=dict)
    require: dict[str, str | list[str]] = Field(min_length=1)
    because: str
    source: str


class PublishRow(Strict):
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


class Contents(Strict):
    """What an image adds to the one it stands on: Debian packages and wheels; a plain list is wheels.

    toolkit: whether it compiles: with the toolkit of its cell's CUDA.
    """

    packages: list[Package] = Field(default_factory=list)
    wheels: list[Wheel] = Field(default_factory=list)
    toolkit: bool = False


def _wheels_alone(value: Any) -> Any:
    return {"wheels": value} if isinstance(value, list) else value


_WHEELS_ALONE = BeforeValidator(_wheels_alone, json_schema_input_type=Contents | list[Wheel])


class Images(Strict):
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


class Matrix(Strict):
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
