"""Image sizes, compared: `python -m bench.image_sizes [--arches ampere,ada] [--build] [--pull ampere]`.

    ours          the images of the cells that are built (`--build`: builds them first, without an Engine)
    hand-written  the Dockerfile that a person would write (bench/publish.py): the same OS, `pip install` of
                  the same wheels, whole, and their bytecode, in one layer. Its tar is made here, compressed
                  by libdeflate at level 6 (0.2 % smaller than zlib's default), and not kept
    published     what others say of their images: see PUBLISHED

--pull: what those of these architectures cost to pull and start, too (bench/image_pull.py).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.image_pull import ROUNDS, require_room, times
from bench.main_job import ROOT
from trtforge.layers.gzip_tar import compress_tar
from trtforge.layers.sources import BytecodeSource, OsSource, WheelSource
from trtforge.layers.wheel_archive import WheelArchive
from trtforge.oci import EPOCH
from trtforge.project import Project
from trtforge.sizes.measured import measure
from trtforge.sizes.size import Size, human

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtforge.cells import Cell
    from trtforge.lock import Lock
    from trtforge.oci import Layer
    from trtforge.sizes.measured import Measured

RESULTS = ROOT / "bench" / "results"

CUDA = "12.1"

KINDS: dict[str, dict[str, str]] = {
    "runtime": {"variant": "runtime", "code": "all"},
    "runtime --slim": {"variant": "runtime", "code": "slim"},
    "serve": {"variant": "serve"},
    "deploy": {"variant": "deploy"},
}
"""The images that are compared, as requests."""

PULLED = ("runtime --slim", "deploy")
"""Those of them that --pull pulls."""

TARGETS = {"runtime --slim": (0.83, 0.87)}
"""Shares of the hand-written image that an image may have, compressed and on disk."""

DEPLOY_AT_MOST = 400_000_000
"""Bytes, compressed."""

CUDA_DEVEL = "nvidia/cuda cudnn-devel + the same wheels"
"""A base of NVIDIA's with the hand-written image's wheels upon it: computed, as the base cannot be pulled."""

CUDA_BASE = Size(2_920_000_000, 10_500_000_000)
"""Compressed: that of 11.8.0-devel-ubuntu20.04, older and without cuDNN, so a lower bound. On disk: that of
12.8.0-cudnn-devel-ubuntu22.04. Both as PUBLISHED has them."""

PUBLISHED: dict[str, str] = {
    "nvcr.io/nvidia/tensorrt:26.01-py3": "17.4 GB (not said whether compressed)",
    "nvcr.io/nvidia/tritonserver:26.01 with TensorRT-LLM": "16.17 GB (Triton's compatibility page)",
    "nvidia/cuda:11.8.0-devel-ubuntu20.04": "2.92 GB compressed, 7.37 GB on disk (moby/moby#46425)",
    "nvidia/cuda:12.4.1-cudnn-devel-ubuntu22.04": "8.29 GB on disk (pinakinathc/learn_cuda)",
    "nvidia/cuda:12.8.0-cudnn-devel-ubuntu22.04": "10.5 GB on disk (as listed by podman)",
}

PREFIX = "opt/venv/lib/python3.11/site-packages"


@dataclass
class Compared:
    """What was measured for one architecture.

    sizes: an image -> its size. seconds: an image -> those of a pull, and of pull and start.
    missing: an image -> why it has none.
    """

    arch: str
    sizes: dict[str, Size] = field(default_factory=dict)
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class _Stream(io.RawIOBase):
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            found = next(self._chunks, None)
            if found is None:
                return 0
            self._rest = found
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def installed(one: Measured, project: Project) -> Iterator[bytes]:
    """The tar of one layer with all wheels of an image, whole, and with its bytecode."""
    pins = {
        pin.sha256: pin
        for layer in one.report.layers
        for pin in getattr(layer.source, "pins", ())
        if not isinstance(layer.source, OsSource)
    }
    there: set[str] = set()  # several wheels have nvidia/__init__.py
    for pin in pins.values():
        with WheelArchive(project.store.file("wheels", pin.sha256, pin.filename)) as wheel:
            for member in wheel.members.values():
                if member.name in there:
                    continue
                there.add(member.name)
                yield _header(f"{PREFIX}/{member.name}", member.size)
                for piece in wheel.pieces(member):
                    yield piece.plain
                yield bytes(-member.size % tarfile.BLOCKSIZE)
    for layer in one.report.layers:
        if not isinstance(layer.source, BytecodeSource | WheelSource) or layer.source.interpreter is None:
            continue
        with (
            gzip.open(project.store.blob(layer.digest)) as blob,
            tarfile.open(fileobj=blob, mode="r|") as tar,
        ):
            for found in tar:
                new = found.name.endswith(".pyc") and found.name not in there
                if new and (content := tar.extractfile(found)):
                    there.add(found.name)
                    yield _header(found.name, found.size)
                    yield content.read() + bytes(-found.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, EPOCH
    return info.tobuf(tarfile.PAX_FORMAT)


def hand_written(one: Measured, project: Project, keep: bool) -> tuple[Size, Layer]:
    """The size of the hand-written image on the wheels of `one`, and its layer; `keep`: in the store."""
    source = io.BufferedReader(_Stream(installed(one, project)), 1 << 20)
    if keep:
        with project.store.work_folder() as work:
            with (work / "layer").open("wb") as out:
                layer = compress_tar(source, out)
            project.store.keep_layer("bench-hand-written", work / "layer", layer)
    else:
        layer = compress_tar(source, io.BufferedWriter(_Nowhere()))
    rest = [each for each in one.report.layers if each.source is None or isinstance(each.source, OsSource)]
    whole = Size(layer.size, layer.unpacked)
    for other in rest:
        whole += other.size
    return whole, layer


def built(project: Project, lock: Lock, arch: str) -> dict[str, tuple[Cell, Measured | None]]:
    """The cells of an architecture by kind, and what is measured of those that are built."""
    found = {}
    for kind, more in KINDS.items():
        asked = {"cuda": CUDA, "arch": arch, "tensorrt": "rtx", **more}
        (choice,) = project.cells.choose({axis: (value,) for axis, value in asked.items()})
        found[kind] = choice.cell, measure(choice.cell, lock, project, None)
    return found


def compare(project: Project, arch: str, *, pull: bool) -> Compared:
    """Measure what there is of `arch`."""
    result = Compared(arch)
    cells = built(project, project.read_lock(), arch)
    for kind, (cell, one) in cells.items():
        if one:
            result.sizes[kind] = one.report.size
        else:
            result.missing[kind] = f"{project.cells.name(cell)} is not built"
    _, runtime = cells["runtime"]
    if runtime is None:
        return result
    size, layer = hand_written(runtime, project, keep=pull)
    result.sizes = {"hand-written": size, **result.sizes}
    wheels = Size(layer.size, layer.unpacked)
    result.sizes[CUDA_DEVEL] = CUDA_BASE + wheels
    if pull:
        try:
            ours = {kind: one.recipe for kind, (_, one) in cells.items() if one and kind in PULLED}
            result.seconds = times(runtime, layer, ours, project)
        finally:
            project.store.blob(layer.digest).unlink()
            (project.store.root / "layers" / "bench-hand-written.json").unlink()
    return result


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--arches", default="ampere")
    arguments.add_argument("--build", action="store_true")
    arguments.add_argument("--pull", default="")
    options = arguments.parse_args()
    project, arches = Project(ROOT), options.arches.split(",")
    if options.build:
        for arch in arches:
            for more in KINDS.values():
                words = [word for axis, value in more.items() for word in (f"--{axis}", value)]
                cell = ["--cuda", CUDA, "--arch", arch, "--tensorrt", "rtx", *words]
                subprocess.run([sys.executable, "build.py", *cell, "--no-load"], cwd=ROOT, check=True)
    if options.pull:
        require_room(project)
    report([compare(project, arch, pull=arch in options.pull.split(",")) for arch in arches])


def report(results: Sequence[Compared]) -> None:
    """Write bench/results/image_sizes.json and .md."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    facts = {
        "machine": machine,
        "cuda": CUDA,
        "arches": [
            {**asdict(one), "verdicts": [list(verdict) for verdict in verdicts(one)]} for one in results
        ],
        "published": PUBLISHED,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "image_sizes.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    parts = [_section(one) for one in results]
    published = "\n".join(f"| {name} | {says} |" for name, says in PUBLISHED.items())
    text = f"""\
# Image sizes

Written by `bench/image_sizes.py`, which says what each image is. CUDA {CUDA}, TensorRT-RTX; {machine}.
Compressed: the layers' blobs, what a pull moves. On disk: their tars. Seconds: medians of {ROUNDS} pulls into
a clean Engine, from a registry on loopback.

{"".join(parts)}
## Published sizes of others

| image | size |
|---|---|
{published}

`{CUDA_DEVEL}` is computed: the wheels' layer of the hand-written image, upon a base that could not
be pulled here. Its compressed size is a lower bound, from an older and smaller base (11.8.0-devel, no cuDNN).
"""
    (RESULTS / "image_sizes.md").write_text(text, encoding="utf-8")
    print(text)


def _section(one: Compared) -> str:
    whole = one.sizes.get("hand-written")
    rows = []
    for name, size in one.sizes.items():
        compressed, on_disk = human(size.compressed), human(size.on_disk)
        shares = ["", ""]
        if whole:
            shares = [
                f"{size.compressed / whole.compressed:.3f}",
                f"{size.on_disk / whole.on_disk:.3f}",
            ]
        seconds = [f"{each:.1f}" for each in one.seconds.get(name, ())] or ["", ""]
        rows.append(f"| {' | '.join((name, compressed, shares[0], on_disk, shares[1], *seconds))} |")
    notes = [f"* {kind}: {why}" for kind, why in one.missing.items()]
    notes += [
        f"* {name}: {has} (target: {target}): {'met' if met else 'missed'}"
        for name, has, target, met in verdicts(one)
    ]
    return f"""\
## {one.arch}

| image | compressed | x hand-written | on disk | x hand-written | pull, s | pull and start, s |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

{chr(10).join(notes)}

"""


def verdicts(one: Compared) -> list[tuple[str, str, str, bool]]:
    """Of each target, what it is of, what was measured, what it is, and whether it is met."""
    found = []

    def judge(what: str, share: float, most: float) -> None:
        found.append((what, f"{share:.3f}x", f"at most {most}x", share <= most))

    whole = one.sizes.get("hand-written")
    for kind, (compressed, on_disk) in TARGETS.items():
        if whole and (size := one.sizes.get(kind)):
            judge(f"{kind}, compressed", size.compressed / whole.compressed, compressed)
            judge(f"{kind}, on disk", size.on_disk / whole.on_disk, on_disk)
        if {kind, "hand-written"} <= one.seconds.keys():
            share = one.seconds[kind][1] / one.seconds["hand-written"][1]
            judge(f"{kind}, pull and start", share, compressed)
    if size := one.sizes.get("deploy"):
        target = f"under {human(DEPLOY_AT_MOST)}"
        met = size.compressed < DEPLOY_AT_MOST
        found.append(("deploy, compressed", human(size.compressed), target, met))
    return found


if __name__ == "__main__":
    main()
