"""apt in a private root: it resolves and downloads without reading or writing the host's package state.

The host's apt configuration (proxies, certificates, credentials) applies; its sources, pins, default release
and foreign architectures do not.

Sources: apt-get(8), apt.conf(5), sources.list(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtforge.errors import EnvironmentLack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.system.os_packages import OsSuite

_REPOSITORIES = {
    "debian": ("Debian", "Debian-Security", "debian-archive-keyring"),
    "ubuntu": ("Ubuntu", "Ubuntu", "ubuntu-keyring"),
}
"""Distribution -> labels of its main and its security repository, and the package of its keys."""


@dataclass(frozen=True)
class FlatRepository:
    """A repository of packages without suites, such as NVIDIA's for CUDA: its index lies beside them.

    keyring: absolute path, on this machine, of the keys that sign it.
    """

    address: str
    keyring: str
    architecture: str = "amd64"

    @property
    def title(self) -> str:
        """What people call it."""
        return self.address


@dataclass(frozen=True)
class Apt:
    """apt's programs, bound to a private root."""

    options: tuple[str, ...]

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `program` ("apt-get", "apt-cache") to its end, whatever its exit status."""
        command = [program, *self.options, "--quiet", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())

    def popen(self, program: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
        """Start `program` in `folder`; its output and errors can be read together as they come."""
        return subprocess.Popen(
            [program, *self.options, "--quiet", *arguments],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def private_apt(suite: OsSuite | FlatRepository, folder: Path) -> Iterator[Apt]:
    """apt in a private root below `folder`, with the current package lists of `suite`."""
    if shutil.which("apt-get") is None:
        raise EnvironmentLack(
            f"packages of {suite.title} need apt, which this machine does not have",
            ("next", "build on Debian or Ubuntu, or take a base image from a registry in matrix.yaml"),
        )
    if not Path(suite.keyring).exists():
        raise _no_keys(suite)
    addresses = _addresses(suite)
    root = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (root / part).mkdir(parents=True)
    (root / "status").touch()
    (root / "sources.list").write_text(sources_of(suite, *addresses), encoding="utf-8")
    settings = {
        "Dir::State": root,
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": suite.architecture,
        "APT::Architectures": suite.architecture,
        "APT::Default-Release": "",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "APT::Update::Error-Mode": "any",
        # The root is a folder of this user's alone: apt's own user could not write there.
        "APT::Sandbox::User": "root",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "Acquire::http::Timeout": 10,
        "Acquire::https::Timeout": 10,
    }
    apt = Apt(tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}")))
    done = apt.run("apt-get", "update")
    if done.returncode:
        raise no_answer(suite, done.stderr, *dict.fromkeys(addresses))
    try:
        yield apt
    finally:
        shutil.rmtree(root)


def _no_keys(suite: OsSuite | FlatRepository) -> EnvironmentLack:
    if isinstance(suite, FlatRepository):
        how = "install its keys there, as its owner tells"
    else:
        how = f"apt-get install {_REPOSITORIES[suite.distribution][2]}"
    return EnvironmentLack(
        f"the keys that sign {suite.title} are not on this machine",
        ("missing", suite.keyring),
        ("next", how),
    )


def _addresses(suite: OsSuite | FlatRepository) -> tuple[str, ...]:
    return (suite.address,) if isinstance(suite, FlatRepository) else _mirrors(suite)


def sources_of(suite: OsSuite | FlatRepository, main: str, security: str = "") -> str:
    """The sources.list of `suite` from its repositories, in the one-line style."""
    if isinstance(suite, FlatRepository):
        return f"deb [signed-by={suite.keyring}] {main} /\n"
    addresses = {"": main, "-updates": main, "-security": security}
    return "".join(
        f"deb [signed-by={suite.keyring}] {address} {suite.codename}{pocket} {' '.join(suite.components)}\n"
        for pocket, address in addresses.items()
    )


def _mirrors(suite: OsSuite) -> tuple[str, str]:
    """The addresses of the main and the security repository."""
    if suite.mirror is not None:
        main = suite.mirror.rstrip("/")
        return main, f"{main}-security" if suite.distribution == "debian" else main
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    known: dict[str, str] = {}
    for label, _, address in (line.partition("|") for line in listing.stdout.splitlines()):
        known.setdefault(label, address)
    main, security, _ = _REPOSITORIES[suite.distribution]
    if main not in known or security not in known:
        raise EnvironmentLack(
            f"this machine's apt knows no {suite.distribution} mirror",
            ("found", ", ".join(sorted(known)) or "no package lists (has apt-get update run?)"),
            ("next", f"name a mirror for {suite.distribution} {suite.codename} in matrix.yaml"),
        )
    return known[main], known[security]


def no_answer(suite: OsSuite | FlatRepository, output: str, *mirrors: str) -> EnvironmentLack:
    """The error for `suite` when apt, having asked `mirrors`, said `output`."""
    return EnvironmentLack(
        f"no packages of {suite.title} from its mirror",
        *(("mirror", mirror) for mirror in mirrors),
        *apt_says(output),
        ("rules out", f"every image with packages of {suite.title}"),
        ("next", "check the network, or name a mirror that answers in matrix.yaml"),
    )


def apt_says(output: str) -> list[tuple[str, str]]:
    """The first few errors in what apt wrote, as facts."""
    return [("apt says", line[3:]) for line in output.splitlines() if line.startswith("E: ")][:4]


def _environment() -> dict[str, str]:
    """This process's environment, with messages that can be read by a program."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
