"""An OS that begins with an image from a registry: the Engine pulls it and installs what it lacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.docker_registry import docker_registry, push
from tests.e2e.conftest import CACHE, Forge, copy_of_project
from tests.lock_factory import lock_of
from trtforge.cells import Cells
from trtforge.engine.docker_builder import build_with_docker
from trtforge.matrix import load_matrix
from trtforge.progress import Silent
from trtforge.recipe import Recipes
from trtforge.render import render_context
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trtforge.engine.engine import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.cell]

REF = "trtforge/os:slim"


@pytest.fixture
def project(forge: Forge, tmp_path: Path, scratch: Path) -> Iterator[Path]:
    """A project whose OS `slim` is an image in a registry on loopback: our own OS image, pushed there."""
    forge.type("--cuda 12.1 --arch ampere --tensorrt rtx --no-load")
    with docker_registry(scratch) as host:
        layout = CACHE / "store" / "oci"
        push(layout, "trtforge/os:debian12", f"{host}/debian:12")
        entries = json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"]
        digest = next(
            entry["digest"]
            for entry in entries
            if entry["annotations"]["org.opencontainers.image.ref.name"] == "trtforge/os:debian12"
        )
        root = copy_of_project(tmp_path / "trtforge")
        matrix = root / "matrix.yaml"
        row = f'    slim: {{distribution: debian, codename: bookworm, python: "3.11", glibc: "2.36", ' \
              f'gcc: "12", image: "{host}/debian@{digest}"}}\n'  # fmt: skip
        text = matrix.read_text(encoding="utf-8")
        matrix.write_text(text.replace("    debian13:", row + "    debian13:", 1), encoding="utf-8")
        yield root


def test_the_engine_completes_it_and_the_chain_can_stand_on_it(
    project: Path, engine: Engine, tmp_path: Path
) -> None:
    cells = Cells(load_matrix(project / "matrix.yaml"))
    (choice,) = cells.choose({"os": ("slim",), "tensorrt": ("rtx",)})
    recipe = Recipes(project, cells).chain(choice.cell, lock_of(cells, choice.cell))[0]
    render_context(recipe, {}, Store(tmp_path / "store"), tmp_path / "context")
    build_with_docker(tmp_path / "context", recipe.refs, engine, Silent())
    try:
        script = "import sys, pathlib; print(sys.prefix, pathlib.Path(sys.prefix).stat().st_uid)"
        run = engine.run(REF, ["python", "-c", script], user="1000:1000")
        assert (run.exit_code, run.stdout.split()) == (0, ["/opt/venv", "1000"]), run.stderr
        assert engine.config(REF)["Labels"]["io.trtforge.recipe-key"] == recipe.key
    finally:
        engine.remove(REF)


def test_the_oci_builder_says_which_line_needs_the_engine(project: Path, forge: Forge) -> None:
    other = Forge(project, forge.cache, forge.address)
    (project / "matrix.lock").unlink()
    done = other.type("--os slim --tensorrt rtx --no-load")
    assert done.returncode == 2
    assert "Dockerfile line" in done.stderr
    assert "--builder docker" in done.stderr
