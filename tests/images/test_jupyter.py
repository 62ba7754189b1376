"""JupyterLab's start: whence a token comes, and what is refused."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from tests.base_factory import cells_with_base
from tests.conftest import PROJECT
from tests.images.scripts import script
from tests.lock_factory import lock_of, pin
from tests.test_locking import pick
from trtforge.dockerfile import read_dockerfile
from trtforge.errors import CompatibilityError
from trtforge.image import check_followable
from trtforge.recipe import Recipes

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.matrix import Matrix

start = script("jupyter", "start")
NOTEBOOKS = sorted((PROJECT / "images/jupyter/opt/trtforge/jupyter/notebooks").glob("*.ipynb"))
TOKEN = "0123456789abcdef"


def refused(environment: dict[str, str], secret: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        start.given_token(environment, secret)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_token_comes_from_the_environment_a_file_or_a_secret(tmp_path: Path) -> None:
    absent, file = tmp_path / "absent", tmp_path / "token"
    file.write_text(f"{TOKEN}-of-a-file\n")
    assert start.given_token({}, absent) is None
    assert start.given_token({"JUPYTER_TOKEN": TOKEN}, absent) == TOKEN
    assert start.given_token({"JUPYTER_TOKEN_FILE": str(file)}, absent) == f"{TOKEN}-of-a-file"
    assert start.given_token({}, file) == f"{TOKEN}-of-a-file"
    assert start.given_token({"JUPYTER_TOKEN": TOKEN}, file) == TOKEN  # what is said at the start goes before


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"JUPYTER_TOKEN": ""}, "JUPYTER_TOKEN is empty"),
        ({"JUPYTER_TOKEN": TOKEN[:-1]}, "shorter than 16"),
        ({"JUPYTER_TOKEN_FILE": ""}, "cannot be read"),
        ({"JUPYTER_TOKEN_FILE": "/dev/null"}, "/dev/null is empty"),
        ({"JUPYTER_TOKEN_FILE": "/absent"}, "cannot be read"),
        ({"JUPYTER_TOKEN": TOKEN, "JUPYTER_TOKEN_FILE": "/dev/null"}, "both set"),
    ],
)
def test_no_token_and_a_short_one_are_refused(
    environment: dict[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(environment, tmp_path / "absent", capsys)
    assert says in said
    assert "rule" in said
    assert "openssl rand" in said


def test_an_empty_secret_does_not_mean_a_random_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" \n")
    assert "is empty" in refused({}, secret, capsys)


def test_what_a_person_changed_in_the_notebooks_stays(tmp_path: Path) -> None:
    start.copy_notebooks(tmp_path / "notebooks")
    copied = sorted((tmp_path / "notebooks").iterdir())
    assert [file.name for file in copied] == [file.name for file in NOTEBOOKS]
    copied[0].write_text("mine")
    copied[1].unlink()
    start.copy_notebooks(tmp_path / "notebooks")
    assert copied[0].read_text() == "mine"
    assert copied[1].read_bytes() == NOTEBOOKS[1].read_bytes()
    assert copied[1].stat().st_mode & stat.S_IWUSR


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_notebooks_are_kept_without_what_they_printed(file: Path) -> None:
    notebook = json.loads(file.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert file.read_text(encoding="utf-8") == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def test_what_needs_a_gpu_in_the_notebooks_says_that_it_was_skipped() -> None:
    for file in NOTEBOOKS:
        assert "skipped: " in file.read_text(encoding="utf-8")


def test_it_stands_on_the_tensorrt_image_with_its_notebooks(cells: Cells) -> None:
    cell = pick(cells, cuda="12.1", tensorrt="rtx", variant="jupyter")
    lab, lock = pin("jupyterlab", "4.6.6", 14_000_000, "b"), lock_of(cells, cell)
    locked = lock.cells[cells.name(cell)].model_copy(update={"added": "lab"})
    lock = lock.model_copy(
        update={
            "sets": lock.sets | {"lab": (lab.filename,)},
            "wheels": lock.wheels | {lab.filename: lab},
            "cells": {cells.name(cell): locked},
        }
    )
    *_, below, image = Recipes(PROJECT, cells).chain(cell, lock)
    assert (below.image, image.image) == ("tensorrt", "jupyter")
    assert image.parent == below
    copied = {path.removeprefix("opt/trtforge/jupyter/") for path in image.files}
    assert {f"notebooks/{file.name}" for file in NOTEBOOKS} <= copied
    assert {"start.py", "token_required.py", "jupyter_server_config.py"} <= copied
    assert json.loads(image.files["opt/smoke/expected.json"])["packages"]["jupyterlab"] == "4.6.6"
    check_followable(image.dockerfile)
    said = {one.name: one for one in read_dockerfile(image.dockerfile)}
    (port,) = said["EXPOSE"].ports()
    assert f":{port.removesuffix('/tcp')}/api'" in said["HEALTHCHECK"].health_check()["Test"][-1]
    assert said["CMD"].argv() == ["python", "/opt/trtforge/jupyter/start.py"]
    assert 'JUPYTER_CONFIG_PATH="/opt/trtforge/jupyter"' in image.dockerfile
    assert "USER" not in said  # the one of the image below, who is not root


def test_it_needs_an_image_of_ours(matrix: Matrix) -> None:
    with pytest.raises(CompatibilityError) as caught:
        cells_with_base(matrix).choose({"os": ("acme-torch",), "variant": ("jupyter",)})
    assert caught.value.rule == "jupyter-has-an-image-of-ours"
