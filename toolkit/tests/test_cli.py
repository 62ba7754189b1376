"""The command line: errors as text with their exit codes, and nothing else of Python's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_network import convolutional, save
from trtkit import __version__
from trtkit.cli import EXTRAS, main
from trtkit.commands import VERBS


def trtkit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_the_version_and_every_verb_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert trtkit("--version") == 0
    assert capsys.readouterr().out == f"trtkit {__version__}\n"
    assert trtkit("--help") == 0
    shown = capsys.readouterr().out
    assert all(verb.__name__ in shown for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "said", "after"),
    [
        (["bild"], "No such command 'bild'", "trtkit --help"),
        (["build"], "Missing argument", "trtkit build --help"),
        (["build", "x.onnx", "--fast"], "No such option: --fast", "trtkit build --help"),
        (["build", "x.onnx", "--optimisation-level", "9"], "less than or equal to 5", "trtkit build --help"),
        (["inspect", "none.onnx"], "there is no file none.onnx", "name an ONNX file"),
    ],
)
def test_a_wrong_request_is_one_error_that_says_what_is_next(
    arguments: list[str], said: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trtkit(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert f"next      {after}" in shown.err
    assert shown.err.endswith("exit 2\n")


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """trtkit in a process of its own, after `code`."""
    program = f"{code}\nimport sys\nfrom trtkit.cli import main\nmain(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("onnx", ["build", "x.onnx"]),
        ("fastapi", ["serve", "x.onnx"]),
        ("onnxruntime", ["verify", "x.onnx", "-r", "x.onnx"]),
    ],
)
def test_a_missing_extra_is_told_with_what_brings_it(
    module: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absent as it is where it was never installed: the import system does not find it."""
    monkeypatch.chdir(tmp_path)
    save(convolutional(), tmp_path / "x.onnx")
    done = run(*arguments, code=ABSENT.format(module=module))
    assert done.returncode == 3
    assert f"needs {module}, which is not installed here" in done.stderr
    assert f"pip install 'trtkit[{EXTRAS[module]}]'" in done.stderr
    assert "Traceback" not in done.stderr


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "{module}":
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Absent())
"""


def test_help_is_told_without_heavy_modules() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "polygraphy", "fastapi")
    done = run(
        "--help", code=f"import atexit, sys; atexit.register(lambda: print(set({heavy}) & set(sys.modules)))"
    )
    assert done.returncode == 0
    assert done.stdout.endswith("set()\n")


def test_what_the_system_refuses_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(convolutional(), tmp_path / "net.onnx")
    (tmp_path / "folder.svg").mkdir()
    assert trtkit("inspect", str(model), "--svg", str(tmp_path / "folder.svg")) == 3
    said = capsys.readouterr().err
    assert "this machine says: Is a directory" in said
    assert "folder.svg" in said


def test_ctrl_c_while_tensorrt_builds_is_130_and_leaves_nothing(tmp_path: Path) -> None:
    save(convolutional(), tmp_path / "net.onnx")
    # The builder's own messages say that it is at work.
    command = [sys.executable, "-m", "trtkit", "build", "net.onnx", "--sm", "75,80,86,89,120", "--verbose"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("verbose: "))
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.endswith("error: interrupted\nexit 130\n")
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    model = save(convolutional(), tmp_path / "net.onnx")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "trtkit", "inspect", str(model), "--json"],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""
