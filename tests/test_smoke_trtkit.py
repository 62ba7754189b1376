"""The smoke tests of trtkit: they pass with the real one, and fail with one that does not do its work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from smoke.checks import trtkit_build, trtkit_serve
from tests.conftest import PROJECT
from trtforge.index.local_project import LocalProject

if TYPE_CHECKING:
    from pathlib import Path

VERSION = LocalProject(PROJECT / "toolkit").pin.version
EXPECTED = {
    "projects": {"trtkit": VERSION},
    "tensorrt": {"flavour": "rtx", "module": "tensorrt_rtx"},
    "sm": ["80", "86"],
}

PRETENDER = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.dumps({"outputs": [{"data": %(data)s}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

if sys.argv[1] == "--version":
    print("trtkit %(version)s")
elif sys.argv[1] == "serve":
    server = HTTPServer(("127.0.0.1", 0), Answer)
    print(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever()
elif sys.argv[1] == "build":
    engine = Path(sys.argv[sys.argv.index("--out") + 1])
    engine.write_bytes(b"x")
    Path(f"{engine}.json").write_text(json.dumps({"sms": ["75"]}))
    sys.exit(%(exit)s)
"""


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "toolkit"))


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, **what: object) -> None:
    """Put a trtkit in the place of ours that only looks like it."""
    facts = {"version": VERSION, "data": json.dumps([0, 2, 0, 4, 0, 6]), "exit": 0, **what}
    (folder / "trtkit").mkdir()
    (folder / "trtkit" / "__init__.py").touch()
    (folder / "trtkit" / "__main__.py").write_text(PRETENDER % facts)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("real")
def test_the_service_answers_and_ends_in_order() -> None:
    assert trtkit_serve.check(EXPECTED) == {"trtkit": VERSION}


@pytest.mark.usefixtures("real")
def test_an_engine_is_built_for_every_gpu_of_the_cell() -> None:
    assert trtkit_build.check(EXPECTED)["SM"] == "80, 86"


def test_another_version_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, version="0.0.9")
    with pytest.raises(AssertionError, match=r"says it is .*0\.0\.9"):
        trtkit_serve.check(EXPECTED)


def test_a_service_that_computes_something_else_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, data=[0, 2, 0, 4, 0, 5])
    with pytest.raises(AssertionError, match="came out as"):
        trtkit_serve.check(EXPECTED)


def test_a_service_that_does_not_end_in_order_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch)  # knows no SIGTERM
    with pytest.raises(AssertionError, match="the service ended with -15"):
        trtkit_serve.check(EXPECTED)


@pytest.mark.parametrize(
    ("code", "why"), [(0, r"built for SM \['75'\], not"), (1, "trtkit build ended with 1")]
)
def test_an_engine_for_another_gpu_or_none_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    pretend(tmp_path, monkeypatch, exit=code)
    with pytest.raises(AssertionError, match=why):
        trtkit_build.check(EXPECTED)
