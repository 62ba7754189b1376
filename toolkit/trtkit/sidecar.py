"""The sidecar of an engine: a JSON file beside it that says what it is, where it runs and what it came from.

An engine is bound to the GPU and the TensorRT that it was built for, and says neither; so whoever loads one
reads its sidecar first (`trtkit.fit`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trtkit.errors import RequestError
from trtkit.flavour import Flavour
from trtkit.tensors import Profile, ShapeRange, TensorSpec

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]

HardwareCompatibility = Literal["none", "ampere-plus", "same-compute-capability"]
"""Which GPUs besides those it was built for: trt.HardwareCompatibilityLevel."""


class Preprocess(BaseModel):
    """How an image becomes an input: resized so that its short side is `resize`, the middle `crop` of it,
    scaled to 0..1, minus `mean`, over `std`, channels first. Defaults: torchvision's ImageNet evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: int = Field(default=256, gt=0)
    crop: int = Field(default=224, gt=0)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocess:
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        return self


class Caveat(BaseModel):
    """What is no error and yet worth knowing of an engine.

    kind: uncovered-shape, a shape that was named and that no profile covers; slow-precision, a GPU that is
    not fast at the precision; precision, what a conversion could not look at; timing-cache, one not used;
    calibration-cache, one of which nothing says what network it is of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["uncovered-shape", "slow-precision", "precision", "timing-cache", "calibration-cache"]
    text: str


class Sidecar(BaseModel):
    """What an engine is.

    engine_sha256, onnx_sha256: of the engine's bytes, and of the ONNX file that was asked to be built.
    sms: the compute capabilities it was built for ("80",); tensorrt_version: as the library says it.
    profiles: of its optimisation profiles, each the range of every dynamic input.
    layers: the optimised network's, as TensorRT's inspector tells them; empty where it could not be asked.
    workspace: bytes. caveats: what the build had to say. preprocess: how images become its input, None where
    it takes none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    engine_sha256: str
    onnx_sha256: str
    flavour: Flavour
    tensorrt_version: str
    sms: tuple[str, ...]
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[dict[str, ShapeRange], ...] = ()
    workspace: int
    trtkit: str
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()
    layers: tuple[dict[str, Any], ...] = Field(default=())
    caveats: tuple[Caveat, ...] = ()

    @property
    def profile(self) -> Profile:
        """The first optimisation profile; empty where all shapes are fixed."""
        return self.profiles[0] if self.profiles else {}


def sidecar_path(engine: Path) -> Path:
    """resnet50.fp16.engine -> resnet50.fp16.engine.json."""
    return engine.with_name(engine.name + ".json")


def write_sidecar(sidecar: Sidecar, engine: Path) -> Path:
    """Write it beside `engine`; it is there whole or not at all."""
    path = sidecar_path(engine)
    new = path.with_name(path.name + ".new")
    new.write_text(sidecar.model_dump_json(indent=1) + "\n", encoding="utf-8")
    new.replace(path)
    return path


def read_sidecar(engine: Path) -> Sidecar:
    """The sidecar of `engine`.

    Raises:
        RequestError: there is none, it cannot be read, or the engine's bytes are not those it speaks of.
    """
    path = sidecar_path(engine)
    rebuild = ("next", "build the engine with `trtkit build`, which writes it")
    try:
        sidecar = Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RequestError(f"{engine.name} has no sidecar {path.name}", rebuild) from None
    except ValidationError as error:
        raise RequestError(
            f"{path.name} cannot be read", ("because", str(error).splitlines()[0]), rebuild
        ) from error
    if not engine.is_file():
        raise RequestError(f"there is no engine {engine}", rebuild)
    if file_sha256(engine) != sidecar.engine_sha256:
        raise RequestError(
            f"{engine.name} is not the engine that {path.name} speaks of",
            ("because", "its SHA-256 is another: it is damaged, or was replaced without its sidecar"),
            rebuild,
        )
    return sidecar


def file_sha256(path: Path) -> str:
    """Of the file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
