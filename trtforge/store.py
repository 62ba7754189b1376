"""The store: a local, content-addressed cache that is whole at every moment.

    wheels/<sha256>/<file name>     wheels, downloaded or built, checked against the lock
    debs/<sha256>/<file name>       Debian packages, likewise
    oci/                            an OCI image layout: blobs/sha256/<hex>, index.json, oci-layout
    layers/<key>.json               what a layer was made from -> its digests and sizes
    records/<manifest hex>.json     what was read from inside a finished image
    tmp/                            work in progress; anything in it may be deleted when nothing runs

A file appears under its final name only when it is complete and checked (written to tmp/, then renamed),
so an interrupt, a crash or a full disk leaves nothing half-made in sight.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from trtforge.errors import EnvironmentLack
from trtforge.oci import Digest, Layer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Store:
    """A store rooted at a folder, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.oci = root / "oci"

    def blob(self, digest: Digest) -> Path:
        """Where the blob of `digest` is, or would be."""
        return self.oci / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def file(self, kind: str, sha256: str, name: str) -> Path:
        """Where the file `name` with hash `sha256` is, or would be; `kind` is "wheels" or "debs"."""
        return self.root / kind / sha256 / name

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder for work in progress on the store's own file system, removed at the end.

        Raises:
            EnvironmentLack: the disk filled up while the folder was in use.
        """
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(self.root).free
            raise EnvironmentLack(
                f"the disk under {self.root} is full ({free >> 20} MiB left)",
                ("state", "the store is whole: only unfinished work was dropped"),
                ("next", "free some space (python build.py gc helps) and run the same command again"),
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, file: Path, target: Path) -> None:
        """Move the complete, checked `file` to its final name at once; an equal one already there stays."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            file.unlink()
        else:
            file.chmod(0o644)
            file.replace(target)

    def write_blob(self, data: bytes, digest: Digest) -> None:
        """Keep a small blob (a configuration, a manifest)."""
        with self.work_folder() as work:
            (work / "blob").write_bytes(data)
            self.publish(work / "blob", self.blob(digest))

    def write_text(self, target: Path, text: str) -> None:
        """Replace the text file `target` (below the root) at once."""
        with self.work_folder() as work:
            (work / "text").write_text(text, encoding="utf-8")
            target.parent.mkdir(parents=True, exist_ok=True)
            (work / "text").replace(target)

    def layer(self, key: str) -> Layer | None:
        """The layer made from `key`, if its blob is still there and has its size."""
        try:
            layer = Layer(**json.loads((self.root / "layers" / f"{key}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        return layer if self.holds(layer) else None

    def holds(self, layer: Layer) -> bool:
        """Whether the blob of `layer` is there and has its size."""
        blob = self.blob(layer.digest)
        return blob.exists() and blob.stat().st_size == layer.size

    def keep_layer(self, key: str, blob: Path, layer: Layer) -> None:
        """Publish `blob` and remember that `key` makes `layer`."""
        target = self.blob(layer.digest)
        if target.exists() and target.stat().st_size != layer.size:
            target.unlink()
        self.publish(blob, target)
        self.write_text(self.root / "layers" / f"{key}.json", json.dumps(asdict(layer), sort_keys=True))

    def lock(self, name: str) -> FileLock:
        """A lock that keeps two processes from making the same thing at once."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")
