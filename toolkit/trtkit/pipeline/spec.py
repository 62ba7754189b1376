"""model.yaml: what a pipeline is to make of a model, and what must hold of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from trtkit.bench.contender import ONNX, TORCH
from trtkit.build import BuildOptions, parse_bytes, parse_sms, read_labels
from trtkit.calibrate import CalibrateOptions, Method
from trtkit.errors import RequestError
from trtkit.export.options import ExportOptions
from trtkit.object_reference import is_reference
from trtkit.sidecar import HardwareCompatibility, Precision, Preprocess
from trtkit.tensors import Shape, parse_shapes


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _told_as_value_error(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Errors of the readers that the command line has too, as pydantic's: those have a place in the file."""
    try:
        return validate(value)
    except RequestError as error:
        hint = error.fact("next")
        raise ValueError(f"{error.problem}{f'; {hint}' if hint else ''}") from error


Told = WrapValidator(_told_as_value_error)


def _shapes(value: Any) -> Any:
    return parse_shapes(value) if isinstance(value, list) else value


def _sms(value: Any) -> Any:
    return parse_sms(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _bytes(value: Any) -> Any:
    return parse_bytes(value) if isinstance(value, str) else value


Shapes = Annotated[dict[str, Shape], BeforeValidator(_shapes), Told]


class ProfileSpec(_Model):
    """The shapes that every engine is for: ["input:1x3x224x224"], as `trtkit build` takes them."""

    min: Shapes = {}
    opt: Shapes = {}
    max: Shapes = {}


class CalibrateSpec(_Model):
    """As `trtkit calibrate` takes it. data: a folder, or FILE.py:callable, beside the YAML file."""

    data: str
    samples: int = Field(default=500, ge=1)
    method: Method = "entropy"
    keep_fp16: tuple[str, ...] = ()
    evaluate: int = Field(default=100, ge=1)
    seed: int = 0

    def options(self, cache: Path, preprocess: Preprocess | None) -> CalibrateOptions:
        return CalibrateOptions(cache=cache, preprocess=preprocess or Preprocess(), **self.model_dump())


class EngineSpec(_Model):
    """An engine. sm: which GPUs TensorRT-RTX builds for; the full TensorRT builds for the one here."""

    precision: Precision
    sm: Annotated[tuple[str, ...], BeforeValidator(_sms), Told] = ()
    workspace: Annotated[int, Field(gt=0), BeforeValidator(_bytes), Told] = 2 << 30
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    keep_fp32: tuple[str, ...] = ()

    def options(
        self, profile: ProfileSpec, preprocess: Preprocess | None, labels: Sequence[str]
    ) -> BuildOptions:
        return BuildOptions(
            precision=self.precision,
            sms=self.sm,
            workspace=self.workspace,
            version_compatible=self.version_compatible,
            hardware_compatibility=self.hardware_compatibility,
            keep_fp32=self.keep_fp32,
            min_shapes=profile.min,
            opt_shapes=profile.opt,
            max_shapes=profile.max,
            preprocess=preprocess,
            labels=tuple(labels),
        )


class BenchSpec(_Model):
    """As `trtkit bench` takes it."""

    batches: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    rounds: int = Field(default=5, ge=1)
    round_seconds: float = Field(default=1.0, gt=0)
    warm_up_seconds: float = Field(default=10.0, ge=0)

    @field_validator("batches")
    @classmethod
    def _each_once(cls, batches: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(batches)) < len(batches):
            raise ValueError("a batch size is given twice")
        return batches


class LatencyBudget(_Model):
    """What a row of the benchmark may take at a batch, in milliseconds. qps: samples a second, at least."""

    row: str
    batch: int = 1
    p50: float | None = Field(default=None, gt=0)
    p99: float | None = Field(default=None, gt=0)
    qps: float | None = Field(default=None, gt=0)


class Budgets(_Model):
    """What must hold. agreement: least share of samples whose top-1 class INT8 keeps (0 to 1). cosine,
    sqnr_db: least of INT8's outputs with FP32's."""

    agreement: float | None = Field(default=None, ge=0, le=1)
    cosine: float | None = Field(default=None, ge=-1, le=1)
    sqnr_db: float | None = None
    latency: tuple[LatencyBudget, ...] = ()


class PipelineSpec(_Model):
    """The whole file.

    folder: where it lies; paths in it are beside it. name: of the files that are made.
    model, export: as `trtkit export` takes them. labels: a file with a class name a line.
    """

    folder: Path
    name: str = Field(pattern=r"^[^./\\][^/\\]*$")
    model: str
    export: Annotated[ExportOptions, Told] = ExportOptions()
    profile: ProfileSpec = ProfileSpec()
    preprocess: Preprocess | None = None
    labels: Path | None = None
    calibrate: CalibrateSpec | None = None
    engines: tuple[EngineSpec, ...] = ()
    bench: BenchSpec | None = BenchSpec()
    budgets: Budgets = Budgets()

    @field_validator("model", "labels", "calibrate", "export")
    @classmethod
    def _files_are_there(cls, value: Any, known: ValidationInfo) -> Any:
        """What a step would find missing is told before any step runs."""
        folder = known.data.get("folder", Path())
        for text in _files_of(value):
            if not (folder / text).exists() and not Path(text).exists():
                raise ValueError(f"there is no file {text}")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> PipelineSpec:
        if self.calibrate is None and any(engine.precision == "int8" for engine in self.engines):
            raise ValueError("an int8 engine needs `calibrate`, with the data that its ranges come from")
        precisions = [engine.precision for engine in self.engines]
        if len(set(precisions)) < len(precisions):
            raise ValueError("two engines of one precision; name several GPUs in one: sm: [80, 86]")
        asked = self.budgets
        if self.calibrate is None and any(
            one is not None for one in (asked.agreement, asked.cosine, asked.sqnr_db)
        ):
            raise ValueError("budgets: agreement, cosine and sqnr_db are INT8's, and nothing is calibrated")
        if self.bench is None and asked.latency:
            raise ValueError("budgets: latency is measured by `bench`, which is left out")
        rows = [*TORCH.values(), *ONNX.values(), *(f"TensorRT {one.upper()}" for one in precisions)]
        for budget in asked.latency:
            if budget.row not in rows:
                raise ValueError(f"budgets: there is no row {budget.row!r}, but {', '.join(rows)}")
            if self.bench and budget.batch not in self.bench.batches:
                raise ValueError(f"budgets: `bench` measures no batch of {budget.batch}")
        return self

    @property
    def source(self) -> str:
        """The model, as `trtkit export` finds it wherever it is called."""
        return self.beside(self.model)

    def beside(self, text: str) -> str:
        """`text`, a path or FILE.py:callable, as seen from anywhere; anything else as it is."""
        head, colon, name = text.rpartition(":") if is_reference(text) else (text, "", "")
        return f"{self.folder / head}{colon}{name}" if (self.folder / head).exists() else text

    def class_names(self) -> tuple[str, ...]:
        """The labels; none without a file.

        Raises:
            RequestError: there is no such file, or it is not text.
        """
        return read_labels(self.folder / self.labels) if self.labels else ()


def _files_of(value: Any) -> Iterator[str]:
    """The paths that a value of the file names; a module is no path."""
    if isinstance(value, CalibrateSpec):
        value = value.data
    if isinstance(value, ExportOptions):
        value = value.weights
    if isinstance(value, Path):
        yield str(value)
    if isinstance(value, str):
        head, colon, _ = value.rpartition(":")
        if not colon or head.endswith(".py"):
            yield head or value


def read_spec(path: Path) -> PipelineSpec:
    """Read `path`.

    Raises:
        RequestError: it is missing, is not YAML, or says something that cannot be; with its line.
    """
    try:
        tree = YAML(typ="rt").load(path)
    except (FileNotFoundError, IsADirectoryError):
        raise RequestError(
            f"there is no file {path}", ("next", "name a pipeline's YAML file; docs/pipeline.md shows one")
        ) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RequestError(
            f"{path.name} is not valid YAML: {error.problem}", ("at", f"{path.name}:{line}")
        ) from error
    except (UnicodeDecodeError, YAMLError) as error:
        raise RequestError(
            f"{path.name} is not text in UTF-8", ("because", str(error).splitlines()[0])
        ) from error
    if not isinstance(tree, dict):
        raise RequestError(
            f"{path.name} is empty or no mapping", ("next", "begin with model: torchvision:...")
        )
    if "folder" in tree:
        raise RequestError(
            f"{path.name} does not say something valid",
            ("at", f"{path.name}:{_line(tree, ['folder'])}: folder: it is the one that the file is in"),
        )
    try:
        return PipelineSpec.model_validate(
            {"name": path.stem, **_plain(tree), "folder": path.absolute().parent}
        )
    except ValidationError as error:
        places = [
            ("at", f"{path.name}:{_line(tree, issue['loc'])}: {_told(issue)}") for issue in error.errors()
        ]
        raise RequestError(f"{path.name} does not say something valid", *places) from error


def _told(issue: Any) -> str:
    key = ".".join(map(str, issue["loc"]))
    message = str(issue["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _plain(node: Any) -> Any:
    """The round-trip tree as plain Python values."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _line(tree: Any, loc: Sequence[int | str]) -> int:
    """The line of the deepest part of `loc` that is in the file, from 1."""
    line = 1
    with suppress(AttributeError, KeyError, IndexError, TypeError):
        for part in loc:
            line = (tree.lc.item(part) if isinstance(part, int) else tree.lc.key(part))[0] + 1
            tree = tree[part]
    return line
