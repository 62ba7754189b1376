"""The main job, measured: `python -m bench.main_job [--rounds 3] [--threads 2]`.

The cell's wheels and Debian packages are there; then in turn, each in a process of its own:

    floor    bench/floor.py: read, inflate and hash those wheels once, on as many threads
    layers   wheels -> layers, by the modules themselves: no bytecode, no image
    build    `build.py --no-load` in a store with the OS layer and no other: wheels -> layers -> OCI image,
             bytecode included

and once: the same build again in the Engine, and a second architecture of the same CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtforge.layers.maker import LayerMaker, work_of
from trtforge.layers.sources import OsSource, WheelSource
from trtforge.progress import Silent
from trtforge.project import Project
from trtforge.store import Store

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
CELL = ("--cuda", "12.8", "--arch", "ampere", "--tensorrt", "rtx")


@dataclass(frozen=True)
class Run:
    """A process: wall seconds, CPU seconds and peak memory (MB, of its largest process)."""

    seconds: float
    cpu: float
    peak_mb: float


def timed(command: list[str], cache: Path) -> tuple[Run, str]:
    """Run `command` with this cache; what it cost and what it printed."""
    environment = {**os.environ, "TRTFORGE_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}\n{printed}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, usage.ru_maxrss / 1024), printed


def only_layers(threads: int) -> None:
    """The `layers` program: the cell's wheel layers into the store of $TRTFORGE_CACHE."""
    project = Project(ROOT)
    sources = [source for source in sources_of(project) if isinstance(source, WheelSource)]
    maker = LayerMaker(project.store, Silent(), 1)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(maker.make, sorted(sources, key=work_of, reverse=True)):
            pass


def sources_of(project: Project) -> list[Any]:
    """What the layers of the cell are made from."""
    (choice,) = project.cells.choose({"cuda": ("12.8",), "arch": ("ampere",), "tensorrt": ("rtx",)})
    return [
        source
        for recipe in project.recipes.chain(choice.cell, project.read_lock())
        for source in recipe.sources.values()
    ]


def empty_store(full: Path, scratch: Path, project: Project) -> Path:
    """A cache with the downloads and the OS layer of `full`, as links, and nothing else."""
    shutil.rmtree(scratch, ignore_errors=True)
    for kind in ("wheels", "debs", "rootfs"):
        shutil.copytree(full / kind, scratch / "store" / kind, copy_function=os.link, symlinks=True)
    (system,) = [source for source in sources_of(project) if isinstance(source, OsSource)]
    layer = Store(full).layer(system.key)
    assert layer is not None
    store = Store(scratch / "store")
    with store.work_folder() as work:
        shutil.copyfile(Store(full).blob(layer.digest), work / "blob")
        store.keep_layer(system.key, work / "blob", layer)
    return scratch


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only-layers", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.only_layers:
        only_layers(options.threads)
        return
    project = Project(ROOT)
    python, build = sys.executable, [sys.executable, "build.py"]
    jobs = ["--jobs", str(options.threads)]
    timed([*build, *CELL, *jobs, "--json"], project.cache)  # whatever is missing is made now
    full, scratch = project.store.root, project.cache / "bench"
    pins = {
        pin.sha256: pin for one in sources_of(project) if isinstance(one, WheelSource) for pin in one.pins
    }
    wheels = [str(project.store.file("wheels", pin.sha256, pin.filename)) for pin in pins.values()]
    programs = {
        "floor": [python, "bench/floor.py", str(options.threads), *wheels],
        "layers": [python, "-m", "bench.main_job", "--only-layers", "--threads", str(options.threads)],
        "build": [*build, *CELL, *jobs, "--no-load", "--json"],
    }
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for _ in range(options.rounds):
        for name, command in programs.items():
            cache = empty_store(full, scratch, project)
            os.sync()
            runs[name].append(timed(command, cache)[0])
    shutil.rmtree(scratch)
    runs["again"] = [timed([*build, *CELL, *jobs, "--json"], project.cache)[0] for _ in range(options.rounds)]
    _, printed = timed(
        [*build, "--cuda", "12.8", "--arch", "turing", "--tensorrt", "rtx", "--json"], project.cache
    )
    made = {one["image"]: one["layers_made"] for one in json.loads(printed)[0]}
    report(options.threads, len(wheels), sum(pin.size or 0 for pin in pins.values()), runs, made)


def report(threads: int, wheels: int, size: int, runs: dict[str, list[Run]], made: dict[str, int]) -> None:
    """Write bench/results/main_job.json and .md."""
    medians = {
        name: Run(
            *(
                statistics.median(values)
                for values in zip(*(asdict(run).values() for run in every), strict=True)
            )
        )
        for name, every in runs.items()
    }
    least = medians["floor"].seconds
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    facts = {
        "machine": machine,
        "threads": threads,
        "wheels": wheels,
        "bytes": size,
        "ratio": {name: round(medians[name].seconds / least, 2) for name in ("layers", "build")},
        "medians": {name: asdict(run) for name, run in medians.items()},
        "runs": {name: [asdict(run) for run in every] for name, every in runs.items()},
        "second_architecture_layers_made": made,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "main_job.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = [
        f"| {name} | {run.seconds:.1f} | {', '.join(f'{one.seconds:.1f}' for one in runs[name])} "
        f"| {run.seconds / least:.2f} | {run.cpu:.1f} | {run.peak_mb:.0f} |"
        for name, run in medians.items()
    ]
    text = f"""\
# The main job

Written by `bench/main_job.py`, which says what each program does. {wheels} wheels, {size / 1e9:.2f} GB;
{threads} threads; {machine}; medians of {len(runs["floor"])} alternated rounds.
`again`: the same build once more, with a loaded Engine.

| program | seconds | of | x floor | CPU seconds | peak MB |
|---|---|---|---|---|---|
{chr(10).join(rows)}

A second architecture of the same CUDA makes {sum(made.values())} new layer: what its smoke tests expect.
"""
    (RESULTS / "main_job.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
