"""A root file system from locked packages: mmdebstrap installs them from a repository of nothing else.

The repository is a local folder, so nothing comes over the network, and what is not locked cannot get in.

Sources: mmdebstrap(1), sources.list(5), dpkg.cfg(5), py_compile of the Python library.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from trtforge.errors import BuildError, EnvironmentLack
from trtforge.oci import EPOCH
from trtforge.progress import ignore
from trtforge.system.os_sources import image_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.progress import Advance
    from trtforge.system.os_packages import OsPackage, OsSuite

_FULL = 8 << 20
"""Bytes: a disk with less free is full, when mmdebstrap fails."""

_SLIM = """\
# Docker images are read by programs: no documentation (but licences) and no translations.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
# The static C library and Python, which nobody links: 35 MB that come with the headers torch.compile needs.
path-exclude=/usr/lib/x86_64-linux-gnu/libc.a
path-exclude=/usr/lib/x86_64-linux-gnu/libm-*.a
path-exclude=/usr/lib/x86_64-linux-gnu/libmvec.a
path-exclude=/usr/lib/x86_64-linux-gnu/libpython*.a
path-exclude=/usr/lib/python3*/config-*/libpython*.a
"""


@dataclass(frozen=True)
class OsOptions:
    """The user of the images and the Python environment that belongs to that user."""

    user: str = "trt"
    uid: int = 1000
    gid: int = 1000
    prefix: str = "/opt/venv"


def bootstrap(
    packages: Sequence[OsPackage],
    debs: Sequence[Path],
    suite: OsSuite,
    options: OsOptions,
    work: Path,
    advance: Advance = ignore,
) -> Path:
    """Install `packages`, whose files are `debs` in the same order; returns the tar of the result, in `work`.

    What mmdebstrap says goes to mmdebstrap.log in `work`.

    Args:
        advance: told nothing, several times a second; if it raises, mmdebstrap is ended.

    Raises:
        BuildError: the packages do not install (they are not all, or a maintainer script failed).
        EnvironmentLack: mmdebstrap is missing, or a disk is full.
    """
    if shutil.which("mmdebstrap") is None:
        raise EnvironmentLack(
            f"an OS layer of {suite.distribution} needs mmdebstrap, which is not on this machine",
            ("next", "apt-get install mmdebstrap uidmap"),
        )
    apt = next(deb for package, deb in zip(packages, debs, strict=True) if package.name == "apt")
    sources_at, sources = image_sources(apt, suite)
    tar, log = work / "root.tar", work / "mmdebstrap.log"
    # Not in `work`: without root's rights mmdebstrap works under other user IDs, which may not enter a home.
    with tempfile.TemporaryDirectory(prefix="trtforge-os-", ignore_cleanup_errors=True) as folder:
        shared = Path(folder)
        shared.chmod(0o755)
        _write_repository(shared, packages, debs)
        _write(shared / "slim", _SLIM)
        _write(shared / "sources", sources)
        command = [
            *_enclosure(),
            "mmdebstrap",
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            "--variant=apt",
            f"--architectures={suite.architecture}",
            f"--dpkgopt={shared / 'slim'}",
            f"--include={','.join(sorted(package.name for package in packages))}",
            "--format=tar",
            *_hooks(shared, sources_at, options),
            "",
            str(tar),
            f"deb [trusted=yes] copy:{quote(str(shared))} ./",
        ]
        with log.open("wb") as output:
            failed = _run(command, output, _environment(shared), advance)
        said = log.read_text(encoding="utf-8", errors="replace")
        # The full disk may have no room for what mmdebstrap says, or be empty again once it has cleaned up.
        if failed and ("No space left" in said or _is_full(shared) or _is_full(work)):
            raise EnvironmentLack(
                f"the disk is full: no room for the OS layer of {suite.distribution} {suite.codename}",
                ("writes to", f"{shared.parent}, {work}"),
                ("next", "free about 1 GB (TMPDIR and TRTFORGE_CACHE name other places)"),
            )
    if failed:
        last = said.splitlines()[-15:]
        raise BuildError(
            f"mmdebstrap could not make {suite.distribution} {suite.codename}",
            *(("mmdebstrap", line) for line in last),
            ("next", "if packages are missing, lock again: python build.py lock"),
        )
    return tar


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _FULL


def _enclosure() -> list[str]:
    """What mmdebstrap is run in: mounts and processes of its own, which end when we end, even killed.

    Else it would leave mounts of /dev and /sys behind, and processes that go on. Without root's rights it
    makes such a thing for itself; where root may not make one, it does without.
    """
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return []
    return [] if subprocess.run([*command, "true"], capture_output=True, check=False).returncode else command


def _run(command: Sequence[str], output: BinaryIO, environment: dict[str, str], advance: Advance) -> int:
    """Run `command` to its end, or until `advance` raises; its exit status."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, umask=0o022
    ) as process:
        try:
            while True:
                advance(0)
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(0.2)
        finally:
            process.kill()


def _write_repository(folder: Path, packages: Sequence[OsPackage], debs: Sequence[Path]) -> None:
    """Make `folder` a flat repository; its index has the locked hashes, which apt then checks."""
    stanzas = []
    for package, deb in zip(packages, debs, strict=True):
        file = folder / f"{package.sha256}.deb"
        shutil.copyfile(deb, file)
        file.chmod(0o644)
        control = _control(deb)
        stanzas.append(
            f"{control}\nFilename: ./{file.name}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        )
    _write(folder / "Packages", "\n".join(stanzas))


def _control(deb: Path) -> str:
    """The control data of a package: the part of an index entry that is about its contents."""
    command = ["dpkg-deb", "--field", str(deb)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, encoding="utf-8")
    if done.returncode:
        raise BuildError(f"{deb.name} is not a Debian package", ("dpkg-deb", done.stderr.strip()))
    return done.stdout.strip()


def _write(file: Path, text: str) -> None:
    """Write `file` such that everybody can read it, whatever the umask."""
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)


def _hooks(shared: Path, sources_at: str, options: OsOptions) -> list[str]:
    """What mmdebstrap does beside installing: the merged /usr before, our own additions after."""
    prefix, user = shlex.quote(options.prefix), shlex.quote(options.user)
    account = f"--uid {options.uid} --gid {options.gid} --create-home --shell /bin/bash {user}"
    merged = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d" || exit 1; done'
    compiled = "python3 -B -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3*"
    after = (
        f'chroot "$1" groupadd --gid {options.gid} {user}',
        f'chroot "$1" useradd {account}',
        f'chmod 755 "$1"/home/{user}',
        f'chroot "$1" python3 -m venv --without-pip {prefix}',
        f'chroot "$1" chown -R {options.uid}:{options.gid} {prefix}',
        # Bytecode that is checked against its source's time would be stale, as times change below; Debian's
        # own is checked against the source's hash, at every start. This one is taken as it is (PEP 552). -B:
        # what compileall itself imports is compiled by it, too, and not by the import.
        'find "$1/usr" -name __pycache__ -prune -exec rm -r {} +',
        f'chroot "$1" sh -c "{compiled}"',
        'rm "$1/etc/apt/sources.list"',
        f"upload {shlex.quote(str(shared / 'sources'))} {sources_at}",
        f"upload {shlex.quote(str(shared / 'slim'))} /etc/dpkg/dpkg.cfg.d/slim",
    )
    return [f"--setup-hook={merged}", *(f"--customize-hook={hook}" for hook in after)]


def _environment(folder: Path) -> dict[str, str]:
    """The whole environment of mmdebstrap and the maintainer scripts; temporary files go to `folder`."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TMPDIR": str(folder),
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
