from __future__ import annotations

import platform
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.conftest import PROJECT
from tests.project_copy import copy_project
from trtforge import doctor
from trtforge.doctor import FULL_BUILD, Finding, examine
from trtforge.errors import EnvironmentLack
from trtforge.lock import Lock, LockedCell, lock_text
from trtforge.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.engine.engine import Engine


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project on a machine that has all."""
    shutil.copy(PROJECT / "matrix.yaml", tmp_path)
    copy_project(tmp_path, "images")
    monkeypatch.setenv("TRTFORGE_CACHE", str(tmp_path / "not" / "made" / "yet"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=FULL_BUILD))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "index_answers", lambda *_question: None)
    return Project(tmp_path)


def engine(*, gpu: bool = True) -> Engine:
    version = {"Version": "28.0", "ApiVersion": "1.48"}
    api = SimpleNamespace(version=lambda: version)
    return cast("Engine", SimpleNamespace(api=api, address="unix:///x", has_gpu=lambda: gpu))


def findings(project: Project, connect: Any = engine) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(project, connect)}


def test_a_machine_that_has_all_is_well(project: Project) -> None:
    found = findings(project)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert not any(finding.remedy for finding in found.values())
    assert {
        "machine",
        "matrix",
        "lock",
        "engine",
        "gpu",
        "disk",
        "mmdebstrap",
        "index nvidia",
    } <= found.keys()


def test_another_machine_is_a_problem(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert findings(project)["machine"].status == "problem"
    assert "linux/amd64" in findings(project)["machine"].remedy


def test_a_lock_that_is_edited_or_stale_is_a_problem(project: Project) -> None:
    project.lock_file.write_text(lock_text(Lock(inputs="sha256:other")), encoding="utf-8")
    lock = findings(project)["lock"]
    assert (lock.status, lock.remedy) == ("problem", "python build.py lock")
    project.lock_file.write_text("inputs = 'typed'\n", encoding="utf-8")
    lock = findings(project)["lock"]
    assert lock.status == "problem"
    assert "python build.py lock" in lock.remedy


def test_unlocked_cells_are_counted_with_a_reason(project: Project) -> None:
    cell = LockedCell(axes={"os": "debian12"}, state="unlocked", reason="the index is silent")
    project.lock_file.write_text(lock_text(Lock(inputs=project.inputs, cells={"a": cell})), encoding="utf-8")
    lock = findings(project)["lock"]
    assert (lock.status, lock.found) == ("warning", "0 cells locked, 1 unlocked")
    assert "the index is silent" in lock.remedy


def test_a_missing_engine_is_a_problem_with_its_remedy(project: Project) -> None:
    def connect() -> Engine:
        raise EnvironmentLack("no Docker Engine answers", ("next", "make engine"))

    found = findings(project, connect)
    assert found["engine"] == Finding("engine", "problem", "no Docker Engine answers", "make engine")
    assert "gpu" not in found


def test_no_gpu_is_a_warning(project: Project) -> None:
    gpu = findings(project, lambda: engine(gpu=False))["gpu"]
    assert gpu.status == "warning"
    assert "NVIDIA Container Toolkit" in gpu.remedy


def test_a_small_disk_is_a_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1e9))
    disk = findings(project)["disk"]
    assert disk.status == "warning"
    assert "1 GB free" in disk.found
    assert "TRTFORGE_CACHE" in disk.remedy


def test_a_missing_tool_is_a_problem(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    tool = findings(project)["mmdebstrap"]
    assert tool.status == "problem"
    assert "apt-get install" in tool.remedy


def test_a_silent_index_is_a_warning_that_names_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "index_answers", lambda url, *_more: "down" if "nvidia" in url else None)
    found = findings(project)
    assert (found["index nvidia"].status, found["index nvidia"].found) == ("warning", "down")
    assert "--wheelhouse" in found["index nvidia"].remedy
    assert found["index pytorch-cu126"].status == "ok"


def test_a_malformed_matrix_is_told_and_the_rest_is_still_examined(project: Project) -> None:
    (project.root / "matrix.yaml").write_text("axes: [\n", encoding="utf-8")
    found = findings(project)
    assert found["matrix"].status == "problem"
    assert "matrix.yaml" in found["matrix"].remedy
    assert {"engine", "disk", "mmdebstrap"} <= found.keys()


def test_a_project_folder_that_is_not_there_is_told(project: Project) -> None:
    shutil.rmtree(project.root / "toolkit")
    project.lock_file.write_text(lock_text(Lock(inputs="sha256:x")), encoding="utf-8")
    found = findings(project)
    assert found["lock"].status == "problem"
    assert "toolkit" in found["lock"].found
    assert "matrix.yaml" in found["lock"].remedy
    assert found["index nvidia"].status == "ok"
