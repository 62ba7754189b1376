"""Pins: the exact files an image's packages come from, as matrix.lock holds them. No addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _canonical(name: str) -> str:
    if name != canonicalize_name(name):
        raise ValueError(f"write {canonicalize_name(name)!r} (the canonical form), not {name!r}")
    return name


def _exact(requirement: str) -> str:
    name, separator, version = requirement.partition("==")
    try:
        Version(version)
    except InvalidVersion:
        separator = ""
    if not (name and separator):
        raise ValueError(f"{requirement!r} is not exact; write name==version")
    return requirement


class Sdist(BaseModel):
    """The source distribution that a wheel of ours was built from.

    filename, sha256: the file, as the index offers it.
    build: the exact build requirements, ("setuptools==80.9.0",); with them the wheel's hash is certain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str
    sha256: Sha256
    build: tuple[Annotated[str, AfterValidator(_exact)], ...]

    @model_validator(mode="after")
    def _is_an_sdist(self) -> Sdist:
        try:
            parse_sdist_filename(self.filename)
        except InvalidSdistFilename as error:
            raise ValueError(str(error)) from error
        return self


class Pin(BaseModel):
    """One exact package.

    name: in canonical form (packaging.utils.canonicalize_name).
    version: as the index writes it, local part included ("2.9.1+cu126").
    filename, sha256: the wheel; for a package offered only as source, the wheel `sdist.build_wheel` makes.
    size: the wheel's bytes, None where the index does not say.
    index: where to ask for it: "default", or the name of one of the matrix's extra indexes.
    sdist: what the wheel is built from, None for a wheel that is downloaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_canonical)]
    version: str
    filename: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)] | None = None
    index: str = "default"
    sdist: Sdist | None = None

    @model_validator(mode="after")
    def _names_one_package(self) -> Pin:
        try:
            name, version, _, _ = parse_wheel_filename(self.filename)
        except InvalidWheelFilename as error:
            raise ValueError(str(error)) from error
        if (name, version) != (self.name, Version(self.version)):
            raise ValueError(f"{self.filename} is not a wheel of {self.name} {self.version}")
        return self


@dataclass(frozen=True)
class Installed:
    """A package that an image holds already, from wherever: its canonical name and its version."""

    name: str
    version: str


@dataclass(frozen=True)
class Raisable:
    """A pin that may give way to another version `within` a range: a specifier (PEP 440), ">=2.3.4,<3"."""

    pin: Pin
    within: str

    @property
    def name(self) -> str:
        return self.pin.name

    @property
    def version(self) -> str:
        return self.pin.version


Held = Pin | Installed | Raisable
"""A package that was there before: it holds in its version, or in its range."""


def specifier(held: Held) -> str:
    """The versions that `held` leaves."""
    return held.within if isinstance(held, Raisable) else f"=={held.version}"
