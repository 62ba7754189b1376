"""What images cost to pull and start, as bench/image_sizes.py --pull has it: each is pushed to a registry on
loopback, pulled into a clean Engine, and `python -c 1` is run in it there."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from tests.docker_registry import docker_registry
from trtforge.engine.fresh import fresh_engine
from trtforge.image import Image, find_image, keep_image
from trtforge.layers.sources import OsSource
from trtforge.progress import Silent
from trtforge.registry.namespace import Namespace
from trtforge.registry.push import push_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtforge.oci import Layer
    from trtforge.project import Project
    from trtforge.recipe import Recipe
    from trtforge.sizes.measured import Measured

ROUNDS = 3

ROOM = 22_000_000_000
"""Free bytes that it takes at its peak: an image in a registry, and what an Engine downloads and unpacks."""


def require_room(project: Project) -> None:
    """End here if the disk has no room for it."""
    free = shutil.disk_usage(project.cache).free
    if free < ROOM:
        raise SystemExit(f"--pull needs {ROOM / 1e9:.0f} GB of free disk, and there are {free / 1e9:.0f}")


def times(
    runtime: Measured, wheels: Layer, ours: Mapping[str, Recipe], project: Project
) -> dict[str, tuple[float, float]]:
    """Seconds of a pull, and of pull and start, of our images and of the hand-written one: medians of rounds
    in which they take turns.

    Args:
        runtime: whose wheels are in `wheels`, a layer in the store.
    """
    images = {"hand-written": hand_written_image(runtime, wheels, project)}
    for kind, recipe in ours.items():
        if image := find_image(recipe.ref, recipe.key, project.store):
            images[kind] = image
    rounds = [{kind: pulled(image, project) for kind, image in images.items()} for _ in range(ROUNDS)]
    found = {}
    for kind in images:
        pulls, starts = zip(*(one[kind] for one in rounds), strict=True)
        found[kind] = statistics.median(pulls), statistics.median(starts)
    return found


def hand_written_image(runtime: Measured, wheels: Layer, project: Project) -> Image:
    """The OS, one layer of wheels and the copied files of `runtime`, with its settings."""
    image = find_image(runtime.recipe.ref, runtime.recipe.key, project.store)
    assert image
    system = [each.layer for each in runtime.report.layers if isinstance(each.source, OsSource)]
    copied = [each.layer for each in runtime.report.layers if each.source is None]
    layers = (*system, wheels, *copied)
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [each.diff_id for each in layers]
    config["history"] = [{"created_by": "hand-written"} for _ in layers]
    return keep_image(json.dumps(config, sort_keys=True).encode(), layers, project.store)


def pulled(image: Image, project: Project) -> tuple[float, float]:
    """Seconds of a pull from loopback into a clean Engine, and until `python -c 1` has run there as well."""
    folder = project.cache / "bench" / "registry"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with docker_registry(folder) as host:
            with Namespace.open(f"{host}/bench") as namespace:
                push_image(image, "it", namespace.repository("it"), project.store, Silent())
            reference = f"{host}/bench/it:it"
            with fresh_engine(project.cache, [host]) as engine:
                if not engine.disposable:
                    raise SystemExit("--pull needs a clean Engine: run it as root, with dockerd")
                return _pull_and_start(reference, engine.address)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pull_and_start(reference: str, address: str) -> tuple[float, float]:
    environment = {**os.environ, "DOCKER_HOST": address}
    os.sync()
    start = time.perf_counter()
    subprocess.run(["docker", "pull", "--quiet", reference], check=True, env=environment)
    seconds = time.perf_counter() - start
    run = ["docker", "run", "--rm", "--network", "none", reference, "python", "-c", "1"]
    subprocess.run(run, check=True, env=environment, stderr=subprocess.DEVNULL)
    return seconds, time.perf_counter() - start
