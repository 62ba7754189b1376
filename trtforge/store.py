"""The store: a local, content-addressed cache that is whole at every moment.

    wheels/<sha256>/<file name>     wheels, downloaded or built, checked against the lock
    debs/<sha256>/<file name>       Debian packages, likewise
    oci/                            an OCI image layout: blobs/sha256/<hex>, index.json, oci-layout
    layers/<key>.json               what a layer was made from -> its digests and sizes
    sizes/<blob hex>.json           what each package has in a layer
    records/<manifest hex>.json     what was read from inside a finished image
    tmp/                            work in progress; each folder in it is held by the process that uses it

A file appears under its final name only when it is complete and checked (written to tmp/, then renamed),
so an interrupt, a crash or a full disk leaves nothing half-made in sight.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock

from trtforge.errors import EnvironmentLack
from trtforge.held import is_held, make_held
from trtforge.oci import Digest, Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Store:
    """A store rooted at a folder, which is made when first written to.

    checked: hashes of the wheels in it that this process has read whole, and found right.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.oci = root / "oci"
        self.checked: set[str] = set()

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
            EnvironmentLack: the disk filled up while the folder was in use, or the store cannot be written.
        """
        with self._writing():
            with self.lock("tmp"):  # until it is held, it would be taken for a dead process's
                folder, held = make_held(self.root / "tmp")
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)

    def dead_work(self) -> list[Path]:
        """The work of processes that were killed."""
        with self.lock("tmp"):
            return [folder for folder in sorted((self.root / "tmp").glob("*")) if not is_held(folder)]

    def sweep(self) -> None:
        """Delete the work of processes that were killed."""
        for folder in self.dead_work():
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell what is wrong with the disk, where writing to it fails inside the block."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(self.root).free
                raise EnvironmentLack(
                    f"the disk under {self.root} is full ({free >> 20} MiB left)",
                    ("state", "the store is whole: only unfinished work was dropped"),
                    ("next", "free some space (python build.py gc helps) and run the same command again"),
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and self._has(error.filename):
                raise EnvironmentLack(
                    f"the store {self.root} cannot be written: {error.strerror}",
                    ("at", str(error.filename)),
                    ("next", "make it yours (chown), or name another folder: TRTFORGE_CACHE=DIR"),
                ) from error
            raise

    def _has(self, file: object) -> bool:
        """Whether `file`, which could not be written, is of the store, or where the store was to be made."""
        path = Path(str(file))
        return path.is_relative_to(self.root) or path in self.root.parents

    def publish(self, file: Path, target: Path) -> None:
        """Move the complete, checked `file` to its final name at once; an equal one already there stays."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._used_again(target):
            file.unlink()
        else:
            file.chmod(0o644)
            file.replace(target)

    def write_blob(self, data: bytes, digest: Digest) -> None:
        """Keep a small blob (a configuration, a manifest)."""
        if self.read_blob(digest) is None:  # or it was damaged
            self.blob(digest).unlink(missing_ok=True)
        if not self._used_again(self.blob(digest)):
            with self.work_folder() as work:
                (work / "blob").write_bytes(data)
                self.publish(work / "blob", self.blob(digest))

    def read_blob(self, digest: Digest) -> bytes | None:
        """A small blob, if it is there and undamaged."""
        try:
            data = self.blob(digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if digest_of(data) == digest else None

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
        except (FileNotFoundError, ValueError, TypeError):  # not there, or not what we wrote
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

    def _used_again(self, file: Path) -> bool:
        """Whether `file` is there; then it counts as used now, and no gc that runs takes it."""
        if not file.exists():
            return False
        with self.gc_lock():
            try:
                os.utime(file)
            except PermissionError:  # another user's, and so is what may delete it
                return True
            except FileNotFoundError:
                return False
        return True

    def gc_lock(self) -> AbstractContextManager[None]:
        """What gc looks at and deletes stays as it is while the block runs; see `in_use`."""
        return self.lock("gc")

    def made_layer(self, key: str, write: Callable[[BinaryIO], Layer]) -> Layer:
        """The layer that `key` makes: the one that is there, or what `write` writes now, which is kept.

        Made once, however many threads and processes ask; where `write` raises, nothing is kept.
        """
        if layer := self.layer(key):
            return layer
        with self.lock(key), self.work_folder() as work:
            if layer := self.layer(key):
                return layer
            with (work / "layer").open("wb") as out:
                layer = write(out)
            self.keep_layer(key, work / "layer", layer)
        return layer

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep two threads or processes from making the same thing at once.

        Raises:
            EnvironmentLack: the store cannot be written.
        """
        file = FileLock(self.root / "locks" / f"{name}.lock")
        with self._writing():
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            file.acquire()
        try:
            yield
        finally:
            file.release()
