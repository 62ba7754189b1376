"""A whole pipeline of a tiny network: done once, gone on with, redone where something changed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.pipeline.project import wanted, write
from trtkit.cli import main
from trtkit.devices import gpus
from trtkit.errors import RequestError
from trtkit.pipeline import PipelineReport, read_spec, run_pipeline

pytestmark = pytest.mark.torch

ALL = ["export", "calibrate", "build fp16", "build int8", "verify", "bench"]

no_gpu = pytest.mark.skipif(bool(gpus()), reason="tells what happens without a GPU")


@pytest.fixture(scope="module", autouse=True)
def _no_compiler() -> Iterator[None]:
    """torch.compile's rows are skipped: they would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        patch.setenv("CC", "no-such-compiler")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run through, in work/."""
    folder = tmp_path_factory.mktemp("project")
    report = run_pipeline(read_spec(write(folder, wanted())), folder / "work")
    assert actions(report) == dict.fromkeys(ALL, "done")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to change. In the same place each time: what it made does not name its folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def actions(report: PipelineReport) -> dict[str, str]:
    return {step.name: step.action for step in report.steps}


def done(folder: Path, **changes: object) -> list[str]:
    """The steps that a run with `changes` in the file does anew."""
    report = run_pipeline(read_spec(write(folder, wanted(**changes))), folder / "work")
    assert list(actions(report)) == ALL
    return [name for name, action in actions(report).items() if action == "done"]


def test_everything_is_made_and_told(finished: Path) -> None:
    report = run_pipeline(read_spec(finished / "tiny.yaml"), finished / "work")
    assert actions(report) == dict.fromkeys(ALL, "unchanged")
    assert sum(step.seconds for step in report.steps) < 5, "nothing is done twice"
    assert report.ok
    made = {path.name for path in (finished / "work").iterdir()}
    assert {
        "tiny.onnx", "tiny.int8.onnx", "tiny.fp16.engine", "tiny.fp16.engine.json", "tiny.int8.engine",
        "tiny.int8.engine.json", "tiny.ranges.json", "tiny.bench.svg", "steps",
    } <= made  # fmt: skip
    assert report.bench is not None
    assert report.bench.row("PyTorch FP32").status == "ran"
    assert report.bench.row("ONNX Runtime CPU").status == "ran"
    assert not [row.title for row in report.bench.rows if row.status == "failed"]
    assert [(budget.name, budget.status) for budget in report.budgets] == [("INT8 cosine", "held")]
    engine = json.loads((finished / "work" / "tiny.fp16.engine.json").read_text())
    assert engine["labels"] == ["a", "b", "c", "d"]


@no_gpu
def test_what_needs_a_gpu_is_skipped_and_says_so(finished: Path) -> None:
    report = run_pipeline(read_spec(finished / "tiny.yaml"), finished / "work")
    assert report.verify is not None
    assert {one.file: one.status for one in report.verify.subjects} == {
        "tiny.int8.onnx": "passed", "tiny.fp16.engine": "skipped", "tiny.int8.engine": "skipped",
    }  # fmt: skip
    assert "verify tiny.fp16.engine: no GPU" in report.skipped


class TestWhatChanged:
    def test_the_benchmark_alone(self, project: Path) -> None:
        assert done(project, bench={**wanted()["bench"], "rounds": 2}) == ["bench"]

    def test_the_calibration(self, project: Path) -> None:
        calibrate = {**wanted()["calibrate"], "samples": 30}
        assert done(project, calibrate=calibrate) == ["calibrate", "build int8", "verify", "bench"]

    def test_the_samples_code_is_in_the_models_file_and_that_changes_all_it_decides(
        self, project: Path
    ) -> None:
        with (project / "tiny.py").open("a") as file:
            file.write("# the same network\n")
        # The export gives the same bytes, so the engines stay; what reads the file itself is done again.
        assert done(project) == ["export", "calibrate", "bench"]

    def test_an_engine(self, project: Path) -> None:
        engines = [{"precision": "fp16", "sm": [80, 86]}, wanted()["engines"][1]]
        assert done(project, engines=engines) == ["build fp16", "verify", "bench"]

    def test_the_labels(self, project: Path) -> None:
        (project / "labels.txt").write_text("a\nb\nc\ne\n")
        # TensorRT does not promise the same bytes twice, so what reads the engines may be done again as well.
        assert done(project)[:2] == ["build fp16", "build int8"]

    def test_the_budgets_are_held_without_doing_anything(self, project: Path) -> None:
        assert done(project, budgets={"cosine": 0.999999}) == []

    def test_a_file_that_is_gone_or_damaged_is_made_again(self, project: Path) -> None:
        (project / "work" / "tiny.onnx").unlink()
        assert done(project) == ["export"]
        (project / "work" / "tiny.int8.engine").write_bytes(b"damaged")
        assert "build int8" in done(project)

    @pytest.mark.parametrize("report", ["{}", '{"engine_sha256": 1}', "null"])
    def test_a_report_that_cannot_be_read_is_made_again(self, report: str, project: Path) -> None:
        state = project / "work" / "steps" / "build fp16.json"
        told = json.loads(state.read_text())
        told["report"] = json.loads(report)
        state.write_text(json.dumps(told))
        assert "build fp16" in done(project)

    def test_again_does_everything(self, project: Path) -> None:
        report = run_pipeline(read_spec(project / "tiny.yaml"), project / "work", again=True)
        assert actions(report) == dict.fromkeys(ALL, "done")


def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path, wanted(bench=None))
    command = [sys.executable, "-m", "trtkit", "pipeline", str(path), "--work", str(tmp_path / "work")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    steps = tmp_path / "work" / "steps"
    deadline = time.monotonic() + 120
    while not (steps / "export.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = run_pipeline(read_spec(path), tmp_path / "work")
    assert actions(told)["export"] == "unchanged"
    assert list(actions(told)) == ALL[:-1]
    assert "done" in actions(told).values()
    assert told.ok


def test_two_at_once_are_refused(project: Path) -> None:
    with FileLock(project / "work" / ".lock"), pytest.raises(RequestError, match="another pipeline runs in"):
        run_pipeline(read_spec(project / "tiny.yaml"), project / "work")


def test_a_work_folder_that_is_a_file_is_refused(project: Path) -> None:
    with pytest.raises(RequestError, match="is no folder"):
        run_pipeline(read_spec(project / "tiny.yaml"), project / "tiny.py")


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", *map(str, arguments)])
    return int(ended.value.code or 0)


class TestTheCommand:
    def test_broken_budgets_are_exit_1_after_the_table(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write(project, wanted(budgets={"sqnr_db": 190}))
        assert command(path, "--work", project / "work") == 1
        shown = capsys.readouterr()
        assert "PyTorch FP32" in shown.out
        assert "broken" in shown.out
        assert "budget    INT8 SQNR dB" in shown.err

    def test_json_is_one_document(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command(project / "tiny.yaml", "--work", project / "work", "--json") == 0
        report = PipelineReport.model_validate_json(capsys.readouterr().out)
        assert actions(report) == dict.fromkeys(ALL, "unchanged")

    @no_gpu
    def test_what_is_skipped_is_exit_0_and_3_where_a_gpu_is_required(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = (project / "tiny.yaml", "--work", project / "work")
        assert command(*arguments) == 0
        assert "tiny.fp16.engine: skipped: no GPU" in capsys.readouterr().out
        assert command(*arguments, "--require-gpu") == 3
        assert "verify tiny.fp16.engine: no GPU" in capsys.readouterr().err

    def test_a_missing_file_is_told_before_any_step(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (project / "labels.txt").unlink()
        assert command(project / "tiny.yaml", "--work", project / "new") == 2
        assert "labels: there is no file labels.txt" in capsys.readouterr().err
        assert not (project / "new").exists()
