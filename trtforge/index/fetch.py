"""Pinned wheels into the store: downloaded or built, and never another file than the one that was locked."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import EnvironmentLack, HashMismatch, IndexUnreachable, LockError, ResolutionError
from trtforge.index.download import Patience, Web, reason_of, sha256_of
from trtforge.index.offers import Need, Question, offers
from trtforge.index.sdist import build_wheel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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
        BuildError: a source distribution does not build.
    """
    wanted = {pin.sha256: pin for pin in pins}
    places = {sha256: store.file("wheels", sha256, pin.filename) for sha256, pin in wanted.items()}
    missing = [pin for sha256, pin in wanted.items() if not places[sha256].exists()]
    if missing:
        errands = list(_errands(missing, sources, python, platform))
        with (
            Web(sources, patience or Patience()) as web,
            ThreadPoolExecutor(jobs, "fetch") as pool,
        ):
            try:
                sizes = list(pool.map(lambda errand: _size(errand, web), errands))
                _check_room(sum(sizes), store)
                # The largest first: the end of the work is then shared by small ones.
                order = sorted(zip(sizes, errands, strict=True), key=lambda pair: -pair[0])
                running = [pool.submit(_run, *pair, store, sources, progress, web) for pair in order]
                for done in as_completed(running):
                    done.result()
            except BaseException:
                web.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return places


def _errands(missing: Sequence[Pin], sources: Sources, python: str, platform: str) -> Iterator[_Errand]:
    """Where each file is: in the wheelhouse, or where the indexes say today."""
    asked = []
    for pin in missing:
        name = pin.sdist.filename if pin.sdist else pin.filename
        local = sources.wheelhouse / name if sources.wheelhouse else None
        if local and local.is_file():
            yield _Errand(pin, local.resolve().as_uri())
        elif sources.offline:
            raise LockError(
                f"the wheelhouse has no {name}",
                ("wheelhouse", str(sources.wheelhouse or "none given")),
                ("next", "put the file there, or allow the package indexes to be asked"),
            )
        else:
            asked.append(pin)
    indexes = replace(sources, wheelhouse=None)
    while asked:  # the same package may be pinned in two versions, for two images: asked one after the other
        batch: dict[str, Pin] = {}
        for pin in asked:
            batch.setdefault(pin.name, pin)
        asked = [pin for pin in asked if batch[pin.name] is not pin]
        yield from _ask(tuple(batch.values()), indexes, python, platform)


def _ask(pins: tuple[Pin, ...], sources: Sources, python: str, platform: str) -> Iterator[_Errand]:
    needs = tuple(Need(f"{pin.name}=={pin.version}", pin.index) for pin in pins)
    try:
        found = offers(Question(needs, python, platform, dependencies=False), sources)
    except ResolutionError as error:
        raise LockError(
            "an index no longer offers what was locked: " + ", ".join(error.packages),
            ("uv says", error.explanation),
            ("next", "lock again: python build.py lock"),
        ) from error
    by_name = {offer.name: offer for offer in found}
    for pin in pins:
        yield _Errand(pin, _address(pin, by_name[pin.name]))


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


def _run(size: int, errand: _Errand, store: Store, sources: Sources, progress: Progress, web: Web) -> None:
    pin = errand.pin
    with store.work_folder() as work, progress.task(errand.filename, size or None) as advance:
        file = work / errand.filename
        try:
            found = web.save(errand.url, file, advance)
        except httpx.HTTPError as error:
            raise IndexUnreachable(pin.index, (errand.filename,), reason_of(error)) from error
        if found != errand.sha256:
            raise HashMismatch(errand.filename, errand.sha256, found)
        if pin.sdist:
            (work / "build").mkdir()
            file = build_wheel(file, pin.sdist.build, work / "build", sources)
            if (built := sha256_of(file)) != pin.sha256:
                raise HashMismatch(f"{file.name} (built from {errand.filename})", pin.sha256, built)
        store.publish(file, store.file("wheels", pin.sha256, pin.filename))
