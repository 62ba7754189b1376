"""A Docker Engine on a machine that may have none: find a running one, or start our own beside the cache.

Our own Engine keeps everything below `<cache>/engine` (data, log, pid file, socket); the machine's own
Docker, if there is one, is neither configured nor stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from filelock import FileLock

from trtforge.engine.address import DEFAULT_SOCKET, answers, default_address
from trtforge.engine.own import OwnEngine, find_dockerd
from trtforge.errors import EnvironmentLack

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("docker.io", "iptables")


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
        dockerd = find_dockerd() or _install_dockerd()
        if own:
            return _answering(mine) or _start(mine, dockerd)
        # Installing starts a service where systemd runs; another process may have started ours meanwhile.
        return find_engine(cache) or _start(mine, dockerd, f"--host={DEFAULT_SOCKET}")


def stop_engine(cache: Path) -> bool:
    """End our own Engine below `cache`, if it runs; False if it does not. No other Engine is touched.

    Raises:
        EnvironmentLack: it does not end.
    """
    return OwnEngine.under(cache).stop()


def _answering(engine: OwnEngine) -> str | None:
    return engine.address if answers(engine.address) else None


def _start(own: OwnEngine, dockerd: str, *more: str) -> str:
    own.start(dockerd, *more)
    return own.address


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
    if dockerd := find_dockerd():
        return dockerd
    raise EnvironmentLack("docker.io was installed but there is no dockerd", ("next", "set DOCKER_HOST"))
