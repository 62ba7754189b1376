"""A Docker Engine on a machine that may have none: find a running one, or start our own beside the cache.

Our own Engine keeps everything below `<cache>/engine` (data, log, pid file, socket); the machine's own
Docker, if there is one, is neither configured nor stopped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from trtforge.engine.address import DEFAULT_SOCKET, answers, default_address
from trtforge.errors import EnvironmentLack

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 60
"""Seconds an Engine gets to answer after its start, and to end after SIGTERM."""

SOCKET_PATH_LIMIT = 104
"""Bytes of a Unix socket's path that containerd accepts; unix(7) itself allows three more."""

LONGEST_SOCKET = "exec/containerd/containerd-debug.sock"
"""The longest of the sockets that dockerd and containerd make below the run folder."""

PACKAGES = ("docker.io", "iptables")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class OwnEngine:
    """Where an Engine of our own keeps its things.

    home: data, log and pid file, below the cache. run: socket and exec-root, where paths are short enough.
    """

    home: Path
    run: Path

    @classmethod
    def under(cls, cache: Path) -> OwnEngine:
        """The Engine that belongs to the folder `cache`."""
        home = cache.resolve() / "engine"
        if len(os.fsencode(home / LONGEST_SOCKET)) <= SOCKET_PATH_LIMIT:
            return cls(home, home)
        return cls(home, Path("/run") / f"trtforge-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}")

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
        """What starts it, listening at `more` addresses too.

        dockerd itself prefers overlay2 where the file system can carry it.
        """
        return [
            dockerd,
            f"--data-root={self.home / 'data'}",
            f"--exec-root={self.run / 'exec'}",
            f"--pidfile={self.pid_file}",
            *(f"--host={address}" for address in (self.address, *more)),
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
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(f"--pidfile={self.pid_file}") in arguments


def find_engine(cache: Path) -> str | None:
    """The address of an Engine that answers: where `docker` looks, else our own below `cache`."""
    candidates = [default_address()]
    if "DOCKER_HOST" not in os.environ:  # who sets it means that Engine and no other
        candidates.append(OwnEngine.under(cache).address)
    return next((address for address in candidates if answers(address)), None)


def ensure_engine(cache: Path, *, own: bool = False) -> str:
    """The address (DOCKER_HOST) of an Engine that answers.

    If none does, one is started, and installed if need be (as root; installing: Debian and Ubuntu). It
    outlives this process; `stop_engine` ends it.

    Args:
        cache: the project's cache; the Engine's images go to `<cache>/engine/data`.
        own: only an Engine that keeps its images there will do, and it listens nowhere but there. Otherwise
            one that is started also takes docker's default address, so that a plain `docker run` finds it.

    Raises:
        EnvironmentLack: there is none and none can be started here; says what to do.
    """
    mine = OwnEngine.under(cache)
    if found := _answering(mine) if own else find_engine(cache):
        return found
    if (address := os.environ.get("DOCKER_HOST")) and not own:
        raise EnvironmentLack(
            f"no Docker Engine answers at DOCKER_HOST={address}",
            ("next", "start it, or unset DOCKER_HOST and run make engine again"),
        )
    if os.geteuid() != 0:
        raise EnvironmentLack(
            "no Docker Engine runs, and only root can start one",
            ("next", "start Docker (sudo systemctl start docker), or run make engine as root"),
        )
    mine.home.mkdir(parents=True, exist_ok=True)
    with FileLock(mine.home / "lock"):
        dockerd = _dockerd() or _install_dockerd()
        if own:
            return _answering(mine) or _start(mine, dockerd)
        # Installing starts a service where systemd runs; another process may have started ours meanwhile.
        return find_engine(cache) or _start(mine, dockerd, DEFAULT_SOCKET)


def _answering(engine: OwnEngine) -> str | None:
    return engine.address if answers(engine.address) else None


def stop_engine(cache: Path) -> bool:
    """End our own Engine below `cache`, if it runs; False if it does not. No other Engine is touched.

    Raises:
        EnvironmentLack: it does not end.
    """
    own = OwnEngine.under(cache)
    pid = own.pid()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    if not _wait_until(lambda: not own.is_ours(pid)):
        raise EnvironmentLack(f"the Engine (process {pid}) does not end", ("log", str(own.log)))
    if own.run != own.home:
        shutil.rmtree(own.run, ignore_errors=True)
    return True


def _start(own: OwnEngine, dockerd: str, *more: str) -> str:
    if own.pid() is None:
        # After a crash dockerd takes the process that these name, even a zombie or a stranger, for alive.
        for stale in own.pid_file, own.run / "exec" / "containerd" / "containerd.pid":
            stale.unlink(missing_ok=True)
    own.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    with own.log.open("ab") as log:
        # A session of its own: the Engine lives on when this command, or the terminal, is gone.
        process = subprocess.Popen(
            own.command(dockerd, *more),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"},
            start_new_session=True,
        )
    _wait_until(lambda: process.poll() is not None or answers(own.address))
    if process.poll() is None and answers(own.address):
        return own.address
    how = "does not answer" if process.poll() is None else f"ended at once (exit {process.returncode})"
    process.terminate()
    lines = own.log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = [line for line in lines if "level=info" not in line][-5:]
    raise EnvironmentLack(
        f"the Docker Engine was started and {how}",
        *(("dockerd", line) for line in last),
        ("log", str(own.log)),
        ("next", "it needs root with the right to mount (in a container: --privileged); or set DOCKER_HOST"),
    )


def _dockerd() -> str | None:
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def _install_dockerd() -> str:
    if not shutil.which("apt-get"):
        raise EnvironmentLack(
            "Docker is not installed", ("next", "install it: https://docs.docker.com/engine/install/")
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EnvironmentLack(
                f"apt-get {arguments[0]} failed (exit {done.returncode})",
                *(("apt-get", line) for line in done.stdout.splitlines()[-5:]),
                ("next", f"install {' and '.join(PACKAGES)} by hand, then make engine"),
            )
    if dockerd := _dockerd():
        return dockerd
    raise EnvironmentLack("docker.io was installed but there is no dockerd", ("next", "set DOCKER_HOST"))


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for `condition`, at most START_S seconds; did it come?"""
    end = time.monotonic() + START_S
    while not (come := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return come
