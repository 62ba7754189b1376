"""Wheels built from source distributions, byte for byte the same on every machine.

The build runs isolated (uv), with exact build requirements, and its result is written anew in a canonical
form: sorted members, stored uncompressed, fixed times and modes, a fresh RECORD. So the wheel's hash does not
depend on the host's zlib, umask, locale, clock, folder or Python. Only pure-Python packages can promise that.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zipfile
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename

from trtforge.errors import BuildError
from trtforge.index.offers import account
from trtforge.index.uv import run_uv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.index.uv import Sources

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # oci.EPOCH as a zip says it
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")  # of a RECORD that is no more


def build_wheel(sdist: Path, build: Sequence[str], work: Path, sources: Sources) -> Path:
    """Build `sdist` in the empty folder `work`; the wheel there, in canonical form.

    It runs on the Python that runs trtforge: the result is the same for all, and the image's may not be here.

    Args:
        sdist: the source distribution, already checked against its hash.
        build: exact requirements ("setuptools==80.9.0") for whatever the build asks for.
        work: a folder on the disk where the wheel is wanted.
        sources: where the build requirements come from.

    Raises:
        BuildError: it does not build, or the wheel is not pure Python.
    """
    work = work.resolve()
    constraints, built = work / "build.txt", work / "built"
    constraints.write_text("\n".join(build) + "\n", encoding="utf-8")
    arguments: list[str | Path] = [
        "build",
        "--wheel",
        sdist.resolve(),
        "--out-dir",
        built,
        "--no-create-gitignore",
    ]
    answer = run_uv([*arguments, "--build-constraints", constraints], work, sources)
    wheels = sorted(built.glob("*.whl"))
    if answer.returncode or len(wheels) != 1:
        raise BuildError(
            f"{sdist.name} does not build",
            ("uv says", " ".join(account(answer.stderr)) or "nothing"),
            ("build needs", ", ".join(build) or "nothing pinned"),
            ("next", "pin what its build needs in matrix.yaml, or put a wheel of it into the wheelhouse"),
        )
    _, _, _, tags = parse_wheel_filename(wheels[0].name)
    if any(tag.abi != "none" or tag.platform != "any" for tag in tags):
        raise BuildError(
            f"{sdist.name} builds a wheel that is not pure Python",
            ("wheel", wheels[0].name),
            ("next", "put a wheel of it, built for the image, into the wheelhouse"),
        )
    return canonicalise(wheels[0], work / wheels[0].name)


def canonicalise(wheel: Path, target: Path) -> Path:
    """Write the content of `wheel` to `target` in canonical form: equal contents give equal bytes."""
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        infos = {info.filename: info for info in old.infolist() if not info.is_dir()}
        record = next(name for name in infos if name.endswith(".dist-info/RECORD") and name.count("/") == 1)
        folder = record.removesuffix("RECORD")
        members = set(infos) - {record} - {folder + name for name in _SIGNATURES}
        # The metadata goes to the end, where readers look first (binary distribution format).
        for name in sorted(members, key=lambda name: (name.startswith(folder), name)):
            executable = bool(infos[name].external_attr >> 16 & stat.S_IXUSR)
            with old.open(infos[name]) as source, new.open(_entry(name, executable), "w") as out:
                digest = hashlib.sha256()
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
            encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            rows.append((name, f"sha256={encoded}", str(infos[name].file_size)))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        new.writestr(_entry(record, executable=False), text.getvalue())
    return target


def _entry(name: str, executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.create_system = 3  # Unix, whatever this is
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    return entry
