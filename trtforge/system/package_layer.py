"""A layer that adds Debian packages to an OS layer: where the trees with and without them differ.

The packages are installed together with those of the OS, as the OS itself is; so dpkg's own database, which
is among what differs, knows all of them. Nothing runs in the image, and any machine makes the same bytes.

Sources: OCI image-spec 1.1 layer.md (change sets, whiteouts).
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from trtforge.layers.gzip_tar import compress_tar
from trtforge.oci import EPOCH, canonical_json
from trtforge.system.os_bootstrap import OsOptions, bootstrap
from trtforge.system.os_layer import clean_tar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from trtforge.oci import Layer
    from trtforge.progress import Progress
    from trtforge.store import Store
    from trtforge.system.os_packages import OsPackage, OsSuite

_FORMAT = 1
"""Counts changes of what this module makes from the same packages."""

Tree = dict[str, tuple[object, ...]]
"""A path in a root file system -> all that makes two files there the same."""


def package_layer(
    key: str,
    system: Sequence[OsPackage],
    added: Sequence[OsPackage],
    debs: Sequence[Path],
    suite: OsSuite,
    below: Layer,
    store: Store,
    progress: Progress,
) -> Layer:
    """The layer with what the packages `added` change in the OS layer `below`, which is made of `system`.

    Args:
        key: under which the store keeps it, from `layer_key`.
        debs: the files of `system`, then of `added`, in the same order.

    Raises:
        BuildError: the packages do not install (they are not all, or a maintainer script failed).
        EnvironmentLack: mmdebstrap is missing, or a disk is full.
    """
    name = f"{suite.distribution} {suite.codename} with {len(added)} more packages"

    def write(out: BinaryIO) -> Layer:
        with progress.task(name) as advance, store.work_folder() as work:
            tar = bootstrap([*system, *added], debs, suite, OsOptions(), work, advance)
            with tar.open("rb") as raw, (work / "clean.tar").open("wb") as clean:
                clean_tar(raw, clean)
            tar.unlink()
            with gzip.open(store.blob(below.digest)) as before, (work / "clean.tar").open("rb") as after:
                old, new = tree_of(before), tree_of(after)
                after.seek(0)
                with (work / "difference.tar").open("wb") as difference:
                    write_difference(old, new, after, difference)
            with (work / "difference.tar").open("rb") as made:
                return compress_tar(made, out, advance=lambda _size: advance(0))

    return store.made_layer(key, write)


def layer_key(system: str, added: Sequence[OsPackage]) -> str:
    """What such a layer is a function of, as the store's key.

    Args:
        system: the key of the OS layer below.
    """
    facts = {
        "kind": "packages",
        "format": _FORMAT,
        "system": system,
        "added": sorted(package.sha256 for package in added),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def tree_of(tar: BinaryIO | gzip.GzipFile) -> Tree:
    """What is in a root file system's tar, as `clean_tar` writes it: there times tell nothing."""
    tree: Tree = {}
    with tarfile.open(fileobj=tar, mode="r|") as archive:
        for member in archive:
            contents = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.file_digest(contents, "sha256").hexdigest() if contents else ""  # type: ignore[arg-type]
            target = tree.get(member.linkname, ()) if member.islnk() else ()
            tree[member.name] = (
                member.type,
                member.mode,
                member.uid,
                member.gid,
                member.linkname,
                digest,
                tuple(sorted(member.pax_headers.items())),
                target,  # a link is another file if what it leads to is
            )
    return tree


def write_difference(old: Mapping[str, object], new: Tree, source: BinaryIO, out: BinaryIO) -> None:
    """Write the members of `source` that make the tree `old` the tree `new`, which is its own, to `out`.

    A folder with a changed file comes with its own mode and owner. What is gone leaves a whiteout; a folder
    leaves one for itself alone.
    """
    wanted = {name for name, facts in new.items() if old.get(name) != facts}
    wanted |= {str(new[name][4]) for name in wanted if new[name][0] == tarfile.LNKTYPE}
    gone = {name for name in old if name not in new}
    gone = {name for name in gone if not any(str(one) in gone for one in PurePosixPath(name).parents)}
    folders = {str(one) for name in (*wanted, *gone) for one in PurePosixPath(name).parents} & new.keys()
    with (
        tarfile.open(fileobj=source, mode="r|") as before,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in before:
            if member.name in wanted | folders:
                after.addfile(member, before.extractfile(member) if member.isreg() else None)
        for whiteout in _whiteouts(gone):
            after.addfile(whiteout)


def _whiteouts(gone: Iterable[str]) -> Iterable[tarfile.TarInfo]:
    for name in sorted(gone):
        path = PurePosixPath(name)
        info = tarfile.TarInfo(str(path.with_name(f".wh.{path.name}")))
        info.mtime, info.mode = EPOCH, 0o644
        yield info
