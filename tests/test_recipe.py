from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PROJECT
from tests.lock_factory import BASE, PYTHON3, lock_of, pin
from tests.project_copy import copy_project
from trtforge.axes import Os
from trtforge.cells import Cells
from trtforge.dockerfile import read_dockerfile
from trtforge.errors import LockError, RequestError
from trtforge.image import check_followable
from trtforge.layer_order import SMALL
from trtforge.layers.sources import BytecodeSource, LinksSource, OsSource, WheelSource
from trtforge.recipe import Recipe, Recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.cells import Cell
    from trtforge.system.os_packages import OsPackage


def pick(cells: Cells, **request: str) -> Cell:
    (choice,) = cells.choose({"tensorrt": ("rtx",), **{axis: (value,) for axis, value in request.items()}})
    return choice.cell


@lru_cache(maxsize=1)
def ours(cells: Cells) -> Recipes:
    """Those of this checkout, in one state even if somebody works in toolkit/ meanwhile."""
    return Recipes(PROJECT, cells)


def chain(cells: Cells, project: Path = PROJECT, **request: str) -> Sequence[Recipe]:
    cell = pick(cells, **request)
    recipes = ours(cells) if project == PROJECT else Recipes(project, cells)
    return recipes.chain(cell, lock_of(cells, cell))


def test_the_chain_of_the_main_job(cells: Cells) -> None:
    system, base, image = chain(cells, cuda="12.1", arch="ampere")
    assert system.refs == ("trtforge/os:debian12",)
    assert base.refs == ("trtforge/pytorch-cuda:2.9.1-cu12.1-debian12",)
    assert image.refs == (
        "trtforge/tensorrt:rtx1.7.1.116-pt2.9.1-cu12.1-ampere",
        "trtforge/tensorrt:cu12.1-ampere",
    )
    assert (base.parent, image.parent) == (system, base)
    assert f"FROM {base.ref}\n" in image.dockerfile


def test_layers_are_ordered_from_what_changes_least(cells: Cells) -> None:
    _, base, image = chain(cells)
    kinds = [
        [pin.name for pin in source.pins] if isinstance(source, WheelSource) else type(source)
        for source in (*base.sources.values(), *image.sources.values())
    ]
    assert kinds == [
        ["nvidia-cudnn-cu12"],
        ["nvidia-cublas-cu12"],
        ["torch"],
        BytecodeSource,
        ["numpy"],
        ["torchvision"],
        ["pip"],
        ["tensorrt-rtx-cu12-libs"],
        BytecodeSource,
        ["onnx"],
        ["tensorrt-rtx-cu12-bindings"],
        ["tensorrt-rtx-cu12"],
        LinksSource,
        ["trtkit"],
    ]


def test_a_small_wheel_that_changes_moves_its_own_layer_and_no_other(cells: Cells) -> None:
    (choice,) = cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",)})
    lock = lock_of(cells, choice.cell)
    numpy = next(one for one in BASE if one.name == "numpy")
    newer = numpy.model_copy(update={"sha256": "f" * 64})
    changed = lock.model_copy(update={"wheels": lock.wheels | {numpy.filename: newer}})
    before, after = (
        {source.key for recipe in ours(cells).chain(choice.cell, one) for source in recipe.sources.values()}
        for one in (lock, changed)
    )
    assert (len(before - after), len(after - before)) == (1, 1)


def test_many_small_wheels_share_a_layer_so_that_an_image_has_few(cells: Cells) -> None:
    (choice,) = cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",)})
    lock = lock_of(cells, choice.cell)
    many = [pin(f"small{number:03}", "1", 1000 + number, "e") for number in range(100)]
    many = [one.model_copy(update={"sha256": f"{number:064x}"}) for number, one in enumerate(many)]
    wheels = lock.wheels | {one.filename: one for one in many}
    sets = lock.sets | {"base": (*lock.sets["base"], *(one.filename for one in many))}
    _, base, _ = ours(cells).chain(choice.cell, lock.model_copy(update={"wheels": wheels, "sets": sets}))
    *_, bundle = base.sources.values()
    assert len(base.sources) == 3 + 1 + SMALL + 1
    assert isinstance(bundle, WheelSource)
    assert {one.name for one in bundle.pins} == {one.name for one in many[: 103 - SMALL]}


def test_an_update_of_the_system_that_is_not_python_leaves_bytecode_as_it_is(cells: Cells) -> None:
    (choice,) = cells.choose({"cuda": ("12.1",), "tensorrt": ("rtx",)})
    lock = lock_of(cells, choice.cell)
    openssl = PYTHON3.model_copy(update={"name": "libssl3", "sha256": "b" * 64})
    python = PYTHON3.model_copy(update={"sha256": "c" * 64})

    def keys(*packages: OsPackage) -> list[str]:
        changed = lock.model_copy(update={"os": {choice.cell.os: packages}})
        return [
            source.key
            for recipe in ours(cells).chain(choice.cell, changed)[1:]
            for source in recipe.sources.values()
        ]

    assert keys(PYTHON3, openssl) == keys(PYTHON3)
    assert keys(python) != keys(PYTHON3)


def test_architectures_share_their_base_and_every_layer_but_their_configuration(cells: Cells) -> None:
    ampere, turing = chain(cells, arch="ampere"), chain(cells, arch="turing")
    assert ampere[1] == turing[1]
    assert list(ampere[2].sources) == list(turing[2].sources)
    assert ampere[2].key != turing[2].key


def test_settings_are_right_for_the_cell(cells: Cells) -> None:
    _, base, image = chain(cells, cuda="12.1", arch="ampere")
    assert 'NVIDIA_REQUIRE_CUDA="cuda>=12.1"' in base.dockerfile
    assert 'TORCH_CUDA_ARCH_LIST="8.0;8.6"' in image.dockerfile
    assert 'io.trtforge.sm="80,86"' in image.dockerfile
    expected = json.loads(image.files["opt/smoke/expected.json"])
    assert expected["tensorrt"]["module"] == "tensorrt_rtx"
    assert expected["torch"] == {"version": "2.9.1+cu128", "cuda": "12.8"}
    assert {"torch", "onnx"} <= expected["packages"].keys()


def test_the_user_is_not_root(cells: Cells) -> None:
    users = [
        instruction.value
        for recipe in chain(cells)
        for instruction in read_dockerfile(recipe.dockerfile)
        if instruction.name == "USER"
    ]
    assert users == ["1000:1000"]  # a number: Kubernetes cannot tell that a name is not root


def test_a_recipe_s_key_covers_all_that_decides_the_image(cells: Cells, tmp_path: Path) -> None:
    def changed(file: str) -> bool:
        project = tmp_path / file.replace("/", "-")
        copy_project(project)
        before = chain(cells, project)[2].key
        assert chain(cells, project)[2].key == before
        text = (project / file).read_text(encoding="utf-8")
        (project / file).write_text(text + "\n# changed\n", encoding="utf-8")
        return chain(cells, project)[2].key != before

    assert changed("images/tensorrt/Dockerfile.j2")
    assert changed("images/os/Dockerfile.j2")  # of the parent's parent
    assert changed("smoke/runner.py")
    assert changed("toolkit/trtkit/__init__.py")
    assert changed("toolkit/examples/one.yaml")

    cell = pick(cells)
    lock = lock_of(cells, cell)
    other = BASE[3].model_copy(update={"sha256": "f" * 64})
    touched = lock.model_copy(update={"wheels": {**lock.wheels, other.filename: other}})
    recipes = ours(cells)
    assert recipes.chain(cell, lock)[2].key != recipes.chain(cell, touched)[2].key


def test_a_template_that_names_an_unknown_fact_is_refused(cells: Cells, tmp_path: Path) -> None:
    copy_project(tmp_path)
    with (tmp_path / "images" / "os" / "Dockerfile.j2").open("a", encoding="utf-8") as template:
        template.write('LABEL cudnn="{{ cudnn }}"\n')
    with pytest.raises(RequestError, match="'cudnn' is undefined") as caught:
        chain(cells, tmp_path)
    assert caught.value.fact("template") == "images/os/Dockerfile.j2"


def test_a_cell_that_is_not_locked_has_no_recipe(cells: Cells) -> None:
    with pytest.raises(LockError) as caught:
        Recipes(PROJECT, cells).chain(pick(cells, cuda="12.4"), lock_of(cells, pick(cells)))
    assert "python build.py lock" in (caught.value.fact("next") or "")


@pytest.mark.parametrize("variant", ["runtime", "serve"])
def test_what_is_rendered_is_a_good_dockerfile(cells: Cells, tmp_path: Path, variant: str) -> None:
    for recipe in chain(cells, variant=variant):
        assert lint(recipe, tmp_path) == ""


def lint(recipe: Recipe, folder: Path) -> str:
    """What hadolint says of a rendered Dockerfile."""
    file = folder / recipe.image
    file.write_text(recipe.dockerfile, encoding="utf-8")
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-fail", file], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("variant", ["runtime", "serve"])
def test_what_is_rendered_reads_as_reviewed(cells: Cells, variant: str) -> None:
    """tests/golden/*.Dockerfile show a change of a template as a reviewer will see it."""
    rendered = chain(cells, cuda="12.1", arch="ampere", variant=variant)[-1]
    golden = PROJECT / "tests" / "golden" / f"{rendered.image}.Dockerfile"
    text = rendered.dockerfile.replace(rendered.key, "RECIPE-KEY")
    for number, source in enumerate(rendered.sources):
        text = text.replace(source, f"layers/KEY-{number}.tar.gz")
    text = re.sub(r"(?<=# trtkit )\S+, \S+ MB, sha256:\w+", "VERSION, SIZE MB, sha256:HASH", text)
    assert text == golden.read_text(encoding="utf-8")


def test_an_os_layer_is_named_by_its_packages(cells: Cells) -> None:
    (source,) = chain(cells)[0].sources.values()
    assert isinstance(source, OsSource)
    assert source.says() == ["debian bookworm, 1 packages"]


def on_a_registry_image(cells: Cells) -> tuple[Cells, Cell]:
    """Our matrix with one more OS, which begins with an image of it."""
    row = Os(
        distribution="debian",
        codename="bookworm",
        python="3.11",
        glibc="2.36",
        gcc="12",
        image=f"registry.example/debian@sha256:{'e' * 64}",
    )
    axes = cells.matrix.axes.model_copy(update={"os": {**cells.matrix.axes.os, "slim": row}})
    with_row = Cells(cells.matrix.model_copy(update={"axes": axes}))
    return with_row, pick(with_row, os="slim")


def test_an_os_from_a_registry_is_completed_by_the_engine(cells: Cells, tmp_path: Path) -> None:
    with_row, cell = on_a_registry_image(cells)
    system, base, _ = Recipes(PROJECT, with_row).chain(cell, lock_of(with_row, cell))
    assert f"FROM registry.example/debian@sha256:{'e' * 64}\n" in system.dockerfile
    assert "apt-get install --yes --no-install-recommends python3 ca-certificates tini" in system.dockerfile
    assert not any(isinstance(source, OsSource | BytecodeSource) for source in base.sources.values())
    assert lint(system, tmp_path) == ""


def test_the_oci_builder_refuses_what_only_an_engine_can_do(cells: Cells) -> None:
    with_row, cell = on_a_registry_image(cells)
    system, *_ = Recipes(PROJECT, with_row).chain(cell, lock_of(with_row, cell))
    with pytest.raises(RequestError) as caught:
        check_followable(system.dockerfile)
    assert (caught.value.fact("line") or "").startswith("SHELL")
    assert "--builder docker" in (caught.value.fact("next") or "")
