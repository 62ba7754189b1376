"""The command behind the guard is as it would be without: found, started, ended and told of alike."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.guard.guarded import NO_GPU, Done, Guarded

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path, environment={"PATH": f"{tmp_path}:/usr/bin:/bin", "TRTFORGE_GUARD": "off"})


@pytest.mark.parametrize("code", [0, 1, 64, 255])
def test_exit_codes_pass(guarded: Guarded, code: int) -> None:
    assert guarded.run(["sh", "-c", f"exit {code}"]).code == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_reach_the_command(guarded: Guarded, number: signal.Signals) -> None:
    with guarded.start("sh", "-c", "echo up; exec sleep 60") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.wait(10) == -number  # a shell, tini and Docker make 128 + it: 143 of SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_looks_ends_it_without_a_traceback(
    guarded: Guarded, number: signal.Signals
) -> None:
    guarded.machine(first='write(2, "asked\\n", 6); for (;;) sleep(9)')
    with guarded.start("echo", "ran", TRTFORGE_GUARD="warn") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "asked\n"
        process.send_signal(number)
        assert process.communicate(timeout=10) == ("", "")  # nobody is left who holds them open
        assert process.returncode == -number


def state(argv: list[str], environment: dict[str, str]) -> list[str]:
    """Environment, signals and open files of a command that starts like this."""
    show = [
        "sh",
        "-c",
        "env -u _ | sort; grep -E '^(Sig|Shd)' /proc/self/status; umask; ls /proc/self/fd; pwd",
    ]
    done = subprocess.run([*argv, *show], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "more", [{}, {"LANG": "C"}, {"LC_CTYPE": "C.UTF-8"}, {"LC_ALL": "C"}, {"TRTFORGE_GUARD": ""}]
)
def test_the_command_starts_in_the_state_that_the_guard_was_started_in(
    guarded: Guarded, more: dict[str, str]
) -> None:
    environment = guarded.environment | more
    assert state([str(guarded.program)], environment) == state([], environment)


def test_arguments_pass_byte_for_byte(guarded: Guarded) -> None:
    odd = [b"", b"two words", b"\xff\xfe", "é".encode(), b"-x", b"--", b"$HOME"]
    for language in ({}, {"LC_ALL": "C"}):
        done = subprocess.run(
            [os.fsencode(guarded.program), b"printf", b"%s\\0", *odd],
            env=guarded.environment | language,
            capture_output=True,
            check=True,
        )
        assert done.stdout.split(b"\0")[:-1] == odd


def test_stdin_is_the_command_s(guarded: Guarded) -> None:
    done = subprocess.run(
        [guarded.program, "cat"], input=b"text\0", env=guarded.environment, capture_output=True, check=True
    )
    assert done.stdout == b"text\0"


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/file", "./no", "/etc/passwd/x", ""])
def test_what_is_not_there_is_127(guarded: Guarded, name: str) -> None:
    assert guarded.run([name]) == Done(127, "", [f"trtforge: {name or repr(name)}: not found"])


@pytest.mark.parametrize("name", ["/etc/passwd", "/etc", "text"])
def test_what_cannot_be_executed_is_126(guarded: Guarded, name: str) -> None:
    (guarded.folder / "text").write_text("exit 0\n")
    assert guarded.run([name]) == Done(126, "", [f"trtforge: {name}: Permission denied"])


def test_no_command_at_all_is_said(guarded: Guarded) -> None:
    assert guarded.run([]) == Done(127, "", ["trtforge: there is no command to run"])


def test_a_text_without_an_interpreter_is_the_shell_s(guarded: Guarded) -> None:
    script = guarded.folder / "script"
    script.write_text('echo "$1 ran"\n')
    script.chmod(0o755)
    assert guarded.run(["script", "it"]) == Done(0, "it ran\n", [])


def test_the_first_on_the_path_is_taken_past_what_cannot_be_executed(guarded: Guarded) -> None:
    (guarded.folder / "true").write_text("not a program")
    assert guarded.run(["true"]) == Done(0, "", [])


def test_a_stderr_that_is_closed_stops_nothing(guarded: Guarded) -> None:
    line = f"exec 2>&-; TRTFORGE_GUARD= exec {guarded.program} echo ran"
    done = subprocess.run(
        ["sh", "-c", line], env=guarded.environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("ran\n", "")
    assert guarded.run(TRTFORGE_GUARD="").lines == [NO_GPU]
