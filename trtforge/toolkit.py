"""CUDA toolkits for the images that compile, as matrix.yaml describes them.

Where a toolkit comes from differs from version to version: wheels, a distribution's packages, NVIDIA's
repository. What is taken of these is put together in one folder, as the toolkit's own installer lays it out.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DebianSuite(_Model):
    """A Debian release, and the components of its repository, that have a toolkit's packages."""

    codename: str
    components: list[str] = Field(min_length=1)


class Repository(_Model):
    """A repository of packages without suites, and the file, on this machine, of the keys that sign it."""

    address: str
    keyring: str


Gcc = Annotated[str, Field(pattern=r"^[0-9]+$", description="major version of GCC")]


class CudaRuntime(_Model):
    """The wheel with the CUDA runtime library that torch brings, and the folder in it where that is."""

    package: str
    folder: str


class Toolkit(_Model):
    """What a CUDA toolkit is put together from.

    gcc: the newest that its nvcc takes.
    packages: Debian packages, of which only files are taken: what they depend on does not come. of: where
        they are.
    wheels: exact requirements (PEP 508), likewise.
    layout: path in a package or a wheel -> path in the toolkit, for files and folders. Of several that fit
        a file the longest counts; what none fits, or one without a path in the toolkit, is left out.
    runtime: the library that programs load which were linked with the toolkit's: that of torch, which is no
        older.
    flags: options that each run of nvcc gets.
    headers: folders below site-packages: the headers of libraries that come with torch.
    source: how all this is known.
    """

    gcc: Gcc
    packages: list[str] = Field(default_factory=list)
    of: DebianSuite | Repository | None = None
    wheels: list[str] = Field(default_factory=list)
    layout: dict[str, str] = Field(min_length=1)
    runtime: CudaRuntime
    flags: str = ""
    headers: list[str] = Field(default_factory=list)
    source: str


def home(cuda: str) -> str:
    """The folder of the toolkit of CUDA `cuda` in an image; NVIDIA's own installers use the same."""
    return f"/usr/local/cuda-{cuda}"
