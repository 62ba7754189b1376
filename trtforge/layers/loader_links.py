"""How the dynamic loader finds a wheel's libraries without LD_LIBRARY_PATH.

They get symbolic links in a folder that ld.so(8) searches by default. So nothing has to run in the image (no
ldconfig), and whoever runs ldconfig later only adds the links to the cache.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from trtforge.errors import BuildError
from trtforge.layers.gzip_tar import GzipTar
from trtforge.layers.wheel_layer import PinnedWheel, cut_facts, verify
from trtforge.oci import Layer, canonical_json

if TYPE_CHECKING:
    from trtforge.layers.install_target import InstallTarget
    from trtforge.progress import Progress
    from trtforge.store import Store

_FORMAT = 1

DEFAULT_FOLDER = "/usr/lib/x86_64-linux-gnu"
"""Searched by the loader of Debian and Ubuntu on x86-64 after its cache (ld.so(8), "default path")."""


def layer_key(wheel: PinnedWheel, folder: str, target: InstallTarget) -> str:
    """What decides the layer of `links_in_store`."""
    facts: dict[str, Any] = {
        "kind": "links",
        "format": _FORMAT,
        "wheel": wheel.sha256,
        "into": target.site_packages,
        "folder": folder,
        **cut_facts([replace(wheel, cut=wheel.cut.files())]),
    }
    facts |= {"directories": target.directories} if target.directories else {}
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def links_in_store(
    wheel: PinnedWheel, folder: str, target: InstallTarget, store: Store, progress: Progress
) -> Layer:
    """A layer with a link for each shared library directly in `folder` of `wheel`; from the store if there.

    Raises:
        HashMismatch: the wheel is not the one that is pinned. Nothing is kept.
        BuildError: there is no library in that folder.
    """

    def write(out: BinaryIO) -> Layer:
        with progress.task(f"check {wheel.path.name}", wheel.path.stat().st_size) as advance:
            verify(wheel, advance)
        with zipfile.ZipFile(wheel.path) as archive:
            names = [name for name in archive.namelist() if wheel.cut.installs(name)]
        paths = map(PurePosixPath, names)
        libraries = sorted(path for path in paths if str(path.parent) == folder and ".so" in path.suffixes)
        if not libraries:
            raise BuildError(
                f"{wheel.path.name} holds no shared library in {folder}/",
                ("next", "correct libs_folder of this flavour in matrix.yaml"),
            )
        tar = GzipTar(out, directories=target.directories)
        for path in libraries:
            tar.add_symlink(f"{DEFAULT_FOLDER}/{path.name}", f"{target.site_packages}/{path}")
        return tar.finish()

    return store.made_layer(layer_key(wheel, folder, target), write)
