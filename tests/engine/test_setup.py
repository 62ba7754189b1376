"""Our own Engine: where it lives, and that only it is ever stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_engine import FakeEngine, running
from trtforge.engine import own as own_engine
from trtforge.engine import setup as engine_setup
from trtforge.engine.own import LONGEST_SOCKET, SOCKET_PATH_LIMIT, OwnEngine
from trtforge.engine.setup import ensure_engine, find_engine, stop_engine
from trtforge.errors import EnvironmentLack


@pytest.fixture(autouse=True)
def no_engine_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine_setup, "default_address", lambda: f"unix://{tmp_path}/absent.sock")


def fake_dockerd(folder: Path, script: str) -> str:
    """A program that stands in for dockerd; `sys.argv` holds its options."""
    program = folder / "dockerd"
    program.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def everything_below_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders have long names; a test must write nowhere else."""
    monkeypatch.setattr(own_engine, "LONGEST_SOCKET", "")
    monkeypatch.setattr(own_engine, "SOCKET_PATH_LIMIT", 4096)


@pytest.mark.parametrize("length", [10, 58, 59, 150])
def test_sockets_fit_into_what_unix_allows(length: int) -> None:
    cache = Path("/" + "c" * length)
    own = OwnEngine.under(cache)
    assert len(os.fsencode(own.run / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT
    assert own.home == cache / "engine"
    assert (own.run == own.home) == (length <= 58)
    assert own == OwnEngine.under(cache)


def test_two_caches_have_two_engines() -> None:
    long = "/" + "c" * 100
    assert OwnEngine.under(Path(long + "1")).run != OwnEngine.under(Path(long + "2")).run


def test_docker_host_is_taken_when_it_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running(FakeEngine()) as fake:
        monkeypatch.setenv("DOCKER_HOST", fake.address)
        monkeypatch.setattr(engine_setup, "default_address", lambda: fake.address)
        assert ensure_engine(tmp_path) == find_engine(tmp_path) == fake.address


def test_a_docker_host_that_does_not_answer_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr(engine_setup, "default_address", lambda: "tcp://127.0.0.1:1")
    with pytest.raises(EnvironmentLack, match="no Docker Engine answers at DOCKER_HOST"):
        ensure_engine(tmp_path)


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentLack, match="only root"):
        ensure_engine(tmp_path)
    assert not (tmp_path / "engine").exists()


@pytest.mark.usefixtures("everything_below_the_cache")
def test_a_dockerd_that_dies_shows_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dockerd = fake_dockerd(tmp_path, "print('mount: permission denied'); sys.exit(7)")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine_setup, "find_dockerd", lambda: dockerd)
    with pytest.raises(EnvironmentLack) as error:
        ensure_engine(tmp_path)
    assert "exit 7" in error.value.problem
    assert error.value.fact("dockerd") == "mount: permission denied"


@pytest.mark.usefixtures("everything_below_the_cache")
def test_a_dockerd_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dockerd = fake_dockerd(
        tmp_path,
        "import os, time; open(sys.argv[0] + '.pid', 'w').write(str(os.getpid())); time.sleep(9)",
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine_setup, "find_dockerd", lambda: dockerd)
    monkeypatch.setattr(own_engine, "START_S", 2)
    with pytest.raises(EnvironmentLack, match="does not answer"):
        ensure_engine(tmp_path)
    pid = int(Path(dockerd + ".pid").read_text())
    os.waitpid(pid, 0)  # it is our child; this returns only if it ends


def test_without_docker_and_apt_the_remedy_is_a_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine_setup, "find_dockerd", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLack) as error:
        ensure_engine(tmp_path)
    assert "docs.docker.com" in (error.value.fact("next") or "")


def test_a_failing_installation_shows_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = fake_dockerd(tmp_path, "print('E: no network'); sys.exit(100)").replace("dockerd", "apt-get")
    (tmp_path / "dockerd").rename(apt)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine_setup, "find_dockerd", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLack, match=r"apt-get update failed \(exit 100\)") as error:
        ensure_engine(tmp_path / "cache")
    assert error.value.fact("apt-get") == "E: no network"


def test_stopping_leaves_other_processes_alone(tmp_path: Path) -> None:
    own = OwnEngine.under(tmp_path)
    assert not stop_engine(tmp_path)
    own.home.mkdir()
    for content in ("", "not a number", "999999999", str(os.getpid())):
        own.pid_file.write_text(content)
        assert own.pid() is None
        assert not stop_engine(tmp_path)


def test_stopping_ends_the_process_that_is_ours(tmp_path: Path) -> None:
    own = OwnEngine.under(tmp_path)
    own.home.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", *own.command("")[1:]],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    own.pid_file.write_text(str(process.pid))
    assert own.pid() == process.pid
    assert stop_engine(tmp_path)
    assert process.wait(5) == -15
    process.stdout.close()
