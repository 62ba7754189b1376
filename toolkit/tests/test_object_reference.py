"""Python code that a person names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trtkit.errors import RequestError
from trtkit.object_reference import is_reference, named_object


def test_a_file_runs_once_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text("runs = []\nruns.append(1)\nother = object()\n")
    monkeypatch.chdir(tmp_path)
    assert named_object(f"{tmp_path}/net.py:other") is named_object("net.py:other")
    assert named_object("./net.py:runs") == [1]


def test_files_of_one_name_are_two_modules_and_hide_none(tmp_path: Path) -> None:
    import random

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "random.py").write_text(f"where = {folder!r}\n")
    assert [named_object(f"{tmp_path}/{folder}/random.py:where") for folder in ("a", "b")] == ["a", "b"]
    assert sys.modules["random"] is random


def test_a_file_that_failed_can_be_named_again_once_it_is_right(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("half = 1\nwhole = 1 / 0\n")
    with pytest.raises(RequestError, match="cannot be imported") as caught:
        named_object(f"{file}:half")
    assert "ZeroDivisionError" in str(caught.value.fact("because"))
    file.write_text("half = 2  # of the same length as nothing before\n")
    assert named_object(f"{file}:half") == 2


def test_a_name_that_is_not_there_has_a_nearest(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def resnet() -> None: ...\n")
    with pytest.raises(RequestError, match="has no 'resnets'") as caught:
        named_object(f"{tmp_path}/net.py:resnets")
    assert caught.value.fact("next") == "did you mean resnet"


@pytest.mark.parametrize("text", ["net.py:f", "a/b/net.py:f", "package.module:f", "module:_f"])
def test_what_is_a_reference(text: str) -> None:
    assert is_reference(text)


@pytest.mark.parametrize("text", ["net.py", "folder/", "a/b:f", "module:", ":f", "module:f.g", "3d:f"])
def test_what_is_none(text: str) -> None:
    assert not is_reference(text)


@pytest.mark.parametrize(
    ("text", "problem", "fact"),
    [
        ("none.py:Net", "there is no file none.py", "FILE.py:name"),
        ("no_such_package:Net", "there is no module no_such_package", "install it"),
        ("json.no_such:Net", "there is no module json.no_such", "install it"),
        ("net.py:Nat", "net.py has no 'Nat'", "did you mean Net"),
        ("lacking.py:Net", "lacking.py needs the module no_such_package", "install it"),
        ("failing.py:Net", "failing.py cannot be imported", "failing.py:2"),
        ("unreadable.py:Net", "unreadable.py cannot be imported", "SyntaxError"),
    ],
)
def test_what_is_wrong_is_told(
    text: str, problem: str, fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, code in (
        ("net", "class Net: pass\n"),
        ("lacking", "import no_such_package\n"),
        ("failing", "x = 1\nraise ValueError('no')\n"),
        ("unreadable", "class\n"),
    ):
        (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(RequestError) as told:
        named_object(text)
    assert told.value.problem.startswith(problem)
    assert fact in told.value.text()
