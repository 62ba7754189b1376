"""A plan: what a build would do for each image, and why, told before anything is done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trtforge.errors import EnvironmentLack
from trtforge.image import Image, find_image
from trtforge.layers.sources import OsSource, PackagesSource, ToolkitSource, WheelSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.index.pins import Pin
    from trtforge.layers.sources import LayerSource
    from trtforge.recipe import Recipe
    from trtforge.store import Store


@dataclass(frozen=True)
class ImagePlan:
    """What a build would do for one image.

    image: the finished one, if it is in the store ("reuse").
    missing: the sources whose layers the store lacks.
    """

    recipe: Recipe
    action: Literal["build", "reuse"]
    reason: str
    image: Image | None
    missing: tuple[LayerSource, ...]


def plan_image(recipe: Recipe, store: Store) -> ImagePlan:
    """What to do for `recipe`."""
    if image := find_image(recipe.ref, recipe.key, store):
        return ImagePlan(recipe, "reuse", "the store has this very recipe", image, ())
    missing = tuple(source for source in recipe.sources.values() if store.layer(source.key) is None)
    there = len(recipe.sources) - len(missing)
    reason = f"{len(recipe.sources)} layers: {there} in the store, {len(missing)} to make"
    return ImagePlan(recipe, "build", reason, None, missing)


def wheels_needed(missing: Iterable[LayerSource]) -> dict[str, list[Pin]]:
    """The pins that the `missing` layers are made from, by the Python that they were resolved for."""
    pins: dict[str, dict[str, Pin]] = {}
    for source in missing:
        if not isinstance(source, OsSource | PackagesSource) and source.pins:
            pins.setdefault(source.target.python, {}).update({pin.sha256: pin for pin in source.pins})
    return {python: list(found.values()) for python, found in pins.items()}


def check_disk(missing: Iterable[LayerSource], store: Store) -> None:
    """See that the store's disk has room for the `missing` layers, and for the wheels that it lacks for them.

    Raises:
        EnvironmentLack: it has not; with what is needed and what is free.
    """
    distinct = {source.key: source for source in missing}
    pins = [pin for found in wheels_needed(distinct.values()).values() for pin in found]
    download = sum(
        pin.size or 0 for pin in pins if not store.file("wheels", pin.sha256, pin.filename).exists()
    )
    layers = sum(
        pin.size or 0
        for one in distinct.values()
        if isinstance(one, WheelSource | ToolkitSource)
        for pin in one.pins
    )
    free = shutil.disk_usage(next(folder for folder in store.root.parents if folder.exists())).free
    if download + layers > free:
        raise EnvironmentLack(
            f"the disk under {store.root} has no room for this build",
            ("needed", f"{download / 1e9:.1f} GB to download, {layers / 1e9:.1f} GB of layers"),
            ("free", f"{free / 1e9:.1f} GB"),
            (
                "next",
                "python build.py gc frees what is not locked; TRTFORGE_CACHE moves the store to another disk",
            ),
        )
