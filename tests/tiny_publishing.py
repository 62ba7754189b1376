"""The real verbs in a process of their own, which may be killed: only layers and tests are stand-ins.

A layer is some thousand random bytes instead of wheels and Debian packages; a test reads, with a client of
its own, every byte of the image from the registry. So what counts as tested here was whole.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import lock_of
from tests.onlooker import Onlooker
from tests.project_copy import copy_project
from tests.published_factory import changed
from trtforge.cli import main
from trtforge.layers.gzip_tar import GzipTar
from trtforge.layers.maker import LayerMaker
from trtforge.production.staging import SharedPlace
from trtforge.project import Project
from trtforge.registry.connection import Connection
from trtforge.registry.namespace import Namespace
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.layers.sources import LayerSource
    from trtforge.lock import Lock
    from trtforge.oci import Layer
    from trtforge.recipe import Recipe

SELECTORS = {"cuda": ("12.1",), "arch": ("ampere", "turing"), "tensorrt": ("rtx",)}

_WHEELS = ("torch-", "pip", "tensorrt_rtx", "onnx")

_FORK = multiprocessing.get_context("fork")

_SMALL, _CHUNK = 16 << 10, 24 << 10
"""Bytes, in place of `upload.MONOLITHIC` and `CHUNK`: so that uploads take several requests."""


@dataclass
class Run:
    """A verb that runs. steps: requests and pieces of work that it has begun, as far as it was watched."""

    process: BaseProcess
    watched: int
    steps: int = 0

    def reaches(self, steps: int) -> bool:
        """Wait until it has begun so many; whether it did before it ended."""
        while self.steps < steps and os.read(self.watched, 1):
            self.steps += 1
        return self.steps == steps

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> int | None:
        """Wait for its end; its exit code."""
        self.reaches(sys.maxsize)
        os.close(self.watched)
        self.process.join()
        return self.process.exitcode


@dataclass
class Workshop:
    """A machine with a project of two cells and a cache of its own.

    registry: "127.0.0.1:port/team". days: by which the registry's clock is ahead.
    """

    folder: Path
    registry: str
    days: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        copy_project(self.root)
        publish = "publish:\n  - {cuda: ['12.1'], arch: [ampere, turing], tensorrt: rtx}\n\n"
        matrix = (PROJECT / "matrix.yaml").read_text()
        matrix = re.sub(r"publish:.*?\n\n(?=registry:)", publish, matrix, flags=re.DOTALL)
        (self.root / "matrix.yaml").write_text(re.sub(r"keep: \d+", "keep: 2", matrix))
        self.tested.mkdir(parents=True, exist_ok=True)
        self.write(0)

    @property
    def root(self) -> Path:
        return self.folder / "project"

    @property
    def tested(self) -> Path:
        """A file for each digest that passed."""
        return self.folder.parent / "tested"

    @cached_property
    def project(self) -> Project:
        return Project(self.root)

    @property
    def cells(self) -> list[Cell]:
        return [choice.cell for choice in self.project.cells.choose(SELECTORS)]

    def onlooker(self, **more: Any) -> Onlooker:
        host, _, path = self.registry.partition("/")
        return Onlooker(host, path, _Tested(self.tested), **more)

    def lock(self, version: int) -> Lock:
        """The lock of this version: each has another TensorRT image than the one before, and each second one
        another base as well."""
        project = self.project
        lock = lock_of(project.cells, *self.cells, inputs=project.inputs)
        few = {
            kind: tuple(file for file in files if file.startswith(_WHEELS))
            for kind, files in lock.sets.items()
        }
        wheels = {file: lock.wheels[file] for files in few.values() for file in files}
        lock = lock.model_copy(update={"sets": few, "wheels": wheels})
        return changed(changed(lock, "onnx", f"{version:04x}"), "torch", f"{version // 2:04x}")

    def write(self, version: int) -> None:
        """Have this version in the project."""
        self.project.write_lock(self.lock(version))

    def chains(self, version: int) -> list[tuple[Recipe, ...]]:
        project, lock = self.project, self.lock(version)
        return [project.recipes.chain(cell, lock) for cell in self.cells]

    # what is typed

    def start(self, line: str) -> Run:
        """`python build.py LINE --registry ...`, begun."""
        for name in ("said", "trace"):
            (self.folder / name).write_bytes(b"")
        steps, told = os.pipe()
        process = _FORK.Process(target=self._type, args=([*line.split(), "--registry", self.registry], told))
        process.start()
        os.close(told)
        return Run(process, steps)

    def type(self, line: str) -> int:
        """The same to its end, which must be good; how many steps it took."""
        run = self.start(line)
        code = run.end()
        assert code == 0, f"{line}: exit code {code}\n{self.said}"
        return run.steps

    @property
    def said(self) -> str:
        """All that it printed, and what it did last."""
        last = (self.folder / "trace").read_text().splitlines()[-6:]
        return "\n".join([(self.folder / "said").read_text(), "last:", *last])

    def _type(self, words: list[str], told: int) -> None:
        said = os.open(self.folder / "said", os.O_WRONLY)
        for number in (1, 2):
            os.dup2(said, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ["TRTFORGE_CACHE"] = str(self.folder / "cache")
        os.chdir(self.root)
        self._stand_in(told)
        main(words)

    def _stand_in(self, told: int) -> None:
        """Replace what is not for now; this process ends, so nothing is put back."""
        put = pytest.MonkeyPatch().setattr
        trace = os.open(self.folder / "trace", os.O_WRONLY | os.O_APPEND)
        stream, now = Connection.stream, Namespace.now

        def tell(text: str) -> None:
            os.write(trace, f"{text}\n".encode())
            os.write(told, b".")

        @contextmanager
        def stream_told(
            connection: Connection, method: str, url: Any, *rest: Any, **more: Any
        ) -> Iterator[Any]:
            tell(f"{method} {url}")
            with stream(connection, method, url, *rest, **more) as answer:
                yield answer

        def verify(reference: str, *_rest: object, **_more: object) -> SmokeReport:
            tell(f"test {reference}")
            image, _, digest = reference.rpartition("/")[2].partition("@")
            self.onlooker().pull(image, digest)
            (self.tested / digest).touch()
            passed = CheckResult(name="imports", status="passed", reason="", seconds=1, detail={})
            return SmokeReport(image=reference, results=(passed,))

        def make(maker: LayerMaker, source: LayerSource) -> Layer:
            tell(f"make {source.name}")
            return maker.store.layer(source.key) or _make_layer(maker, source.key)

        put(Connection, "stream", stream_told)
        put(Namespace, "now", lambda namespace: now(namespace) + timedelta(days=self.days))
        put(LayerMaker, "make", make)
        put(SharedPlace, "engine", lambda _place: None)
        put("trtforge.production.staging.verify_image", verify)
        put("trtforge.production.steps.fetch", lambda *_pins, **_options: {})
        put("trtforge.production.steps.fetch_each", lambda *_pins, **_options: {})
        put("trtforge.production.steps.check_disk", lambda *_missing: None)
        put("trtforge.production.production.check_disk", lambda *_missing: None)
        put("trtforge.registry.upload.MONOLITHIC", _SMALL)
        put("trtforge.registry.upload.CHUNK", _CHUNK)


class _Tested(set[str]):
    """The digests whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __contains__(self, digest: object) -> bool:
        return (self._folder / str(digest)).exists()


def _make_layer(maker: LayerMaker, key: str) -> Layer:
    content = random.Random(key).randbytes(80_000)
    with maker.store.work_folder() as work:
        with (work / "layer").open("wb") as out:
            tar = GzipTar(out)
            tar.add_file(f"/{key}", content)
            layer = tar.finish()
        maker.store.keep_layer(key, work / "layer", layer)
    return layer
