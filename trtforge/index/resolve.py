"""From what a cell needs to the exact files: pins, found by uv for the image's Python and platform."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from trtforge.errors import HashMismatch, IndexUnreachable, ResolutionError
from trtforge.index.download import Web, index_answers, sha256_of
from trtforge.index.offers import Need, Question, offers
from trtforge.index.pins import Installed, Pin, Raisable, Sdist, specifier
from trtforge.index.sdist import build_wheel
from trtforge.index.uv import Sources
from trtforge.index.wheel_tags import image_tags, rank
from trtforge.patience import Patience, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.tags import Tag

    from trtforge.index.offers import Artefact, Offer
    from trtforge.index.pins import Held

__all__ = ["Need", "Sources", "index_answers", "resolve"]


def resolve(
    requirements: Sequence[Need],
    *,
    constraints: Sequence[Held],
    python: str,
    platform: str,
    sources: Sources,
) -> tuple[Pin, ...]:
    """The pins of `requirements` and of everything they depend on, by name.

    A package that an extra index supplies must be among `requirements`: only these are routed.
    A package that exists as source only is built, so that its pin names the wheel that will be installed.

    Args:
        requirements: what is asked for, and where.
        constraints: versions that hold if something asks for their packages. Pins are returned as they are
            where they fit the image, the route and the version found; what is installed is not returned.
        python: the image's Python, "3.11".
        platform: the image's, as uv spells it: "x86_64-manylinux_2_28".
        sources: where packages come from.

    Raises:
        IndexUnreachable: an index does not answer, or refuses our credentials.
        ResolutionError: a package or version is not offered, or the requirements contradict each other.
        BuildError: a source distribution does not build, or not to a pure-Python wheel.
    """
    held = {one.name: one for one in reversed(constraints)}  # the first of a name counts
    rules = tuple(f"{one.name}{specifier(one)}" for one in constraints)
    found = offers(Question(tuple(requirements), python, platform, constraints=rules), sources)
    tags = image_tags(python, platform)
    needs = {need.name: need for need in requirements}
    with Web(sources, Patience()) as web, ThreadPoolExecutor(8, "resolve") as pool:

        def pin_of(offer: Offer) -> Pin:
            need = needs.get(offer.name)
            pin = held.get(offer.name)
            pin = pin.pin if isinstance(pin, Raisable) else pin
            if (
                isinstance(pin, Pin)
                and pin.version == offer.version
                and (need is None or need.index == pin.index)
                and rank(pin.filename, tags) is not None
            ):
                return pin
            return _pin(offer, need or Need(offer.name), tags, sources, web)

        new = (offer for offer in found if not isinstance(held.get(offer.name), Installed))
        return tuple(sorted(pool.map(pin_of, new), key=lambda pin: pin.name))


def _pin(offer: Offer, need: Need, tags: dict[Tag, int], sources: Sources, web: Web) -> Pin:
    if wheel := best_wheel(offer.wheels, tags):
        sha256, size = wheel.sha256, wheel.size if wheel.size is not None else web.size(wheel.url)
        if sha256 is None:
            with tempfile.TemporaryDirectory(prefix="trtforge-") as folder:
                file = _download(wheel, need.index, Path(folder), web)
                sha256, size = sha256_of(file), file.stat().st_size
        return Pin(
            name=offer.name,
            version=offer.version,
            filename=wheel.filename,
            sha256=sha256,
            size=size,
            index=need.index,
        )
    wanted = f"{offer.name}=={offer.version}"
    if offer.sdist is None or need.wheel_only:
        advice = "there is no wheel for this Python and platform: ask for another version, or another index"
        raise ResolutionError("missing", (wanted,), f"{wanted} has no usable wheel", advice)
    with tempfile.TemporaryDirectory(prefix="trtforge-") as folder:
        source = _download(offer.sdist, need.index, Path(folder), web)
        work = Path(folder) / "build"
        work.mkdir()
        built = build_wheel(source, sources.build, work, sources)
        return Pin(
            name=offer.name,
            version=offer.version,
            filename=built.name,
            sha256=sha256_of(built),
            size=built.stat().st_size,
            index=need.index,
            sdist=Sdist(filename=source.name, sha256=sha256_of(source), build=sources.build),
        )


def best_wheel(wheels: Sequence[Artefact], tags: dict[Tag, int]) -> Artefact | None:
    """The wheel that fits best; of equals, the one in the wheelhouse, then the first by name."""
    ranked = [
        (place, not wheel.url.startswith("file:"), wheel.filename, wheel)
        for wheel in wheels
        if (place := rank(wheel.filename, tags)) is not None
    ]
    return min(ranked, key=lambda entry: entry[:3])[3] if ranked else None


def _download(artefact: Artefact, index: str, folder: Path, web: Web) -> Path:
    target = folder / artefact.filename
    try:
        found = web.save(artefact.url, target, lambda _done: None)
    except httpx.HTTPError as error:
        raise IndexUnreachable(index, (artefact.filename,), reason_of(error)) from error
    if artefact.sha256 not in (None, found):
        raise HashMismatch(artefact.filename, artefact.sha256 or "", found)
    return target
