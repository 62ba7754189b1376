"""Which Debian packages an OS layer is made of, and their files.

Sources: apt-get(8), apt-cache(8), apt-patterns(7).
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from trtforge.errors import DamagedFile, EnvironmentLack, HashMismatch, LockError, RequestError
from trtforge.system.apt import FlatRepository, apt_says, no_answer, private_apt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtforge.progress import Progress
    from trtforge.store import Store
    from trtforge.system.apt import Apt

Distribution = Literal["debian", "ubuntu"]

_ALWAYS = ("?essential", "apt", "passwd")
"""What every OS layer has: what dpkg may rely on, a way to install more, a way to add users."""


class OsPackage(BaseModel):
    """One locked Debian package.

    filename: as apt names it: name_version_architecture.deb, with "%3a" for the colon of a version.
    size: bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    filename: str = Field(pattern=r"^[^/]+\.deb$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


@dataclass(frozen=True)
class OsSuite:
    """A release of a distribution, and where its packages come from.

    codename: "bookworm", "jammy", ...; its "-updates" and "-security" suites are used too.
    components: of the repository: "main", "universe", ...
    keyring: absolute path, on this machine, of the keys that sign it; empty: where the distribution has them.
    mirror: the repository's address; None: the one this machine's own apt uses. Beside a Debian mirror,
        its security repository is expected under the same address with "-security" after it.
    """

    distribution: Distribution
    codename: str
    architecture: str = "amd64"
    components: tuple[str, ...] = ("main",)
    keyring: str = ""
    mirror: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.distribution} {self.codename}"

    def __post_init__(self) -> None:
        if not self.keyring:
            keyring = f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg"
            object.__setattr__(self, "keyring", keyring)


def resolve_os(
    suite: OsSuite, packages: Sequence[str], held: Sequence[OsPackage] = ()
) -> tuple[OsPackage, ...]:
    """The current versions of `packages`, of all they depend on and of what every OS layer has, by name.

    Args:
        held: an OS that is locked already: `packages` come to it, and it stays as it is.

    Raises:
        RequestError: the suite does not have one of the packages, or they cannot be installed together.
        EnvironmentLack: apt, the keys or an answer from the mirror are missing.
    """
    with tempfile.TemporaryDirectory() as folder, private_apt(suite, Path(folder)) as apt:
        # A new system has the merged /usr from its first file on: nothing is left for usrmerge to do, and
        # without it `usrmerge | usr-is-merged` does not pull in all of Perl.
        merged = "?exact-name(usrmerge)-"
        there = [f"{package.name}={package.version}" for package in held] or _ALWAYS
        done = apt.run("apt-get", "install", "--yes", "--print-uris", *there, *packages, merged)
        if done.returncode:
            raise RequestError(
                f"{suite.title} cannot install what was asked",
                ("packages", " ".join(packages)),
                *apt_says(done.stderr),
                ("next", "correct the packages of this OS in matrix.yaml, or its components"),
            )
        lines = [line for line in done.stdout.splitlines() if line.startswith("'")]
        return tuple(sorted(map(package_of_uri_line, lines), key=lambda package: package.name))


def resolve_alone(origin: OsSuite | FlatRepository, packages: Sequence[str]) -> tuple[OsPackage, ...]:
    """The current versions of `packages`, without what they depend on, in their order.

    Raises:
        RequestError: one of them is not there.
        EnvironmentLack: apt, the keys or an answer from the mirror are missing.
    """
    with tempfile.TemporaryDirectory() as folder, private_apt(origin, Path(folder)) as apt:
        done = apt.run("apt-get", "download", "--print-uris", *packages)
        if done.returncode:
            raise RequestError(
                f"{origin.title} does not have what was asked",
                ("packages", " ".join(packages)),
                *apt_says(done.stderr),
                ("next", "correct `toolkits` in matrix.yaml"),
            )
        return tuple(package_of_uri_line(line) for line in done.stdout.splitlines() if line.startswith("'"))


def package_of_uri_line(line: str) -> OsPackage:
    """The package of a line of `apt-get --print-uris`: 'URI' FILE SIZE SHA256:HEX."""
    _, filename, size, checksum = line.rsplit(" ", 3)
    name, version, _ = filename.split("_")
    kind, _, sha256 = checksum.partition(":")
    if kind != "SHA256":
        raise EnvironmentLack(
            f"the mirror gives no SHA-256 of {filename}",
            ("found", kind or "nothing"),
            ("next", "name another mirror of this OS in matrix.yaml"),
        )
    return OsPackage(name=name, version=unquote(version), filename=filename, sha256=sha256, size=int(size))


def fetch_os(
    packages: Sequence[OsPackage], suite: OsSuite | FlatRepository, store: Store, progress: Progress
) -> list[Path]:
    """The files of `packages`, in their order; those that the store lacks are downloaded.

    Raises:
        LockError: the mirror does not have the locked version of a package any more.
        HashMismatch: a file is not the one that was locked; it is not kept.
        DamagedFile: one in the store is not any more; it is dropped.
        EnvironmentLack: apt, the keys or an answer from the mirror are missing.
    """
    files = [store.file("debs", package.sha256, package.filename) for package in packages]
    for package, file in zip(packages, files, strict=True):
        if file.exists():
            _check_stored(file, package)
    missing = [package for package, file in zip(packages, files, strict=True) if not file.exists()]
    if missing:
        with store.work_folder() as work, private_apt(suite, work) as apt:
            _require_versions(apt, missing, suite)
            _download(apt, missing, suite, work, progress)
            for package in missing:
                _check(work / package.filename, package)
                store.publish(work / package.filename, store.file("debs", package.sha256, package.filename))
    return files


def _require_versions(apt: Apt, packages: Sequence[OsPackage], suite: OsSuite | FlatRepository) -> None:
    """Raise LockError if the mirror's lists lack a locked version."""
    listing = apt.run("apt-cache", "madison", *(package.name for package in packages))
    rows = (line.split("|") for line in listing.stdout.splitlines())
    offered = {(row[0].strip(), row[1].strip()) for row in rows if len(row) == 3}
    gone = [package for package in packages if (package.name, package.version) not in offered]
    if gone:
        raise LockError(
            f"the mirror of {suite.title} has newer packages than the locked ones",
            *(("gone", f"{package.name} {package.version}") for package in gone),
            ("next", "python build.py lock takes the current ones"),
        )


def _download(
    apt: Apt,
    packages: Sequence[OsPackage],
    suite: OsSuite | FlatRepository,
    folder: Path,
    progress: Progress,
) -> None:
    """Download `packages` into `folder`, under the names that apt gives."""
    total = sum(package.size for package in packages)
    names = [f"{package.name}={package.version}" for package in packages]
    errors: list[str] = []
    with (
        progress.task(f"{suite.title} packages", total) as advance,
        apt.popen("apt-get", "-o", "APT::Status-Fd=1", "download", *names, folder=folder) as process,
    ):
        done = 0
        for line in process.stdout or ():
            if line.startswith("dlstatus:"):
                now = int(total * float(line.split(":")[2]) / 100)
                advance(now - done)
                done = now
            elif line.startswith("E: "):
                errors.append(line)
    if process.returncode:
        raise no_answer(suite, "".join(errors))


def _check_stored(file: Path, package: OsPackage) -> None:
    """Raise unless `file`, which was checked when it came, still is the locked one; else drop it."""
    try:
        _check(file, package)
    except HashMismatch as error:
        file.unlink(missing_ok=True)
        raise DamagedFile(error.name, error.expected, error.actual) from error


def _check(file: Path, package: OsPackage) -> None:
    """Raise unless `file` is the locked one."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise HashMismatch(package.filename, package.sha256, found)
