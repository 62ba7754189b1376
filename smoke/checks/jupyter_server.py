"""JupyterLab starts with a token, and nobody uses files or terminals without it; with none it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

NEEDS = ("packages.jupyterlab",)
TIMEOUT = 120

START = "/opt/trtforge/jupyter/start.py"
SERVER = "http://127.0.0.1:8888"
TOKEN = "of-the-smoke-test-alone"


def check(expected: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        _refuses({"JUPYTER_TOKEN": ""}, home)
        _refuses({}, home, "--IdentityProvider.token=")
        log = Path(home, "log")
        with log.open("w") as out:
            server = _start({"JUPYTER_TOKEN": TOKEN}, home, stdout=out, stderr=out)
        try:
            _wait(server, log)
            for path in ("/api/contents", "/api/terminals", "/api/kernels"):
                denied, allowed = _status(path), _status(path, TOKEN)
                assert denied == 403, f"{path} without a token: {denied}, not 403"
                assert allowed == 200, f"{path} with the token: {allowed}, not 200"
        finally:
            server.terminate()
            server.wait(30)
        notebooks = sorted(file.name for file in Path(home, "notebooks").glob("*.ipynb"))
        assert notebooks, "no notebooks are in the server's folder"
        assert TOKEN not in log.read_text(encoding="utf-8"), (
            "the server's log shows the token that it was given"
        )
    return {"jupyterlab": expected["packages"]["jupyterlab"], "notebooks": ", ".join(notebooks)}


def _start(environment: dict[str, str], home: str, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER_TOKEN")}
    command = [sys.executable, START, "--ServerApp.ip=127.0.0.1", *arguments]
    return subprocess.Popen(command, env=dict(inherited, HOME=home, **environment), text=True, **streams)


def _refuses(environment: dict[str, str], home: str, *arguments: str) -> None:
    server = _start(environment, home, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = server.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        server.kill()
        raise AssertionError(f"it starts without a token: {environment or arguments}") from None
    assert server.returncode == 2, f"without a token it ended with {server.returncode}: {said}"
    assert "rule" in said, f"without a token it does not say why it ends: {said}"


def _wait(server: subprocess.Popen[str], log: Path) -> None:
    """Until it answers."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        if _status("/api") == 200:
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer: " + log.read_text(encoding="utf-8")[-1000:])


def _status(path: str, token: str = "") -> int:
    request = urllib.request.Request(SERVER + path)
    if token:
        request.add_header("Authorization", "token " + token)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
