"""A key logs in over ssh and has the image's environment; no password does; each start has a new host key."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS = ("system_packages.openssh-server", "user")
TIMEOUT = 120

START = [sys.executable, "/opt/trtforge/ssh/start.py"]
PORT = "2222"


def check(expected: dict[str, Any]) -> dict[str, Any]:
    found = [str(key) for key in Path("/etc/ssh").glob("ssh_host_*")]
    assert not found, f"the image holds host keys: {found}"
    keyless = subprocess.run(START, env=_environment(AUTHORIZED_KEYS=""), capture_output=True, text=True)
    assert keyless.returncode == 2, f"without a key sshd ended with {keyless.returncode}: {keyless.stderr}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id")], check=True)
        with _sshd(folder, folder / "first"):
            log_in = ["-i", str(folder / "id"), "-o", "PreferredAuthentications=publickey"]
            script = "import os, sys; print(sys.prefix, os.environ['VIRTUAL_ENV'], os.environ['SMOKE_SSH'])"
            said = _ssh(folder, *log_in, command=f'python -c "{script}"')
            assert said.returncode == 0, f"the key does not log in: {said.stderr}"
            wanted = [sys.prefix, os.environ["VIRTUAL_ENV"], "a", "b"]
            assert said.stdout.split() == wanted, f"the session has {said.stdout.split()}, not {wanted}"
            shell = _ssh(folder, *log_in, command="bash -lc 'command -v python'")  # a login shell
            assert shell.stdout.strip() == f"{sys.prefix}/bin/python", f"a login shell finds {shell.stdout!r}"
            by_password = ["-o", "PreferredAuthentications=password,keyboard-interactive"]
            said = _ssh(folder, "-o", "PubkeyAuthentication=no", *by_password, command="true")
            assert said.returncode == 255, "somebody without a key was let in"
            assert "(publickey)" in said.stderr, f"it offers more than keys: {said.stderr}"
        first = _host(folder / "first")
        with _sshd(folder, folder / "first"):
            assert _host(folder / "first") == first, "the host key does not stay in its folder"
        with _sshd(folder, folder / "second"):
            assert _host(folder / "second") != first, "two containers have the same host key"
    return {"openssh-server": expected["system_packages"]["openssh-server"]}


def _environment(**more: str) -> dict[str, str]:
    return dict(os.environ, SMOKE_SSH="a b", **more)


@contextmanager
def _sshd(folder: Path, kept: Path) -> Iterator[None]:
    """sshd, with what it keeps in `kept`; it listens when this is entered."""
    more = {"AUTHORIZED_KEYS": (folder / "id.pub").read_text(encoding="utf-8"), "SSHD_FOLDER": str(kept)}
    command = [*START, "-o", "ListenAddress=127.0.0.1"]
    with (folder / "log").open("w") as log:
        sshd = subprocess.Popen(command, env=_environment(**more), stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while "listening" not in (folder / "log").read_text(encoding="utf-8"):
            assert sshd.poll() is None, "sshd ended: " + (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end, "sshd does not listen"
            time.sleep(0.05)
        host = " ".join(_host(kept).split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{PORT} {host}\n", encoding="utf-8")
        yield
    finally:
        sshd.terminate()
        sshd.wait(30)


def _host(kept: Path) -> str:
    return (kept / "ssh_host_ed25519_key.pub").read_text(encoding="utf-8")


def _ssh(folder: Path, *options: str, command: str) -> subprocess.CompletedProcess[str]:
    strict = ["-F", "none", "-o", f"UserKnownHostsFile={folder / 'known'}", "-o", "BatchMode=yes"]
    strict += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]
    where = ["-p", PORT, "127.0.0.1", command]
    return subprocess.run(["ssh", *strict, *options, *where], capture_output=True, text=True, timeout=60)
