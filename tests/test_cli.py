"""What a person types, and what comes back: exit code, standard output, standard error."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import PROJECT
from tests.project_copy import copy_project
from trtforge import __version__, cli
from trtforge.axes import AXES
from trtforge.build import Build, Built, CellBuilt
from trtforge.cli import VERB_NAMES, main
from trtforge.errors import EnvironmentLack, LockError
from trtforge.lock import Lock, lock_text
from trtforge.project import Project
from trtforge.recipe import Recipe
from trtforge.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trtforge.cells import Cell
    from trtforge.errors import ForgeError

RTX = "--tensorrt rtx"


@dataclass(frozen=True)
class Said:
    """What came back."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project in which to type, with an empty cache and no Engine."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("matrix.yaml", "matrix.lock"):
        shutil.copy(PROJECT / name, root)
    copy_project(root)
    # Whatever the lock in the tree was made from just now: these tests are not about its being fresh.
    project = Project(root)
    lock = project.read_lock(fresh=False)
    project.write_lock(lock.model_copy(update={"inputs": project.inputs}))
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRTFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no/docker.sock")
    return root


@pytest.fixture
def type_(root: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], Said]]:
    """Type `python build.py LINE`."""
    assert root.exists()
    signals = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def run(line: str) -> Said:
        with pytest.raises(SystemExit) as end:
            main(line.split())
        code = end.value.code
        assert isinstance(code, int)
        return Said(code, *capsys.readouterr())

    yield run
    for number, handler in signals.items():
        signal.signal(number, handler)


def test_version(type_: Callable[[str], Said]) -> None:
    assert type_("--version") == Said(0, f"trtforge {__version__}\n", "")


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_every_verb_has_help(type_: Callable[[str], Said], verb: str) -> None:
    said = type_(f"{verb} --help")
    assert (said.code, said.err) == (0, "")
    assert f"python build.py {verb}" in said.out
    assert verb in type_("--help").out


def test_no_verb_means_build(type_: Callable[[str], Said]) -> None:
    said = type_(f"--cuda 12.1 --arch ampere {RTX} --dry-run")
    assert said == type_(f"build --cuda 12.1 --arch ampere {RTX} --dry-run")
    assert said.code == 0
    assert "cu12.1-ampere" in said.out


@pytest.mark.parametrize(
    ("line", "problem", "next_step"),
    [
        ("--cudda 12.1", "No such option: --cudda", "python build.py build --help"),
        ("biuld", "No such command 'biuld'", "python build.py --help"),
        ("--builder kaniko", "kaniko", "python build.py build --help"),
        ("--jobs 0", "--jobs", "python build.py build --help"),
        ("plan --wheelhouse /nowhere", "/nowhere", "python build.py plan --help"),
        ("layer", "Missing argument", "python build.py layer --help"),
        ("--cuda 99", "--cuda 99: the matrix has no such value", "choose one of these"),
        ("--arch pascal", "--arch pascal", "choose one of these"),
        ("--torch 2.9.1+cu999", "--torch 2.9.1+cu999", "choose one of these"),
        ("--no-load --builder docker", "exclude each other", "leave one of them out"),
    ],
)
def test_a_wrong_request_is_told_with_what_to_do(
    type_: Callable[[str], Said], line: str, problem: str, next_step: str
) -> None:
    said = type_(line)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert problem in said.err
    assert next_step in said.err
    assert said.err.endswith("exit 2\n")

    with_json = type_(f"{line} --json")
    assert with_json.code == 2
    assert problem in with_json.answer["error"]
    assert with_json.err == said.err


@pytest.mark.parametrize(
    ("line", "rule", "nearest"),
    [
        ("--cuda 11.8 --torch 2.9.1", "torch-cuda-major", "--cuda 12.1"),
        ("--cuda 12.6 --arch blackwell", "blackwell-needs-cuda-12.8", "--cuda 12.8"),
        ("--arch hopper --tensorrt rtx", "rtx-has-no-hopper", "--tensorrt full"),
    ],
)
def test_a_contradiction_names_its_rule_and_what_is_nearest(
    type_: Callable[[str], Said], line: str, rule: str, nearest: str
) -> None:
    said = type_(line)
    assert (said.code, said.out) == (2, "")
    assert re.search(rf"^  rule +{rule}: ", said.err, re.MULTILINE)
    assert re.search(rf"^(  nearest| {{9}}) +{nearest} ", said.err, re.MULTILINE), said.err
    facts = type_(f"plan {line} --json").answer["facts"]
    (more,) = [text for label, text in facts if label == "more"]
    assert more.endswith(f"#{rule}")
    assert (PROJECT / more.partition("#")[0]).exists()


def test_a_malformed_matrix_is_told_with_its_line(type_: Callable[[str], Said], root: Path) -> None:
    text = (root / "matrix.yaml").read_text(encoding="utf-8")
    broken = text.replace('ampere: {sm: ["80", "86"]', "ampere: {sm: [eighty]")
    assert broken != text
    (root / "matrix.yaml").write_text(broken, encoding="utf-8")
    line = broken[: broken.index("eighty")].count("\n") + 1
    said = type_("plan")
    assert (said.code, said.out) == (2, "")
    assert f"matrix.yaml:{line}" in said.err


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("images/os/Dockerfile.j2", "LABEL ", "# changed\nLABEL "),
        ("toolkit/pyproject.toml", "dependencies = [", 'dependencies = ["a-new-one", '),
    ],
)
def test_a_stale_lock_is_refused(
    type_: Callable[[str], Said], root: Path, file: str, old: str, new: str
) -> None:
    assert type_(f"plan --cuda 12.1 {RTX}").code == 0
    text = (root / file).read_text(encoding="utf-8")
    (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    said = type_(f"--cuda 12.1 {RTX}")
    assert said.code == 2
    assert "matrix.lock is stale" in said.err
    assert "python build.py lock" in said.err


def test_an_edited_lock_is_refused(type_: Callable[[str], Said], root: Path) -> None:
    file = root / "matrix.lock"
    file.write_text(file.read_text(encoding="utf-8").replace('"adduser"', '"subuser"', 1), encoding="utf-8")
    for line in (f"--cuda 12.1 {RTX}", "gc", "plan --all"):
        said = type_(line)
        assert said.code == 2
        assert "matrix.lock was edited" in said.err
        assert "python build.py lock" in said.err


def test_without_an_engine_nothing_is_begun(
    type_: Callable[[str], Said], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Build, "layers", lambda *_: pytest.fail("the long work was begun"))
    monkeypatch.setattr("trtforge.build.check_disk", lambda *_: None)
    (root / "matrix.lock").touch()
    said = type_(f"--cuda 12.1 --arch ampere {RTX}")
    assert (said.code, said.out) == (3, "")
    assert "make engine" in said.err


def built(cell: Cell, error: ForgeError | None = None) -> CellBuilt:
    """What became of a cell: an image, or why there is none."""
    if error:
        return CellBuilt(cell, (), error)
    recipe = Recipe("tensorrt", ("trtforge/tensorrt:x",), None, "", {}, {}, "sha256:1")
    record = Record(
        ref=recipe.ref, recipe_key="sha256:1", digest="sha256:2", image_id="", layers=1, size=1, unpacked=1
    )
    return CellBuilt(cell, (Built(recipe, record, "build", 1),))


def test_cells_that_fail_are_told_after_those_that_are_built(
    type_: Callable[[str], Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = LockError("an index no longer offers what was locked: x==1", ("next", "lock again"))

    def run(_build: Build, cells: Sequence[Cell], _lock: Lock) -> list[CellBuilt]:
        return [built(cell, gone if "ampere" in cell.arch else None) for cell in cells]

    monkeypatch.setattr(Build, "run", run)
    monkeypatch.setattr(Project, "lock_missing", lambda _project, _cells, lock, _progress: lock)
    line = f"--cuda 12.1,12.8 --arch ampere,ada {RTX} --no-load"
    said = type_(line)
    assert said.code == 1
    assert said.out.count("  build    trtforge/tensorrt:x\n") == 2
    assert said.err.count("error: an index no longer offers") == 1
    assert len(re.findall(r"cu12\.[18]-ampere", said.err)) == 2
    assert "2 cells built, 2 not; the same command goes on from here" in said.err
    answer = type_(f"{line} --json").answer
    assert sorted(type(one).__name__ for one in answer) == ["dict", "dict", "list", "list"]
    assert {one["error"] for one in answer if isinstance(one, dict)} == {gone.problem}


def test_one_reason_for_everything_is_the_error_of_the_command(
    type_: Callable[[str], Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = EnvironmentLack("the disk is full")
    monkeypatch.setattr(Build, "run", lambda _build, cells, _lock: [built(cell, full) for cell in cells])
    monkeypatch.setattr(Project, "lock_missing", lambda _project, _cells, lock, _progress: lock)
    said = type_(f"--cuda 12.1,12.8 {RTX} --no-load")
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("error: the disk is full\n")


def test_plan_says_how_many_layers_are_made_at_a_time(type_: Callable[[str], Said]) -> None:
    said = type_(f"plan --cuda 12.1 --arch ampere {RTX}")
    assert re.search(r"^\d+ layers at a time: ", said.out, re.MULTILINE)


def test_plan_tells_every_cell_of_the_matrix(type_: Callable[[str], Said], root: Path) -> None:
    said = type_("plan --all --json")
    assert (said.code, said.err) == (0, "")
    plans = said.answer
    axes = Project(root).matrix.axes
    combinations = 1
    for axis in AXES:
        combinations *= len(axes.values(axis))
    assert len(plans) == combinations >= 11760
    assert len({json.dumps(one["axes"]) for one in plans}) == combinations
    assert {one["state"] for one in plans} <= {"build", "reuse", "skip", "reject"}
    rules = {rule.id for rule in Project(root).matrix.rules}
    for one in plans:
        assert one["reason"]
        if one["state"] == "reject":
            assert {broken["rule"] for broken in one["rules"]} <= rules
            assert one["reason"].startswith(f"rule {one['rules'][0]['rule']}: ")
            assert "{" not in one["reason"]


def test_plan_shows_the_chain_and_explains(type_: Callable[[str], Said]) -> None:
    said = type_(f"plan --cuda 12.1 --arch ampere {RTX} --explain")
    assert (said.code, said.err) == (0, "")
    for word in ("os ", "pytorch-cuda ", "tensorrt ", "rule torch-cuda-major", "80, 86", "matrix.lock"):
        assert word in said.out


def test_several_values_are_several_cells(type_: Callable[[str], Said]) -> None:
    plans = type_(f"plan --cuda 12.1,12.8 --arch ampere,ada {RTX} --json").answer
    assert [one["axes"]["cuda"] + one["axes"]["arch"] for one in plans] == [
        "12.1ampere",
        "12.1ada",
        "12.8ampere",
        "12.8ada",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "cells --arch ada --json",
        f"plan --cuda 12.1 {RTX} --json",
        f"--cuda 12.1 {RTX} --dry-run --json",
        f"render --cuda 12.1 {RTX} --dry-run --json",
        "gc --dry-run --json",
        "schema",
    ],
)
def test_json_is_all_there_is(type_: Callable[[str], Said], line: str) -> None:
    said = type_(line)
    assert (said.code, said.err) == (0, "")
    assert said.answer


@pytest.mark.parametrize(
    "line",
    ["cells", "cells --arch ampere", f"plan --cuda 12.1 {RTX} --explain", "plan --all"],
)
def test_lines_are_not_folded_where_nobody_reads_them(type_: Callable[[str], Said], line: str) -> None:
    """Whole sentences stand on one line, and no markup is left in them."""
    said = type_(line)
    assert said.code == 0
    assert not re.search(r"\[/|\[(bold|dim|green|red|yellow)\]|\x1b", said.out)
    if line == "cells":
        assert any(one.endswith(" before 12.8 cannot target sm_100 or sm_120") for one in _lines(said))
    elif "--explain" in line:
        assert any("one build runs on every driver of its major" in one for one in _lines(said))


def _lines(said: Said) -> list[str]:
    return [one.rstrip() for one in said.out.splitlines()]


def test_gc_dry_run_lists_exactly_what_would_go(type_: Callable[[str], Said], root: Path) -> None:
    store = Project(root).store
    extra = [store.root / "records" / "f.json", store.oci / "blobs" / "sha256" / ("f" * 64)]
    for path in extra:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    told = type_("gc --dry-run --json").answer
    assert sorted(told["paths"]) == sorted(map(str, extra))
    assert told["would_free"] == 2000
    assert all(path.exists() for path in extra)

    done = type_("gc --json")
    assert done.answer == {"store": 2000, "engine": 0, "left": 0}
    assert "the Engine was left alone" in done.err
    assert not any(path.exists() for path in extra)


def test_ctrl_c_is_told_in_one_message(type_: Callable[[str], Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Project, "read_lock", press)
    said = type_("plan")
    assert (said.code, said.out) == (130, "")
    assert said.err.splitlines()[0] == "error: interrupted"
    assert len(said.err.splitlines()) == 3
    assert type_("plan --json").answer["error"] == "interrupted"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (EnvironmentLack("no room", ("next", "make some")), 3, "no room"),
        (PermissionError(13, "Permission denied", "/etc/x"), 3, "Permission denied"),
    ],
)
def test_what_the_machine_lacks_exits_with_3(
    type_: Callable[[str], Said], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, text: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Project, "read_lock", fail)
    said = type_("plan")
    assert (said.code, text in said.err, "Traceback" in said.err) == (code, True, False)


def test_a_reader_who_has_seen_enough_is_no_error(root: Path) -> None:
    """`python build.py plan --all | head -1`"""
    reading, writing = os.pipe()
    command = [sys.executable, str(PROJECT / "build.py"), "plan", "--all"]
    with subprocess.Popen(command, cwd=root, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        os.read(reading, 10)
        os.close(reading)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_cells_lists_what_is_selected_once(type_: Callable[[str], Said], root: Path) -> None:
    told = type_("cells --torch 2.9.1+cu126 --cuda 12.6,12.6 --arch ada --json").answer
    axes = Project(root).matrix.axes
    assert {(one["axes"]["torch"], one["axes"]["build"]) for one in told} == {("2.9.1", "cu126")}
    open_axes = [len(axes.values(axis)) for axis in ("tensorrt", "os", "python", "variant", "code")]
    assert len(told) == len({json.dumps(one["axes"]) for one in told}) == prod(open_axes)


def test_a_folder_without_a_matrix_is_trtforge_s_own(
    type_: Callable[[str], Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert type_("cells --cuda 12.1 --json").code == 0


def test_an_empty_lock_locks_first(type_: Callable[[str], Said], root: Path) -> None:
    (root / "matrix.lock").write_text(lock_text(Lock(inputs=Project(root).inputs)), encoding="utf-8")
    (plan,) = type_(f"plan --cuda 12.1 {RTX} --json").answer
    assert (plan["state"], plan["reason"]) == ("build", "not locked yet; a build locks it first")


def test_layer_writes_one_wheel_s_layer(type_: Callable[[str], Said], tmp_path: Path) -> None:
    broken = tmp_path / "demo-1.0-py3-none-any.whl"
    broken.write_bytes(b"no zip")
    said = type_(f"layer {broken} --output {tmp_path / 'out.tar.gz'}")
    assert said.code == 1
    assert said.err.startswith("error: corrupt wheel: ")
    assert not list(tmp_path.glob("out*"))


def test_every_error_code_is_documented() -> None:
    help_text = (cli.__doc__ or "") + (PROJECT / "README.md").read_text(encoding="utf-8")
    for code in ("0 done", "2 the request is wrong", "3 this machine lacks", "130 interrupted"):
        assert code in help_text
