"""A hundred cells, measured: `python -m bench.many_cells [--cells 100] [--jobs N]`.

The cells are those of matrix.yaml; their wheels are made up, some kilobytes each, as many for a cell as real
ones have. So what is seen is all that is not bytes: the graph, the layers' fixed cost, the assembling, the
registry (docker-registry on loopback) with every request that it logs. Images are not tested here, because
made-up ones do not pass; what a test takes is in bench/results/publish.md. In turn:

    empty      all cells into an empty registry
    nothing    the same again: all is published
    elsewhere  from an empty store into the registry that has the layers, and no image that is published
    one wheel  a wheel that all cells of one TensorRT have is another
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from distributed import LocalCluster

from bench.main_job import ROOT
from tests.docker_registry import docker_registry
from tests.wheel_factory import ZipMember, make_wheel
from trtforge.index.download import sha256_of
from trtforge.index.pins import Pin
from trtforge.layers.maker import LayerMaker
from trtforge.layers.sources import OsSource
from trtforge.lock import Lock, LockedCell
from trtforge.locking import os_suite
from trtforge.production.cluster import cluster
from trtforge.production.graph import Node, run_graph
from trtforge.production.production import Production
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.publishing.catalogue import read_catalogue
from trtforge.publishing.facts import Facts, facts_of
from trtforge.publishing.publish import promote, published_images
from trtforge.registry.namespace import Namespace
from trtforge.registry.shared_layers import SharedLayers
from trtforge.smoke import CheckResult, SmokeReport

if TYPE_CHECKING:
    from trtforge.cells import Cell
    from trtforge.recipe import Recipe
    from trtforge.system.os_packages import OsPackage

RESULTS = ROOT / "bench" / "results"

BASE, OWN = 28, 6
"""Wheels of a base image, and how many of them are of its torch build alone; real ones have about so many."""

SHAPE = ("debian12", "2.9.1", "runtime")
"""OS, torch and variant of the cells."""

ASKED = re.compile(r'"(?P<method>[A-Z]+) /v2/(?P<path>\S*) HTTP')


@dataclass(frozen=True)
class Phase:
    """What one publishing of all cells took.

    requests: that the registry saw, by kind. promoting: seconds of `seconds` in which tags were moved, one
        number a cell, in order.
    stored: bytes that its folder grew by. unique: bytes of the layers that were new.
    """

    name: str
    cells: int
    seconds: float
    promoting: list[float]
    requests: dict[str, int]
    stored: int
    unique: int


class Wheels:
    """Made-up wheels in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._made: dict[str, Pin] = {}

    def pin(self, name: str, build: str = "") -> Pin:
        """A wheel with this name; another `build` of it is another file."""
        build = f"-1{build.replace('.', '')}" if build else ""
        if (key := name + build) not in self._made:
            file, content = name.replace("-", "_"), f"x = {key!r}\n".encode()
            libs = "tensorrt_rtx_libs" if "rtx" in name else "tensorrt_libs"
            members = [ZipMember(f"{file}/m{number}.py", content * 50) for number in range(5)]
            members.append(ZipMember(f"{libs}/lib{file}.so.1", content * 100))
            with tempfile.TemporaryDirectory(dir=self._folder) as work:
                wheel = make_wheel(Path(work), members, file)
                wheel = wheel.rename(self._folder / f"{file}-1.0{build}-py3-none-any.whl")
            self._made[key] = Pin(
                name=name,
                version="1.0",
                filename=wheel.name,
                sha256=sha256_of(wheel),
                size=wheel.stat().st_size,
            )
        return self._made[key]


def valid(project: Project) -> list[Cell]:
    """The cells of the matrix that no rule rejects."""
    return [verdict.cell for verdict in project.cells.every() if not verdict.broken]


def lock_of(project: Project, count: int, wheels: Wheels, onnx: str, packages: tuple[OsPackage, ...]) -> Lock:
    """A lock of the first `count` cells of `SHAPE`; `onnx` says which one RTX has."""
    cells = [cell for cell in valid(project) if (cell.os, cell.torch, cell.variant) == SHAPE][:count]
    sets: dict[str, tuple[Pin, ...]] = {}
    locked = {}
    for cell in cells:
        base, image = f"base {cell.build}", f"{cell.tensorrt} {cell.cuda.split('.')[0]}"
        names = ["torch", "torchvision", "numpy", "pip", *(f"own-{number}" for number in range(OWN - 2))]
        own = [wheels.pin(name, cell.build) for name in names]
        sets[base] = (*own, *(wheels.pin(f"shared-{number}") for number in range(BASE - len(own))))
        flavour, facts = project.matrix.flavours[project.cells.flavour(cell)], project.cells.facts(cell)
        parts = [part.format_map(facts) for part in (flavour.libs, flavour.bindings, flavour.frontend)]
        more = wheels.pin("onnx", onnx if flavour.short == "rtx" else "")
        sets[image] = (*(wheels.pin(part, cell.tensorrt) for part in parts), more)
        locked[project.cells.name(cell)] = LockedCell(
            axes=cell.axes(), state="locked", base=base, tensorrt=image
        )
    return Lock(
        inputs=project.inputs,
        os={"debian12": packages},
        sets={name: tuple(pin.filename for pin in pins) for name, pins in sets.items()},
        wheels={pin.filename: pin for pins in sets.values() for pin in pins},
        cells=locked,
    )


def publish(name: str, project: Project, lock: Lock, namespace: Namespace, folder: Path, jobs: int) -> Phase:
    """Publish every cell of `lock`, as `build.py publish` does."""
    log = folder / "log"
    before, asked, start = size_of(folder), log.stat().st_size, time.perf_counter()
    by_name = {project.cells.name(cell): cell for cell in valid(project)}
    chains, facts = {}, dict[str, Facts]()
    for cell in lock.cells:
        chains[cell] = project.recipes.chain(by_name[cell], lock)
        facts |= facts_of(by_name[cell], chains[cell], project.cells)
    recipes = [recipe for chain in chains.values() for recipe in chain]
    there = published_images(recipes, read_catalogue(namespace, Silent()), namespace)
    todo = [chain for chain in chains.values() if chain[-1].key not in there]
    promoting, unique = list[float](), 0
    with closing(Production(project, namespace, Silent(), jobs, there).run(todo)) as outcomes:
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            begun = time.perf_counter()
            promote(outcome.staged, outcome.reports, facts, namespace, Silent())
            promoting.append(time.perf_counter() - begun)
            unique += outcome.pushed
    seconds = time.perf_counter() - start
    with log.open(encoding="utf-8") as lines:
        lines.seek(asked)
        requests = Counter(kind for line in lines if (kind := kind_of(line)))
    stored = size_of(folder) - before
    return Phase(name, len(todo), seconds, promoting, dict(requests.most_common()), stored, unique)


def kind_of(line: str) -> str:
    """What a line of the registry's access log asks for: "HEAD blobs", "PUT manifests"; "" if it is none."""
    found = ASKED.search(line)
    if not found:
        return ""
    parts = set(found["path"].split("/"))
    what = next((one for one in ("uploads", "blobs", "manifests", "tags", "referrers") if one in parts), "v2")
    return f"{found['method']} {what}"


def size_of(folder: Path) -> int:
    """Bytes of the registry's data."""
    return sum(file.stat().st_size for file in (folder / "data").rglob("*") if file.is_file())


def passed(reference: str, *_rest: object, **_options: object) -> SmokeReport:
    """In place of `verify_image`."""
    check = CheckResult(name="imports", status="passed", reason="", seconds=0, detail={})
    return SmokeReport(image=reference, results=(check,))


def measure(count: int, jobs: int, folder: Path) -> list[Phase]:
    """All phases."""
    root, house = folder / "project", folder / "house"
    root.mkdir()
    for name in ("matrix.yaml", "images", "smoke", *Project(ROOT).matrix.projects.values()):
        (root / name).symlink_to(ROOT / name)
    wheels = Wheels(house)
    packages = Project(ROOT).read_lock(fresh=False).os["debian12"]
    system = OsSource(os_suite(Project(ROOT).matrix, "debian12"), packages)
    held = Project(ROOT).store
    layer = LayerMaker(held, Silent(), jobs).make(system)

    def project(store: str) -> Project:
        os.environ["TRTFORGE_CACHE"] = str(folder / store)
        here = Project(root, house, offline=True)
        for file in (held.root / "layers" / f"{system.key}.json", held.blob(layer.digest)):
            target = here.store.root / file.relative_to(held.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copyfile(file, target)
        return here

    first, second = (lock_of(project("one"), count, wheels, onnx, packages) for onnx in ("", "new"))
    there = folder / "registry"
    there.mkdir()
    with (
        docker_registry(there) as host,
        Namespace.open(f"{host}/bench") as namespace,
        Namespace.open(f"{host}/elsewhere") as elsewhere,
        patch("trtforge.production.staging.verify_image", passed),
        patch("trtforge.production.staging.SharedPlace.engine", lambda _place: None),
    ):
        phases = [
            publish("empty", project("one"), first, namespace, there, jobs),
            publish("nothing", project("one"), first, namespace, there, jobs),
        ]
        layers = namespace.repository("layers")
        for key in layers.tags():  # as a machine that comes new to a namespace finds them
            shared = SharedLayers(layers).find(key)
            if shared:
                SharedLayers(elsewhere.repository("layers")).keep(key, shared, project("one").store, Silent())
        phases.append(publish("elsewhere", project("two"), first, elsewhere, there, jobs))
        phases.append(publish("one wheel", project("one"), second, namespace, there, jobs))
    return phases


def handing_ms(count: int = 1000) -> float:
    """Milliseconds that a node costs on a Dask cluster beside its work; it carries a recipe both ways."""
    project = Project(ROOT)
    lock = project.read_lock(fresh=False)
    locked = {name for name, cell in lock.cells.items() if cell.state == "locked"}
    cell = next(cell for cell in valid(project) if project.cells.name(cell) in locked)
    recipe = project.recipes.chain(cell, lock)[-1]
    nodes = [
        Node(f"image {number}", partial(_hand_back, recipe=recipe), (), "image") for number in range(count)
    ]
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as workers,
        Namespace.open("127.0.0.1:1/nobody") as namespace,
        cluster(workers.scheduler_address, namespace, Silent()) as site,
    ):
        start = time.perf_counter()
        for ended in run_graph(nodes, site):
            if ended.error:
                raise ended.error
        return (time.perf_counter() - start) / count * 1000


def _hand_back(_place: object, _found: object, *, recipe: Recipe) -> Recipe:
    return recipe


def as_markdown(phases: list[Phase], jobs: int, hand_ms: float) -> str:
    """The results as a page."""
    lines = [
        "# Many cells",
        "",
        "Written by `bench/many_cells.py`, which says what each phase does."
        f" {jobs} jobs; {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| phase | cells | seconds | promoting | a cell | requests | a cell | MB stored | MB of layers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for phase in phases:
        total, each = sum(phase.requests.values()), max(phase.cells, 1)
        lines.append(
            f"| {phase.name} | {phase.cells} | {phase.seconds:.1f} | {sum(phase.promoting):.1f}"
            f" | {phase.seconds / each:.2f} | {total} | {total / each:.1f}"
            f" | {phase.stored / 1e6:.1f} | {phase.unique / 1e6:.1f} |"
        )
    tens = phases[0].promoting[:10], phases[0].promoting[-10:]
    lines += [
        "",
        "Promoting one cell takes, on average, {:.2f} s at first and {:.2f} s at last.".format(
            *(sum(ten) / len(ten) for ten in tens)
        ),
        f"Dask takes {hand_ms:.1f} ms for a node that does nothing, two workers on this machine.",
    ]
    kinds = sorted({kind for phase in phases for kind in phase.requests})
    lines += [
        "",
        "Requests by kind:",
        "",
        f"| phase | {' | '.join(kinds)} |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    for phase in phases:
        counts = " | ".join(str(phase.requests.get(kind, 0)) for kind in kinds)
        lines.append(f"| {phase.name} | {counts} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-cells-") as folder:
        phases = measure(options.cells, options.jobs, Path(folder))
    RESULTS.mkdir(exist_ok=True)
    told = json.dumps([asdict(phase) for phase in phases], indent=1) + "\n"
    (RESULTS / "many_cells.json").write_text(told, encoding="utf-8")
    page = as_markdown(phases, options.jobs, handing_ms())
    (RESULTS / "many_cells.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
