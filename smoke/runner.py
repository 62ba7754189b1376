"""Finds the checks, runs each in a process of its own and says what came out.

stdout carries JSON lines that start with `{"smoke":`
    {"smoke": "plan", "checks": [name, ...]}                    first: what is going to run
    {"smoke": "result", "name", "status", "reason", "seconds", "detail"}    one for each, as it ends
A reader that misses a planned check's result knows that the runner was killed while it ran.

Syntax stays within Python 3.8, the oldest an image may carry.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from smoke.outcome import Skip

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 300
"""Seconds for a check that names no TIMEOUT."""

TAIL = 15
"""Lines of a broken check's output that its result carries."""

RESULT_FD = "SMOKE_RESULT_FD"


def main(arguments: list[str], folder: Path) -> int:
    """Run all checks that apply, or with `--check NAME` that one, here. Exit code 0: none failed."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    if arguments[:1] == ["--check"]:
        run_here(arguments[1], expected)
        return 0
    names = applicable(folder / "checks", expected)
    say({"smoke": "plan", "checks": names})
    failed = False
    for name in names:
        result = run_apart(name, folder)
        failed = failed or result["status"] == "failed"
        say(dict({"smoke": "result"}, **result))
    return 1 if failed else 0


def say(value: dict[str, Any]) -> None:
    """One JSON line, at once."""
    print(json.dumps(value), flush=True)


def applicable(checks: Path, expected: dict[str, Any]) -> list[str]:
    """Names of the checks in the folder `checks` whose NEEDS are all in `expected`, sorted.

    One that cannot even be imported is listed: running it shows why.
    """

    def has(need: str) -> bool:
        key, _, member = need.partition(".")
        return key in expected and (not member or member in expected[key])

    names = sorted(path.stem for path in checks.glob("*.py") if not path.stem.startswith("_"))
    return [name for name in names if all(map(has, _attribute(name, "NEEDS", ())))]


def run_here(name: str, expected: dict[str, Any]) -> None:
    """Run the check and write its status, reason and detail to the file descriptor that the parent gave."""
    with os.fdopen(int(os.environ.pop(RESULT_FD)), "w") as report:
        json.dump(_outcome(name, expected), report)
        report.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        # What a library does while Python shuts down is no part of the check.
        os._exit(0)


def _outcome(name: str, expected: dict[str, Any]) -> dict[str, Any]:
    try:
        seen = importlib.import_module("smoke.checks." + name).check(expected)
    except Skip as skip:
        return {"status": "skipped", "reason": str(skip), "detail": {}}
    except AssertionError as error:
        return {"status": "failed", "reason": str(error) or _last_line(), "detail": {}}
    except BaseException:  # whatever it is, the check did not pass
        return {"status": "failed", "reason": _last_line(), "detail": {"traceback": traceback.format_exc()}}
    detail = seen if isinstance(seen, dict) else {"seen": seen} if seen else {}
    return {"status": "passed", "reason": "", "detail": detail}


def run_apart(name: str, folder: Path) -> dict[str, Any]:
    """Run the check in a new process; a crash, a hang and silence are failures of this check alone."""
    timeout = _attribute(name, "TIMEOUT", TIMEOUT)
    start = time.monotonic()
    with _memory_file("result") as result, _memory_file("output") as output:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(folder), "--check", name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(os.environ, **{RESULT_FD: str(result.fileno())}),
            pass_fds=[result.fileno()],
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
        text = _text(result)
        lines = _text(output).splitlines()[-TAIL:]
    seconds = round(time.monotonic() - start, 3)
    try:
        outcome = json.loads(text) if code == 0 else None
    except ValueError:
        outcome = None
    if outcome is None:
        outcome = {"status": "failed", "reason": _how_it_ended(code, timeout), "detail": {}}
    if outcome["status"] == "failed":
        outcome["detail"]["output"] = lines
    return dict(outcome, name=name, seconds=seconds)


def _how_it_ended(code: int | None, timeout: float) -> str:
    if code is None:
        return f"ended after {timeout:g} s without an answer"
    if code < 0:
        return "killed by " + signal.Signals(-code).name
    return f"ended with exit code {code} and no result"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # with everything the check may have started
    process.wait()


def _memory_file(name: str) -> IO[bytes]:
    # Needs no writable folder, unlike a temporary file, and cannot fill up and block, unlike a pipe.
    return os.fdopen(os.memfd_create(name), "w+b")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _attribute(name: str, attribute: str, default: Any) -> Any:
    try:
        return getattr(importlib.import_module("smoke.checks." + name), attribute, default)
    except BaseException:
        return default


def _last_line() -> str:
    return traceback.format_exc().strip().splitlines()[-1]
