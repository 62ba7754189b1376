"""A Python project of ours as a wheel: the same bytes anywhere, what it needs, and what is wrong with it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import PROJECT
from tests.wheel_factory import TARGET, installer_tree, layer_tree
from trtforge.errors import BuildError, MatrixError
from trtforge.index.local_project import LocalProject, named, needed
from trtforge.layers.wheel_layer import PinnedWheel, layer_in_store
from trtforge.progress import Silent
from trtforge.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

PYPROJECT = """\
[build-system]
requires = ["flit-core"]
build-backend = "flit_core.buildapi"

[project]
name = "acme_kit"
description = "A kit"
dynamic = ["version"]
requires-python = ">=3.10"
dependencies = ["numpy>=1.26", "rich"]

[project.optional-dependencies]
serve = ["fastapi", "rich"]
Build-Tools = ["onnx; python_version > '3'"]
all = ["acme-kit[serve,build_tools]"]

[project.scripts]
acme = "acme_kit:main"
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "acme_kit/__init__.py": '"""A kit."""\n__version__ = "1.2"\n',
    "acme_kit/part/__init__.py": "",
    "acme_kit/part/data.json": "{}\n",
    "examples/b/two.py": "print(2)\n",
    "examples/one.yaml": "{}\n",
}


def write(folder: Path, files: Mapping[str, str] = FILES) -> LocalProject:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return LocalProject(folder)


def test_equal_sources_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "one").wheel
    mask = os.umask(0o077)
    try:
        other = write(tmp_path / "other" / "name", dict(reversed(FILES.items())))
    finally:
        os.umask(mask)
    (other.folder / "acme_kit" / "__pycache__").mkdir()
    (other.folder / "acme_kit" / "__pycache__" / "part.cpython-311.pyc").write_bytes(b"stale")
    for file in other.folder.rglob("*"):
        os.utime(file, (1, 1))  # before the first day that a zip can say
    (tmp_path / "link").symlink_to(other.folder)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    assert other.wheel == LocalProject(tmp_path / "link").wheel == first
    assert first[0] == "acme_kit-1.2-py3-none-any.whl"


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("examples/")])
def test_another_source_is_another_wheel(tmp_path: Path, name: str) -> None:
    before = write(tmp_path / "before").pin
    end = {"toml": '[tool.x]\n[project.urls]\nhome = "https://acme.example"\n', "json": "\n", "py": "X = 1\n"}
    after = write(tmp_path / "after", FILES | {name: FILES[name] + end[name.rpartition(".")[2]]}).pin
    assert before.sha256 != after.sha256
    assert before.filename == after.filename


def test_the_wheel_is_one_that_our_own_reader_takes(tmp_path: Path) -> None:
    filename, content = write(tmp_path / "acme").wheel
    wheel = tmp_path / filename
    wheel.write_bytes(content)
    pin = LocalProject(tmp_path / "acme").pin
    assert (pin.name, pin.version, pin.size) == ("acme-kit", "1.2", len(content))
    store = Store(tmp_path / "store")
    layer = layer_in_store(store, [PinnedWheel(wheel, pin.sha256)], TARGET, Silent())
    assert layer_tree(store.blob(layer.digest)) == installer_tree([wheel], tmp_path / "theirs")
    with zipfile.ZipFile(wheel) as members:
        assert "acme_kit/part/data.json" in members.namelist()
        assert not any("examples" in name or "__pycache__" in name for name in members.namelist())


def test_our_own_projects_build(tmp_path: Path) -> None:
    project = LocalProject(PROJECT / "toolkit")
    (tmp_path / project.wheel[0]).write_bytes(project.wheel[1])
    with zipfile.ZipFile(tmp_path / project.wheel[0]) as members:
        assert members.testzip() is None
        assert "trtkit/__main__.py" in members.namelist()


def test_extras_are_replaced_by_what_they_hold(tmp_path: Path) -> None:
    project = write(tmp_path)
    projects = {project.name: project}

    def what(*texts: str) -> list[str]:
        return list(needed(texts, projects))

    assert what("onnx", "acme.kit") == ["onnx", "numpy>=1.26", "rich"]
    assert what("acme-kit[serve]", "onnx") == ["onnx", "numpy>=1.26", "rich", "fastapi"]
    assert what("Acme-Kit[Build.Tools]") == ["numpy>=1.26", "rich", "onnx; python_version > '3'"]
    assert set(what("acme_kit[all]")) == {*what("acme-kit[serve]"), *what("acme-kit[build-tools]")}
    assert named(["onnx", "acme_kit[all]", "Acme.Kit"], projects) == [project]
    assert named(["onnx"], projects) == []


def test_projects_may_need_each_other(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one", {"pyproject.toml": '[project]\nname = "one"\ndependencies = ["two", "a"]\n'}
    )
    two = write(
        tmp_path / "two", {"pyproject.toml": '[project]\nname = "two"\ndependencies = ["one", "b"]\n'}
    )
    projects = {"one": one, "two": two}
    assert list(needed(["one"], projects)) == ["a", "b"]
    assert named(["one"], projects) == [one, two]


@given(st.sets(st.sampled_from(["serve", "build-tools", "all"])))
def test_what_is_needed_never_names_a_project_of_ours(
    tmp_path_factory: pytest.TempPathFactory, extras: set[str]
) -> None:
    project = write(tmp_path_factory.mktemp("acme"))
    text = f"acme-kit[{','.join(extras)}]"
    found = list(needed([text, text], {"acme-kit": project}))
    assert len(found) == len(set(found))
    assert not any(one.startswith("acme") for one in found)


def test_an_unknown_extra_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="acme-kit has no extra train") as caught:
        write(tmp_path).requirements(["serve", "train"])
    assert caught.value.fact("extras") == "serve, build-tools, all"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (None, "no such file"),
        ("[project\n", "line 1"),
        ("[tool.x]\n", "no table [project]"),
        ("[project]\nversion = '1'\n", "name: Field required"),
        ("[project]\nname = 'x'\ndependencies = 'numpy'\n", "dependencies: Input should be a valid list"),
        ("[project]\nname = 'x'\ndependencies = ['a b']\n", "dependencies.0: 'a b' is no requirement"),
        ("project = 1\n", "valid dictionary"),
    ],
)
def test_a_folder_that_is_no_project_is_told(tmp_path: Path, text: str | None, because: str) -> None:
    project = write(tmp_path / "acme", {} if text is None else {"pyproject.toml": text})
    with pytest.raises(MatrixError, match="acme/ is no Python project") as caught:
        project.requirements()
    assert because in (caught.value.fact("because") or "")
    assert caught.value.fact("at") == str(tmp_path / "acme" / "pyproject.toml")
    assert "matrix.yaml" in (caught.value.fact("next") or "")


@pytest.mark.parametrize(
    ("files", "because"),
    [
        ({"acme_kit/__init__.py": '"""A kit."""\n__version__ = \n'}, "invalid syntax"),
        ({"acme_kit/part/deep.py": "def f(:\n"}, "acme_kit/part/deep.py:1: "),
        ({"acme_kit/__init__.py": '"""A kit."""\n'}, "__version__"),
        ({"acme_kit/__init__.py": '"""A kit."""\nimport no_such_module_at_all\n'}, "no_such_module_at_all"),
        ({"pyproject.toml": PYPROJECT.replace("[project.scripts]", "[project.nonsense]")}, "nonsense"),
        ({"pyproject.toml": PYPROJECT.replace('acme_kit"', 'other"')}, "other"),
    ],
)
def test_sources_that_do_not_build_are_told(tmp_path: Path, files: dict[str, str], because: str) -> None:
    project = write(tmp_path / "acme", FILES | files)
    with pytest.raises(BuildError, match="acme/ does not build") as caught:
        project.pin  # noqa: B018
    assert because in (caught.value.fact("because") or "")


def test_a_link_out_of_the_project_brings_no_file_of_the_machine_along(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the machine")
    project = write(tmp_path / "acme")
    (project.folder / "acme_kit" / "secret").symlink_to(tmp_path / "secret")
    with pytest.raises(BuildError, match="does not build"):
        project.pin  # noqa: B018


def test_examples_are_beside_the_wheel(tmp_path: Path) -> None:
    project = write(tmp_path / "acme")
    (project.folder / "examples" / "__pycache__").mkdir()
    (project.folder / "examples" / "__pycache__" / "x.pyc").write_bytes(b"")
    assert project.examples() == {"examples/b/two.py": b"print(2)\n", "examples/one.yaml": b"{}\n"}
    assert write(tmp_path / "bare", {"pyproject.toml": PYPROJECT}).examples() == {}


def test_on_another_machine_it_is_the_one_beside_trtforge(tmp_path: Path) -> None:
    assert LocalProject.here(tmp_path) == LocalProject(tmp_path)
    assert LocalProject.here(Path("/nowhere/toolkit")) == LocalProject(PROJECT / "toolkit")
