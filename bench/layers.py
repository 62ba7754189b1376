"""How long wheels take to become layers, against the least that any such tool must do.

    python bench/layers.py WHEELS [--threads 2] [--rounds 3]

WHEELS is a folder of wheels, for instance filled by `pip download`. Two programs run alternately, each in a
process of its own over the same wheels, largest first, on the same number of threads:

    floor    reads, inflates and hashes: sha256 of each wheel, sha256 of what is in it
    layers   `trtforge.layers.wheel_layer`: the above, RECORD's hashes, CRCs, the layer hashed and written

The median of the rounds counts. Results go to bench/results/layers.json and layers.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trtforge.layers.install_target import InstallTarget
from trtforge.layers.wheel_archive import WheelArchive
from trtforge.layers.wheel_layer import wheel_layer

RESULTS = Path(__file__).parent / "results"


def floor(wheel: Path, _work: Path) -> dict[str, int]:
    """Read, inflate, hash."""
    content = hashlib.sha256()
    unpacked = 0
    with WheelArchive(wheel) as archive:
        for member in archive.members.values():
            for piece in archive.pieces(member):
                content.update(piece.plain)
                unpacked += len(piece.plain)
        archive.sha256()
    return {"read": wheel.stat().st_size, "unpacked": unpacked, "written": 0}


def layers(wheel: Path, work: Path) -> dict[str, int]:
    """Make the layer."""
    with (work / wheel.name).open("wb") as out:
        layer = wheel_layer([wheel], InstallTarget("3.11"), out)
    (work / wheel.name).unlink()
    return {"read": wheel.stat().st_size, "unpacked": layer.unpacked, "written": layer.size}


PROGRAMS = {"floor": floor, "layers": layers}


def run(program: str, wheels: list[Path], threads: int, work: Path) -> dict[str, float]:
    """Run one program over `wheels`; seconds, bytes and the process's peak memory."""
    ordered = sorted(wheels, key=lambda wheel: wheel.stat().st_size, reverse=True)
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(lambda wheel: PROGRAMS[program](wheel, work), ordered))
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        **{key: sum(one[key] for one in done) for key in ("read", "unpacked", "written")},
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("wheels", type=Path)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), help="where layers are written"
    )
    arguments.add_argument("--only", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    wheels = list(options.wheels.glob("*.whl"))
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        if options.only:
            json.dump(run(options.only, wheels, options.threads, Path(work)), sys.stdout)
            return
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in PROGRAMS}
    for _ in range(options.rounds):
        for program in PROGRAMS:
            again = [sys.executable, __file__, *sys.argv[1:], "--only", program]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
            runs[program].append(
                json.loads(subprocess.run(again, env=environment, capture_output=True, check=True).stdout)
            )
    report(wheels, options.threads, runs)


def report(wheels: list[Path], threads: int, runs: dict[str, list[dict[str, float]]]) -> None:
    """Write the results, as JSON and as a table."""
    medians = {
        program: {key: statistics.median(one[key] for one in every) for key in every[0]}
        for program, every in runs.items()
    }
    ratio = medians["layers"]["seconds"] / medians["floor"]["seconds"]
    facts = {
        "wheels": len(wheels),
        "threads": threads,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "ratio": round(ratio, 3),
        "medians": medians,
        "runs": runs,
    }
    least = medians["floor"]
    what = f"{len(wheels)} wheels, {least['read'] / 1e9:.2f} GB, {least['unpacked'] / 1e9:.2f} GB unpacked"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "layers.json").write_text(json.dumps(facts, indent=1) + "\n")
    lines = [
        "# Wheels to layers",
        "",
        f"Written by `bench/layers.py`, which says what is compared. {what}; {threads} threads; "
        f"{facts['machine']}; median of {len(runs['floor'])} alternated rounds.",
        "",
        "| program | seconds | of | CPU seconds | peak memory | written |",
        "|---|---|---|---|---|---|",
    ]
    for program, median in medians.items():
        every = ", ".join(f"{one['seconds']:.1f}" for one in runs[program])
        lines.append(
            f"| {program} | {median['seconds']:.1f} | {every} | {median['cpu_seconds']:.1f} "
            f"| {median['peak_mib']:.0f} MiB | {median['written'] / 1e9:.2f} GB |"
        )
    lines += ["", f"Making the layers takes {ratio:.2f} times as long as the floor.", ""]
    (RESULTS / "layers.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
