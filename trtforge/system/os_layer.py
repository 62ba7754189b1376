"""The OS layer: a Debian or Ubuntu system made of exactly the locked packages, the same bytes on any machine.

What mmdebstrap leaves, with real dpkg state, is written anew as a tar without anything of this machine or of
this hour.

Sources: OCI image-spec 1.1 layer.md; pax(1) for extended attributes in tars; PEP 405 for the environment.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from trtforge.errors import BuildError
from trtforge.layers.gzip_tar import compress_tar
from trtforge.oci import EPOCH, Layer, canonical_json
from trtforge.system.os_bootstrap import OsOptions, bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

    from trtforge.progress import Progress
    from trtforge.store import Store
    from trtforge.system.os_packages import OsPackage, OsSuite

_FORMAT = 2
"""Counts changes of what this module makes from the same packages."""

_LEFT_OUT = re.compile(
    r"""dev/.+ | run/(?!lock$).+ | tmp/.+ | var/tmp/.+          # filled when a container starts
    | etc/(hostname|resolv\.conf|machine-id)                    # of this machine
    | etc/ssh/ssh_host_.+                                       # made by openssh-server's installation
    | etc/(passwd|group|shadow|gshadow|subuid|subgid)-          # what was before the last change
    | etc/\.pwd\.lock | etc/dpkg/dpkg\.cfg\.d/99mmdebstrap      # of the installation
    | var/log/(?!apt$).+ | var/cache/(apt|ldconfig)/.+ | var/cache/debconf/.+-old
    | usr/share/info/dir | var/lib/apt/lists/.+ | var/lib/dbus/machine-id | var/lib/dpkg/.+-old
    """,
    re.VERBOSE,
)

_CAPABILITIES = "SCHILY.xattr.security.capability"
"""The one extended attribute that packages set (capabilities(7)); others are of this machine's disks."""


@dataclass(frozen=True)
class OsLayer:
    """A finished OS layer.

    rootfs: folder that holds it unpacked.
    python: version of its interpreter, "X.Y.Z".
    """

    layer: Layer
    rootfs: Path
    python: str


def os_layer(
    packages: Sequence[OsPackage],
    debs: Sequence[Path],
    suite: OsSuite,
    store: Store,
    progress: Progress,
    options: OsOptions | None = None,
) -> OsLayer:
    """The OS layer made of `packages`, whose files are `debs` in the same order; made once.

    Raises:
        BuildError: the packages do not install (they are not all, or a maintainer script failed).
        EnvironmentLack: mmdebstrap is missing.
    """
    options = options or OsOptions()
    key = layer_key(packages, suite, options)
    with store.lock(f"os-{key}"):
        layer = store.layer(key) or _make(key, packages, debs, suite, store, progress, options)
    folder = rootfs(store, layer)
    return OsLayer(layer, folder, _python_version(folder, options.prefix))


def rootfs(store: Store, layer: Layer) -> Path:
    """The folder with the contents of `layer`, which is in the store; unpacked once.

    Owners are kept if this process is root, device nodes are not there. Whoever runs programs in it leaves
    no files behind (no bytecode caches, say), as it is shared.
    """
    target = store.root / "rootfs" / layer.diff_id.removeprefix("sha256:")
    with store.lock(f"rootfs-{target.name}"):
        if not target.exists():
            with store.work_folder() as work:
                (work / "rootfs").mkdir()
                (work / "rootfs").chmod(0o755)
                with (
                    gzip.open(store.blob(layer.digest)) as stream,
                    tarfile.open(fileobj=stream, mode="r|") as tar,
                ):
                    # Our own tar may have links to absolute paths, which the default filter refuses.
                    tar.extraction_filter = lambda member, _path: member
                    tar.extractall(work / "rootfs", numeric_owner=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                (work / "rootfs").replace(target)
    return target


def clean_tar(source: IO[bytes], out: IO[bytes]) -> None:
    """Copy the root file system tar `source` to `out` without what is of the machine it was made on.

    Left out: devices, logs, caches, leftovers of the installation. Names get no leading "./", times become
    `oci.EPOCH`, owners are numbers.
    """
    with (
        tarfile.open(fileobj=source, mode="r|") as before,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in before:
            name = member.name.removeprefix("./")
            if name in ("", ".") or _LEFT_OUT.fullmatch(name):
                continue
            contents = before.extractfile(member) if member.isreg() else None
            member.name = name
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            member.mtime = EPOCH
            member.uname = member.gname = ""
            member.pax_headers = {
                header: value for header, value in member.pax_headers.items() if header == _CAPABILITIES
            }
            after.addfile(member, contents)


def layer_key(packages: Sequence[OsPackage], suite: OsSuite, options: OsOptions | None = None) -> str:
    """What an OS layer is a function of, as the store's key."""
    facts = {
        "kind": "os",
        "format": _FORMAT,
        "epoch": EPOCH,
        "packages": sorted(package.sha256 for package in packages),
        "suite": [suite.distribution, suite.codename, suite.architecture, *suite.components],
        "options": asdict(options or OsOptions()),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def _make(
    key: str,
    packages: Sequence[OsPackage],
    debs: Sequence[Path],
    suite: OsSuite,
    store: Store,
    progress: Progress,
    options: OsOptions,
) -> Layer:
    name = f"OS layer {suite.distribution} {suite.codename}"
    with progress.task(name) as advance, store.work_folder() as work:
        tar = bootstrap(packages, debs, suite, options, work, advance)
        with tar.open("rb") as raw, (work / "clean.tar").open("wb") as clean:
            clean_tar(raw, clean)
        with (work / "clean.tar").open("rb") as clean, (work / "layer").open("wb") as out:
            layer = compress_tar(clean, out, advance=lambda _size: advance(0))
        store.keep_layer(key, work / "layer", layer)
        return layer


def _python_version(folder: Path, prefix: str) -> str:
    """The interpreter's version, which the venv's configuration has (PEP 405)."""
    text = (folder / prefix.lstrip("/") / "pyvenv.cfg").read_text(encoding="utf-8")
    found = re.search(r"^version = (\S+)$", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{prefix}/pyvenv.cfg in the OS layer names no Python version")
    return found[1]
