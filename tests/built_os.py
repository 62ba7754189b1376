"""A real OS layer, made once for all tests that look at it or build upon it."""

from __future__ import annotations

import gzip
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtforge.progress import Silent
from trtforge.store import Store
from trtforge.system.os_layer import OsLayer, os_layer
from trtforge.system.os_packages import OsPackage, OsSuite, fetch_os, resolve_os

if TYPE_CHECKING:
    from pathlib import Path

BOOKWORM = OsSuite("debian", "bookworm")
WANTED = ("python3", "ca-certificates", "tini")
CHROOT = "/usr/sbin/chroot"


@dataclass(frozen=True)
class Built:
    """An OS layer and what it was made from."""

    locked: tuple[OsPackage, ...]
    store: Store
    layer: OsLayer

    def debs(self) -> list[Path]:
        return fetch_os(self.locked, BOOKWORM, self.store, Silent())

    def run(self, *command: str) -> str:
        """What `command` prints, run as root inside the layer's file system."""
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [CHROOT, str(self.layer.rootfs), *command],
            env=inside,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def members(self) -> dict[str, tarfile.TarInfo]:
        with (
            gzip.open(self.store.blob(self.layer.layer.digest)) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            return {member.name: member for member in tar}


def build(folder: Path) -> Built:
    """Make one, with its store in `folder`."""
    store = Store(folder)
    locked = resolve_os(BOOKWORM, WANTED)
    debs = fetch_os(locked, BOOKWORM, store, Silent())
    return Built(locked, store, os_layer(locked, debs, BOOKWORM, store, Silent()))
