"""A service that cannot start says why, by its exit code too; one that ends frees what it holds."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.serve.networks import doubling
from tests.serve.test_batcher import MODEL, Doubling
from trtkit.errors import EnvironmentLack, WorkFailed
from trtkit.serve.folder import Opened
from trtkit.serve.server import Options, serve


@pytest.fixture
def notes() -> list[str]:
    """What was done with `opened`: "saved", "freed"."""
    return []


@pytest.fixture
def opened(notes: list[str]) -> Iterator[Opened]:
    """A runner that doubles."""
    interval, held = sys.getswitchinterval(), ExitStack()
    held.callback(notes.append, "freed")
    yield Opened(MODEL, (Doubling(),), Path("m"), "", held, lambda: notes.append("saved"))
    sys.setswitchinterval(interval)


def stop_soon(_: str) -> None:
    threading.Timer(0.1, signal.raise_signal, [signal.SIGTERM]).start()


def run(model: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", "serve", str(model), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(doubling(tmp_path / "m.onnx"), "--port", str(port))
    assert ended.returncode == 3
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert (ended.stdout, "Traceback" in ended.stderr) == ("", False)


@pytest.mark.parametrize("host", ["192.0.2.1", "no..name"])
def test_an_address_that_is_not_this_machines_is_told(opened: Opened, notes: list[str], host: str) -> None:
    with pytest.raises(EnvironmentLack, match="cannot listen on"):
        serve(opened, Options(host, 0), stop_soon)
    assert notes == ["freed"]


def test_a_start_that_fails_is_no_success(
    opened: Opened, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(EnvironmentLack, match="gives no threads"):
            serve(opened, Options(port=0), told.append)
    assert (told, notes) == ([], ["freed"])


def test_told_to_stop_it_frees_what_it_holds(opened: Opened, notes: list[str]) -> None:
    serve(opened, Options(port=0), stop_soon)
    assert notes == ["freed"]


def ask_all_at_once(address: str, runner: Doubling, requests: int) -> None:
    """Ask that often for a full batch, until all are taken; then tell the service to stop."""
    host, port = address.removeprefix("http://").split(":")
    head = "POST /infer?shape=8x1 HTTP/1.1\r\nHost: t\r\nContent-Type: application/octet-stream\r\n"
    with ExitStack() as clients:
        for number in range(requests):
            client = clients.enter_context(socket.create_connection((host, int(port))))
            client.sendall(f"{head}Content-Length: 32\r\n\r\n".encode() + bytes(32))
            if not number:
                assert runner.began.acquire(timeout=5)
        time.sleep(0.3)  # they are taken
        signal.raise_signal(signal.SIGTERM)
        client.recv(1000)


def serve_until_stopped_while_busy(opened: Opened, requests: int, *, ends: bool) -> None:
    """ends: the run does, once the time to drain is over."""
    (runner,) = opened.runners
    assert isinstance(runner, Doubling)
    runner.gate.clear()

    def stop(address: str) -> None:
        ask_all_at_once(address, runner, requests)
        if ends:
            runner.gate.set()

    def started(address: str) -> None:
        threading.Thread(target=stop, args=(address,)).start()

    with pytest.raises(WorkFailed, match=f"{requests} requests were not finished"):
        serve(opened, Options(port=0, drain=0.1), started)


def test_what_a_run_still_uses_is_not_freed_but_what_was_learned_is_saved(
    opened: Opened, notes: list[str]
) -> None:
    try:
        serve_until_stopped_while_busy(opened, requests=1, ends=False)
        assert notes == ["saved"]
    finally:
        opened.runners[0].gate.set()  # type: ignore[attr-defined]


def test_abandoned_requests_do_not_keep_it_from_being_freed(opened: Opened, notes: list[str]) -> None:
    """The run ends within the grace after the drain; what waited behind it was abandoned."""
    serve_until_stopped_while_busy(opened, requests=3, ends=True)
    assert notes == ["freed"]
