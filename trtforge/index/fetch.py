"""Pinned wheels into the store: downloaded or built, and never another file than the one that was locked."""

from __future__ import annotations

import shutil
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import (
    BuildError,
    EnvironmentLack,
    ForgeError,
    HashMismatch,
    IndexUnreachable,
    LockError,
    ResolutionError,
)
from trtforge.index.download import Web, sha256_of
from trtforge.index.local_project import LocalProject
from trtforge.index.offers import Need, Question, offers
from trtforge.index.sdist import build_wheel
from trtforge.patience import Patience, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trtforge.index.offers import Offer
    from trtforge.index.pins import Pin
    from trtforge.index.uv import Sources
    from trtforge.progress import Progress
    from trtforge.store import Store


@dataclass(frozen=True)
class _Errand:
    """A file to get: for a pin with a source distribution that, else the wheel."""

    pin: Pin
    url: str

    @property
    def filename(self) -> str:
        return self.pin.sdist.filename if self.pin.sdist else self.pin.filename

    @property
    def sha256(self) -> str:
        return self.pin.sdist.sha256 if self.pin.sdist else self.pin.sha256


def fetch(
    pins: Iterable[Pin],
    store: Store,
    sources: Sources,
    progress: Progress,
    jobs: int = 4,
    *,
    python: str,
    platform: str,
    patience: Patience | None = None,
) -> dict[str, Path]:
    """The wheel of every pin, by sha256, in `store`; those not there yet are downloaded, or built.

    Interrupted or failing, it keeps the files that are complete and nothing else.

    Args:
        pins: from the lock.
        store: where the wheels go.
        sources: where they come from; the lock holds no addresses, so the indexes are asked again.
        progress: told of every file.
        jobs: files at a time.
        python, platform: the image's, as the pins were resolved for.
        patience: how long to go on with a server in trouble.

    Raises:
        HashMismatch: a file is not the one that was locked.
        LockError: an index no longer offers a file that was locked.
        IndexUnreachable: an index does not answer, or stops answering half-way.
        EnvironmentLack: the disk has no room for the files.
        BuildError: a source distribution does not build; or a project of ours, or it gives another wheel.
    """

    def fail(_pins: Iterable[Pin], error: ForgeError) -> None:
        raise error

    wanted = {pin.sha256: pin for pin in pins}
    _Fetching(store, sources, progress, jobs, python, platform, patience or Patience(), fail).run(wanted)
    return {sha256: store.file("wheels", sha256, pin.filename) for sha256, pin in wanted.items()}


def fetch_each(
    pins: Iterable[Pin],
    store: Store,
    sources: Sources,
    progress: Progress,
    jobs: int = 4,
    *,
    python: str,
    platform: str,
    patience: Patience | None = None,
) -> dict[str, ForgeError]:
    """Like `fetch`, but what cannot be had does not keep the others from coming: why, by sha256."""
    failed: dict[str, ForgeError] = {}

    def fail(pins: Iterable[Pin], error: ForgeError) -> None:
        failed.update(dict.fromkeys((pin.sha256 for pin in pins), error))

    wanted = {pin.sha256: pin for pin in pins}
    _Fetching(store, sources, progress, jobs, python, platform, patience or Patience(), fail).run(wanted)
    return failed


@dataclass(frozen=True)
class _Fetching:
    """One fetching. fail: told of what cannot be had, and why; raises if that is to be the end of it."""

    store: Store
    sources: Sources
    progress: Progress
    jobs: int
    python: str
    platform: str
    patience: Patience
    fail: Callable[[Iterable[Pin], ForgeError], None]

    def run(self, wanted: Mapping[str, Pin]) -> None:
        """Fetch what the store lacks of `wanted`."""
        missing = [
            pin
            for sha256, pin in wanted.items()
            if not self.store.file("wheels", sha256, pin.filename).exists()
        ]
        for pin in (pin for pin in missing if pin.name in self.sources.projects):
            try:
                self._make_here(pin)
            except ForgeError as error:
                self.fail([pin], error)
        missing = [pin for pin in missing if pin.name not in self.sources.projects]
        if not missing:
            return
        label = f"fetch {len(missing)} wheels" if len(missing) > 1 else f"fetch {missing[0].filename}"
        with (
            self.progress.task(label) as advance,
            Web(self.sources, self.patience) as web,
            ThreadPoolExecutor(self.jobs, "fetch") as pool,
        ):
            errands = list(self._errands(missing))
            try:
                sizes = list(pool.map(lambda errand: _size(errand, web), errands))
                try:
                    _check_room(sum(sizes), self.store)
                except EnvironmentLack as error:
                    self.fail([errand.pin for errand in errands], error)
                    return
                # The largest first: the end of the work is then shared by small ones.
                order = sorted(zip(sizes, errands, strict=True), key=lambda pair: -pair[0])
                running = {pool.submit(self._get, *pair, web): pair[1].pin for pair in order}
                while running:
                    advance(0)  # where a progress ends the work that it is told of
                    for done in wait(running, 0.5, FIRST_COMPLETED).done:
                        pin = running.pop(done)
                        try:
                            done.result()
                        except ForgeError as error:
                            self.fail([pin], error)
            except BaseException:
                web.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _make_here(self, pin: Pin) -> None:
        """Make the wheel of a project of this repository: no index has it, and none is asked for it."""
        project = LocalProject.here(self.sources.projects[pin.name])
        if project.pin != pin:
            raise BuildError(
                f"{pin.filename} is to be made, and {project.folder.name}/ here gives another",
                ("wanted", f"{pin.filename} sha256:{pin.sha256}"),
                ("made", f"{project.pin.filename} sha256:{project.pin.sha256}"),
                ("folder", str(project.folder)),
                ("next", "start again; every worker needs the checkout of who started the work"),
            )
        with self.store.work_folder() as work:
            made = work / pin.filename
            made.write_bytes(project.wheel[1])
            self.store.publish(made, self.store.file("wheels", pin.sha256, pin.filename))

    def _errands(self, missing: Sequence[Pin]) -> Iterator[_Errand]:
        """Where each file is: in the wheelhouse, or where the indexes say today."""
        house, asked = self.sources.wheelhouse, []
        for pin in missing:
            name = pin.sdist.filename if pin.sdist else pin.filename
            local = house / name if house else None
            if local and local.is_file():
                yield _Errand(pin, local.resolve().as_uri())
            elif self.sources.offline:
                lack = LockError(
                    f"the wheelhouse has no {name}",
                    ("wheelhouse", str(house or "none given")),
                    ("next", "put the file there, or allow the package indexes to be asked"),
                )
                self.fail([pin], lack)
            else:
                asked.append(pin)
        while asked:  # the same package may be pinned in two versions, for two images: one after the other
            batch: dict[str, Pin] = {}
            for pin in asked:
                batch.setdefault(pin.name, pin)
            asked = [pin for pin in asked if batch[pin.name] is not pin]
            yield from self._ask(batch)

    def _ask(self, pins: dict[str, Pin]) -> Iterator[_Errand]:
        """Where the indexes have `pins`, by name; asked again without what is at fault for no answer."""
        indexes = replace(self.sources, wheelhouse=None)
        needs = tuple(Need(f"{pin.name}=={pin.version}", pin.index) for pin in pins.values())
        question = Question(needs, self.python, self.platform, dependencies=False)
        try:
            found = {offer.name: offer for offer in offers(question, indexes)}
        except ResolutionError as error:
            gone = LockError(
                "an index no longer offers what was locked: " + ", ".join(error.packages),
                ("uv says", error.explanation),
                ("next", "lock again: python build.py lock"),
            )
            gone.__cause__ = error
            at_fault = [pin for pin in pins.values() if f"{pin.name}=={pin.version}" in error.packages]
            yield from self._ask_rest(pins, at_fault, gone)
        except IndexUnreachable as error:
            at_fault = [pin for pin in pins.values() if pin.index == error.index]
            yield from self._ask_rest(pins, at_fault, error)
        else:
            for pin in pins.values():
                try:
                    yield _Errand(pin, _address(pin, found[pin.name]))
                except LockError as error:
                    self.fail([pin], error)

    def _ask_rest(
        self, pins: dict[str, Pin], at_fault: Sequence[Pin], error: ForgeError
    ) -> Iterator[_Errand]:
        at_fault = at_fault or list(pins.values())
        self.fail(at_fault, error)
        if rest := {name: pin for name, pin in pins.items() if pin not in at_fault}:
            yield from self._ask(rest)

    def _get(self, size: int, errand: _Errand, web: Web) -> None:
        pin, store = errand.pin, self.store
        with store.work_folder() as work, self.progress.task(errand.filename, size or None) as advance:
            file = work / errand.filename
            try:
                found = web.save(errand.url, file, advance)
            except httpx.HTTPError as error:
                raise IndexUnreachable(pin.index, (errand.filename,), reason_of(error)) from error
            if found != errand.sha256:
                raise HashMismatch(errand.filename, errand.sha256, found)
            if pin.sdist:
                (work / "build").mkdir()
                file = build_wheel(file, pin.sdist.build, work / "build", self.sources)
                if (built := sha256_of(file)) != pin.sha256:
                    raise HashMismatch(f"{file.name} (built from {errand.filename})", pin.sha256, built)
            store.publish(file, store.file("wheels", pin.sha256, pin.filename))


def _address(pin: Pin, offer: Offer) -> str:
    """Where the index has the pinned file, known by its hash alone."""
    sha256 = pin.sdist.sha256 if pin.sdist else pin.sha256
    offered = [offer.sdist] if pin.sdist and offer.sdist else offer.wheels
    address = next((file.url for file in offered if file.sha256 == sha256), None)
    if address is None:
        raise LockError(
            f"the index has other files for {pin.name} {pin.version} than the lock",
            ("index", pin.index),
            ("locked", f"{pin.sdist.filename if pin.sdist else pin.filename} sha256:{sha256}"),
            ("offered", ", ".join(f"{file.filename} sha256:{file.sha256}" for file in offered) or "nothing"),
            ("next", "find out why they changed; if the change is wanted: python build.py lock"),
        )
    return address


def _size(errand: _Errand, web: Web) -> int:
    """Bytes to be written, 0 if nobody knows."""
    known = None if errand.pin.sdist else errand.pin.size
    return known if known is not None else web.size(errand.url) or 0


def _check_room(size: int, store: Store) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if size > free:
        raise EnvironmentLack(
            f"{size / 1e9:.1f} GB are to be downloaded, and the disk has {free / 1e9:.1f} GB left",
            ("store", str(store.root)),
            ("next", "free some space: python build.py gc helps"),
        )
