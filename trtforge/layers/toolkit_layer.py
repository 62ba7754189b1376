"""A CUDA toolkit in a folder of its own, put together from files of Debian packages and of wheels.

dpkg knows nothing of it: Debian's nvidia-cuda-toolkit depends on all of CUDA's static libraries, a profiler
and a driver, 1.9 GB that an image with torch has already or does not need (docs/decisions, 22).

Sources: deb(5); nvcc.profile of NVIDIA's own toolkit (CUDA Compiler Driver NVCC, "nvcc.profile").
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO

from trtforge.errors import BuildError
from trtforge.layers.gzip_tar import compress_tar
from trtforge.layers.wheel_layer import PinnedWheel, verify
from trtforge.oci import EPOCH, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.store import Store

_FORMAT = 1
"""Counts changes of what this module makes from the same files."""

_PROFILE = """\
TOP                = $(_HERE_)/..
CICC_PATH          = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH            += $(CICC_PATH):$(_HERE_):
INCLUDES        += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES       =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"
"""
"""Where nvcc finds the parts of its toolkit, relative to itself: for packages that do not lay it out so."""

_COMPILERS = {"gcc": "gcc", "g++": "g++", "cc": "gcc", "c++": "g++"}
"""What the host compiler is called by those who look for one -> its name before its version."""


@dataclass(frozen=True)
class ToolkitParts:
    """What decides a toolkit's layer.

    home: its folder. gcc: the host compiler, by its major version. layout: see `toolkit.Toolkit`.
    """

    home: str
    gcc: str
    layout: tuple[tuple[str, str], ...]

    def place(self, path: str) -> str | None:
        """Where the file `path` of a package or wheel is in the image; None: nowhere."""
        fitting = [
            (source, target)
            for source, target in self.layout
            if path == source or path.startswith(f"{source}/")
        ]
        if not fitting:
            return None
        source, target = max(fitting, key=lambda pair: len(pair[0]))
        return str(PurePosixPath(self.home, target, path[len(source) :].strip("/"))) if target else None


def layer_key(parts: ToolkitParts, sha256s: Sequence[str]) -> str:
    """What the layer of a toolkit is a function of, as the store's key.

    Args:
        sha256s: of the packages, then of the wheels.
    """
    facts = {
        "kind": "toolkit",
        "format": _FORMAT,
        "home": parts.home,
        "gcc": parts.gcc,
        "layout": sorted(parts.layout),
        "files": list(sha256s),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def toolkit_layer(
    key: str,
    parts: ToolkitParts,
    debs: Sequence[Path],
    wheels: Sequence[PinnedWheel],
    store: Store,
    progress: Progress,
) -> Layer:
    """The layer with a toolkit made of files of `debs` and `wheels`; of two in one place the first counts.

    Args:
        key: under which the store keeps it, from `layer_key`.

    Raises:
        HashMismatch: a wheel is not the one that is pinned.
        BuildError: a package cannot be read, or there is no nvcc in what was taken.
    """

    def write(out: BinaryIO) -> Layer:
        with progress.task(f"CUDA toolkit {parts.home}") as advance, store.work_folder() as work:
            for wheel in wheels:
                verify(wheel)
            with tarfile.open(work / "toolkit.tar", mode="w", format=tarfile.PAX_FORMAT) as made:
                tar = _Writer(made, parts)
                for files in (*map(_of_package, debs), *(_of_wheel(wheel.path) for wheel in wheels)):
                    tar.add_all(files)
                    advance(0)
                tar.finish()
            with (work / "toolkit.tar").open("rb") as made:
                return compress_tar(made, out, advance=lambda _size: advance(0))

    return store.made_layer(key, write)


_File = tuple[tarfile.TarInfo, IO[bytes] | None]
"""A file or link of a package or wheel, under its path there, and its contents."""


class _Writer:
    """Writes a toolkit to a tar."""

    def __init__(self, tar: tarfile.TarFile, parts: ToolkitParts) -> None:
        self._tar, self._parts, self._written = tar, parts, set[str]()

    def add_all(self, files: Iterator[_File]) -> None:
        """Add what of `files` has a place in the toolkit."""
        for info, contents in files:
            path = self._parts.place(info.name)
            if path is not None and path.strip("/") not in self._written:
                self._add(path, info, contents)

    def finish(self) -> None:
        """Add what no package has.

        Raises:
            BuildError: there is no nvcc among what was added.
        """
        home = self._parts.home
        if f"{home}/bin/nvcc".strip("/") not in self._written:
            raise BuildError(
                f"no nvcc for {home} in its packages and wheels",
                ("next", "correct the layout of this toolkit in matrix.yaml"),
            )
        self._text(f"{home}/bin/nvcc.profile", _PROFILE)
        # Without the device runtime (kernels that start kernels) nothing is missing but what is named here,
        # which each program is linked with. This is an archive without members (ar(5)).
        self._text(f"{home}/lib64/libcudadevrt.a", "!<arch>\n")
        for name, compiler in sorted(_COMPILERS.items()):
            self._link(f"{home}/bin/{name}", f"/usr/bin/{compiler}-{self._parts.gcc}")
        # A linker looks for libcudart.so; wheels have libcudart.so.12 alone, as programs need it.
        for library in sorted(self._written):
            if found := re.fullmatch(rf"({re.escape(home.strip('/'))}/lib64/lib\w+\.so)\.\d+", library):
                self._link(found[1], PurePosixPath(library).name)

    def _text(self, path: str, text: str) -> None:
        if path.strip("/") not in self._written:
            info = tarfile.TarInfo()
            info.size = len(text)
            self._add(path, info, io.BytesIO(text.encode()))

    def _link(self, path: str, target: str) -> None:
        if path.strip("/") not in self._written:
            link = tarfile.TarInfo()
            link.type, link.linkname = tarfile.SYMTYPE, target
            self._add(path, link, None)

    def _add(self, path: str, like: tarfile.TarInfo, contents: IO[bytes] | None) -> None:
        """Write one file or link, after the folders above it."""
        for folder in reversed(PurePosixPath(path.strip("/")).parents[:-1]):
            if str(folder) not in self._written:
                self._written.add(str(folder))
                info = tarfile.TarInfo(str(folder))
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, EPOCH
                self._tar.addfile(info)
        info = tarfile.TarInfo(path.strip("/"))
        info.type, info.linkname, info.size, info.mtime = like.type, like.linkname, like.size, EPOCH
        info.mode = 0o777 if like.issym() else 0o755 if like.mode & 0o111 else 0o644
        self._written.add(info.name)
        self._tar.addfile(info, contents)


def _of_package(deb: Path) -> Iterator[_File]:
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    member.name = member.name.removeprefix("./")
                    if member.isreg():
                        member.pax_headers = {}
                        yield member, tar.extractfile(member)
                    elif member.issym() and not member.linkname.startswith("/"):
                        yield member, None
        except tarfile.TarError as error:
            said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
            raise BuildError(f"{deb.name} is not a Debian package", ("dpkg-deb", said)) from error


def _of_wheel(wheel: Path) -> Iterator[_File]:
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.infolist(), key=lambda one: one.filename):
            if not member.is_dir() and not member.filename.endswith("/__init__.py"):
                info = tarfile.TarInfo(member.filename)
                info.size, info.mode = member.file_size, member.external_attr >> 16
                with archive.open(member) as contents:
                    yield info, contents
