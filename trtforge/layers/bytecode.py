"""A layer with the bytecode of wheels, so that the first import in a container need not compile anything.

The image's own Python compiles, because bytecode belongs to one Python. The files are unchecked-hash .pyc
(PEP 552): they hold no time, and Python never looks for the source's. Which sources one process compiles, and
in which order, depends on the wheels alone; marshal's output depends on that order, and on nothing else here.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from installer.destinations import WheelDestination
from installer.records import RecordEntry

from trtforge.layers.cut import WHOLE, Cut
from trtforge.layers.gzip_tar import GzipTar
from trtforge.layers.image_python import cache_tag, compile_in
from trtforge.layers.wheel_archive import MAX_NAME, WheelArchive
from trtforge.layers.wheel_contents import MemberStream, WheelContents, install_wheel, place
from trtforge.layers.wheel_layer import PinnedWheel, cut_facts, size_of, verify
from trtforge.oci import canonical_json
from trtforge.progress import ignore

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from installer.scripts import ScriptSection
    from installer.utils import Scheme

    from trtforge.layers.image_python import ImagePython
    from trtforge.layers.install_target import InstallTarget
    from trtforge.layers.wheel_archive import Member
    from trtforge.oci import Layer
    from trtforge.progress import Advance, Progress
    from trtforge.store import Store

FORMAT = 2
"""Raise it when the same wheels, target and interpreter give other bytes than before."""

BATCH = 2 << 20
"""Bytes of source that one process compiles: some seconds of work, so that starting it does not matter and
the largest wheel does not keep one core busy alone. It decides bytes: changing it changes FORMAT."""

LEVEL = 1
"""Of compression: for a torch image 7 % (3 MB) more bytes than the default, and 4 CPU seconds less."""

TESTS = {"test", "tests"}
"""Folders inside a package whose modules no image imports: a fifth of all source. Who does import one has it
compiled then."""

MAX_SOURCE = 64 << 20
"""Bytes of one source file; it is held in memory. The largest known have about 2 MiB."""


def bytecode_layer(
    wheels: Sequence[Path],
    target: InstallTarget,
    interpreter: Sequence[str],
    out: BinaryIO,
    *,
    jobs: int = 2,
    advance: Advance = ignore,
) -> Layer:
    """Write the bytecode of what `wheels` install to be imported to `out`, as a gzip-compressed tar.

    Packages' own tests and sources that do not compile are left out. Where two wheels install the same file,
    the later one counts, as it does in an image.

    Args:
        interpreter: the command that runs the image's Python; arguments are appended to it.
        out: where the blob goes; only written to.
        jobs: how many processes compile at once; the result does not depend on it.
        advance: told the bytes of source compiled.

    Raises:
        BuildError: the interpreter is not the target's, or fails.
        UnsafeWheel, CorruptWheel: see `wheel_layer`.
    """
    tar = GzipTar(out, target.prefix, target.uid, target.gid, level=LEVEL)
    add_bytecode([(wheel, WHOLE) for wheel in wheels], target, interpreter, tar, jobs, advance)
    return tar.finish()


def add_bytecode(
    wheels: Sequence[tuple[Path, Cut]],
    target: InstallTarget,
    interpreter: Sequence[str],
    tar: GzipTar,
    jobs: int,
    advance: Advance,
) -> None:
    """Write the bytecode of what `wheels`, each by its cut, install to `tar`; see `bytecode_layer`."""
    with ExitStack() as stack:
        sources: dict[str, _Source] = {}
        for path, cut in wheels:
            archive = stack.enter_context(WheelArchive(path))
            sources.update(_sources(WheelContents(archive, cut), target))
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        compiler = _Compiler(target, interpreter, advance)
        for batch, compiled in _in_order(pool, jobs, compiler, _batches(sources)):
            for source, bytecode in zip(batch, compiled, strict=True):
                cached = _cached(source.path, target)
                if bytecode and len(cached.rpartition("/")[2].encode()) <= MAX_NAME:
                    tar.add_file(cached, bytecode)


def bytecode_in_store(
    store: Store,
    wheels: Sequence[PinnedWheel],
    target: InstallTarget,
    python: ImagePython,
    progress: Progress,
    jobs: int = 2,
) -> Layer:
    """The bytecode layer of `wheels`, from the store if it was made before.

    Raises:
        HashMismatch: a wheel is not the one that is pinned. Nothing is kept.
        BuildError: see `bytecode_layer`. Nothing is kept.
        StaleFileRule: a wheel's cut is of another one. Nothing is kept.
    """

    def write(out: BinaryIO) -> Layer:
        unread = [wheel for wheel in wheels if wheel.sha256 not in store.checked]
        with progress.task("check wheels", size_of(unread)) as advance, ThreadPoolExecutor(jobs) as pool:
            list(pool.map(partial(verify, advance=advance), unread))
        store.checked.update(wheel.sha256 for wheel in unread)
        cuts, command = [(wheel.path, wheel.cut) for wheel in wheels], python.enter()
        tar = GzipTar(out, target.prefix, target.uid, target.gid, level=LEVEL)
        with progress.task("bytecode") as advance:
            add_bytecode(cuts, target, command, tar, jobs, advance)
            return tar.finish()

    return store.made_layer(bytecode_key(wheels, target, python.identity), write)


def bytecode_key(wheels: Sequence[PinnedWheel], target: InstallTarget, identity: str) -> str:
    """What a bytecode layer is a function of, as the store's key; what is slimmed is no module."""
    facts = {
        "bytecode": FORMAT,
        "wheels": [wheel.sha256 for wheel in wheels],
        "target": target.facts(),
        "interpreter": identity,
        **cut_facts([replace(wheel, cut=wheel.cut.files()) for wheel in wheels]),
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


class _Source(NamedTuple):
    path: str
    archive: WheelArchive
    member: Member


class _Collector(WheelDestination):
    """A destination that only notes which sources a wheel installs."""

    def __init__(self, target: InstallTarget, distribution: str) -> None:
        self.sources: dict[str, _Source] = {}
        self._target, self._distribution = target, distribution

    def write_script(self, name: str, module: str, attr: str, section: ScriptSection) -> RecordEntry:  # noqa: ARG002
        return RecordEntry(name, None, None)

    def write_file(
        self,
        scheme: Scheme,
        path: str | os.PathLike[str],
        stream: BinaryIO,
        is_executable: bool,  # noqa: ARG002
    ) -> RecordEntry:
        path = str(path)
        importable = scheme in ("purelib", "platlib") and path.endswith(".py")
        if importable and not _is_test(path) and isinstance(stream, MemberStream):
            at = place(scheme, path, self._target, self._distribution)
            self.sources[at] = _Source(at, stream.archive, stream.member)
        return RecordEntry(path, None, None)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        pass


def _is_test(path: str) -> bool:
    """Whether a module lies in a package's folder of tests."""
    return not TESTS.isdisjoint(PurePosixPath(path).parts[1:-1])


def _sources(contents: WheelContents, target: InstallTarget) -> dict[str, _Source]:
    collector = _Collector(target, contents.distribution)
    install_wheel(contents, collector)
    return collector.sources


def _batches(sources: dict[str, _Source]) -> Iterator[list[_Source]]:
    batch: list[_Source] = []
    size = 0
    for path in sorted(sources):
        batch.append(sources[path])
        size += sources[path].member.size
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _in_order(
    pool: ThreadPoolExecutor,
    jobs: int,
    compiler: _Compiler,
    batches: Iterable[list[_Source]],
) -> Iterator[tuple[list[_Source], list[bytes]]]:
    """Each batch with its bytecode, in order; a few are compiled ahead, so memory stays flat."""
    waiting: deque[tuple[list[_Source], Future[list[bytes]]]] = deque()
    for batch in batches:
        waiting.append((batch, pool.submit(compiler.compile, batch)))
        if len(waiting) > 2 * jobs:
            first, future = waiting.popleft()
            yield first, future.result()
    for rest, future in waiting:
        yield rest, future.result()


@dataclass(frozen=True)
class _Compiler:
    target: InstallTarget
    interpreter: Sequence[str]
    advance: Advance

    def compile(self, batch: list[_Source]) -> list[bytes]:
        """The bytecode of each source; the batch ends early if `advance` raises."""
        return compile_in(self.interpreter, self.target.python, self._contents(batch))

    def _contents(self, batch: list[_Source]) -> Iterator[tuple[str, bytes]]:
        for source in batch:
            self.advance(source.member.size)
            yield source.path, source.archive.read(source.member, MAX_SOURCE)


def _cached(source: str, target: InstallTarget) -> str:
    folder, _, name = source.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{cache_tag(target.python)}.pyc"
