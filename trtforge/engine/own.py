"""A dockerd of our own: where it keeps its things, how it is started, known to be ours, and ended."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtforge.engine.address import answers
from trtforge.errors import EnvironmentLack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_S = 60
"""Seconds an Engine gets to answer after its start, and to end after SIGTERM."""

SOCKET_PATH_LIMIT = 104
"""Bytes of a Unix socket's path that containerd accepts; unix(7) itself allows three more."""

LONGEST_SOCKET = "exec/containerd/containerd-debug.sock"
"""The longest of the sockets that dockerd and containerd make below the run folder."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class OwnEngine:
    """Where an Engine of our own keeps its things.

    home: data, log and pid file. run: socket and exec-root, where paths are short enough.
    """

    home: Path
    run: Path

    @classmethod
    def at(cls, home: Path) -> OwnEngine:
        """The Engine whose folder is `home`, an absolute path without links."""
        if len(os.fsencode(home / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT:
            return cls(home, home)
        return cls(home, Path("/run") / f"trtforge-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}")

    @classmethod
    def under(cls, cache: Path) -> OwnEngine:
        """The Engine that belongs to the folder `cache`."""
        return cls.at(cache.resolve() / "engine")

    @property
    def address(self) -> str:
        return f"unix://{self.run / 'docker.sock'}"

    @property
    def pid_file(self) -> Path:
        return self.home / "dockerd.pid"

    @property
    def log(self) -> Path:
        return self.home / "dockerd.log"

    def command(self, dockerd: str, *more: str) -> list[str]:
        """What starts it, with `more` options.

        dockerd itself prefers overlay2 where the file system can carry it.
        """
        return [
            dockerd,
            f"--data-root={self.home / 'data'}",
            f"--exec-root={self.run / 'exec'}",
            f"--pidfile={self.pid_file}",
            f"--host={self.address}",
            *more,
        ]

    def pid(self) -> int | None:
        """The running dockerd's process ID; None if the pid file is absent, stale or another program's."""
        try:
            pid = int(self.pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if self.is_ours(pid) else None

    def is_ours(self, pid: int) -> bool:
        """Is the process `pid` this Engine's dockerd, and alive (a zombie has no arguments)?"""
        return os.fsencode(f"--pidfile={self.pid_file}") in _arguments(pid)

    def start(self, dockerd: str, *more: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it with `more` options and variables; it answers when this returns, and outlives us.

        Raises:
            EnvironmentLack: it ends, or does not answer.
        """
        if self.pid() is None:
            # After a crash dockerd takes the process that these name, even a zombie or a stranger, for alive.
            for stale in self.pid_file, self.run / "exec" / "containerd" / "containerd.pid":
                stale.unlink(missing_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
        with self.log.open("ab") as log:
            # A session of its own: the Engine lives on when this command, or the terminal, is gone.
            process = subprocess.Popen(
                self.command(dockerd, *more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "PATH": path, **(environment or {})},
                start_new_session=True,
            )
        try:
            _wait_until(lambda: process.poll() is not None or answers(self.address))
            if process.poll() is None and answers(self.address):
                return
        except BaseException:  # Ctrl-C: nobody would know of it
            process.terminate()
            raise
        how = "does not answer" if process.poll() is None else f"ended at once (exit {process.returncode})"
        process.terminate()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = [line for line in lines if "level=info" not in line][-5:]
        needs = "it needs root with the right to mount (in a container: --privileged); or set DOCKER_HOST"
        raise EnvironmentLack(
            f"the Docker Engine was started and {how}",
            *(("dockerd", line) for line in last),
            ("log", str(self.log)),
            ("next", needs),
        )

    def stop(self) -> bool:
        """End it, if it runs; False if it does not. No other process is touched.

        Raises:
            EnvironmentLack: it does not end.
        """
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        if not _wait_until(lambda: not self.is_ours(pid)):
            raise EnvironmentLack(f"the Engine (process {pid}) does not end", ("log", str(self.log)))
        self.unmount()
        if self.run != self.home:
            shutil.rmtree(self.run, ignore_errors=True)
        return True

    def kill(self) -> None:
        """End at once what is left of it: dockerd, and the containerd and shims that work in its folder."""
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            if self.is_ours(pid) or self._is_containerd(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _wait_until(lambda pid=pid: not _arguments(pid))  # type: ignore[misc]

    def unmount(self) -> None:
        """Unmount what an Engine that was killed left mounted in its folders; it must have ended."""
        mounted = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        for point in [*mounts_below(self.home, mounted), *mounts_below(self.run, mounted)]:
            subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)

    def _is_containerd(self, pid: int) -> bool:
        arguments = _arguments(pid)
        folder = os.fsencode(self.run / "exec") + b"/"
        named = Path(os.fsdecode(arguments[0])).name.startswith("containerd") if arguments else False
        return named and any(argument.startswith(folder) for argument in arguments)


def mounts_below(folder: Path, mountinfo: str) -> list[Path]:
    """The mount points in `folder`, innermost first; `mountinfo` as in proc_pid_mountinfo(5)."""
    points = [Path(_unescaped(line.split(" ")[4])) for line in mountinfo.splitlines()]
    return sorted((point for point in points if point.is_relative_to(folder)), reverse=True)


def find_dockerd() -> str | None:
    """The program, if it is installed."""
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _arguments(pid: int) -> list[bytes]:
    """Of a process's command line; none if it has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for `condition`, at most START_S seconds; did it come?"""
    end = time.monotonic() + START_S
    while not (come := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return come
