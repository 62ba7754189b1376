"""What the guard adds to a container's start: `python -m bench.guard [--image REF] [--runs N]`.

Two things are timed, in turn so that what disturbs one disturbs the other, and medians are told:

    container   `docker run --rm REF true`, with the image's entry point and with tini alone (TRTFORGE_GUARD
                is no way to compare: `off` starts the guard's Python too)
    process     in one container, `true` started by the guard and by nothing, without Docker's own noise

each without a GPU, and where a stub of NVML shows one that fits: then the guard reads the image's facts.
Where the guard's own time goes is told by `python3 -X importtime`.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.main_job import ROOT
from tests.stub_nvml import stub_nvml
from trtforge.machine import Gpu

RESULTS = ROOT / "bench" / "results"
TARGET_MS = 30

DOCKER = shutil.which("docker", path="/usr/bin") or "docker"
TINI = ["--entrypoint", "/usr/bin/tini"]
NVML = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"

SPAWN = """
import json, os, statistics, subprocess, sys, time
python = ["/usr/bin/python3", "-ISB", "-c", ""]
ways = {"guard": ["/opt/trtforge/guard", "true"], "alone": ["true"], "python": python}
seconds = {way: [] for way in ways}
for _ in range(int(sys.argv[1])):
    for way, command in ways.items():
        start = time.perf_counter()
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
        seconds[way].append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


def docker_run(image: str, options: list[str], command: list[str]) -> str:
    """stdout and stderr of a container."""
    line = [DOCKER, "run", "--rm", "--network", "none", *options, image, *command]
    return subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def starts(image: str, options: list[str], runs: int) -> dict[str, list[float]]:
    """Seconds of each start, with the guard and without."""
    seconds: dict[str, list[float]] = {"guard": [], "alone": []}
    for _ in range(runs):
        for way, more, command in (("guard", [], ["true"]), ("alone", TINI, ["--", "true"])):
            start = time.perf_counter()
            docker_run(image, [*options, *more], command)
            seconds[way].append(time.perf_counter() - start)
    return seconds


def milliseconds(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each way, and what the guard adds: the median of the differences, run by run."""
    medians = {way: statistics.median(times) * 1e3 for way, times in seconds.items()}
    added = [one - other for one, other in zip(seconds["guard"], seconds["alone"], strict=True)]
    return {way: round(ms, 2) for way, ms in (medians | {"added": statistics.median(added) * 1e3}).items()}


def imports(image: str, options: list[str]) -> list[tuple[str, float]]:
    """What the guard imports beyond what Python starts with: module -> its own milliseconds."""
    line = ["-ISB", "-X", "importtime"]
    with_python = [*options, "--entrypoint", "/usr/bin/python3"]
    usual = set(re.findall(r"\| +(\S+)$", docker_run(image, with_python, [*line, "-c", ""]), re.MULTILINE))
    said = docker_run(image, with_python, [*line, "/opt/trtforge/guard", "true"])
    found = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)$", said, re.MULTILINE)
    return [(name, int(us) / 1e3) for us, name in found if name not in usual]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", default="trtforge/tensorrt:cu12.1-ampere")
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    image, runs = arguments.image, arguments.runs
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stub_nvml(Path(folder), "535.104.05", [Gpu(0, "NVIDIA A10", "86")])
        machines = {"no GPU": [], "one that fits": ["--volume", f"{folder}/libnvidia-ml.so.1:{NVML}:ro"]}
        for machine, options in machines.items():
            starts(image, options, 2)
            inside = json.loads(
                docker_run(image, [*options, *TINI], ["--", "python", "-c", SPAWN, str(10 * runs)])
            )
            results[machine] = {
                "container": milliseconds(starts(image, options, runs)),
                "process": milliseconds(inside),
                "imports": imports(image, options),
            }
    RESULTS.mkdir(exist_ok=True)
    told = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "runs": runs,
        "results": results,
    }
    (RESULTS / "guard.json").write_text(json.dumps(told, indent=1) + "\n")
    (RESULTS / "guard.md").write_text(as_markdown(results, runs))
    print((RESULTS / "guard.md").read_text())


def as_markdown(results: dict[str, dict[str, object]], runs: int) -> str:
    lines = [
        "# The guard",
        "",
        "Written by `bench/guard.py`, which says what is timed. Milliseconds, medians of",
        f"{runs} containers and {10 * runs} processes each way, in turn; `added` is the median of the"
        " differences.",
        f"x86_64, 2 cores; the target is under {TARGET_MS} ms added to a container's start.",
        "",
        "| machine | what | with the guard | without | added | Python alone |",
        "|---|---|---|---|---|---|",
    ]
    for machine, found in results.items():
        for what in ("container", "process"):
            ms = found[what]
            assert isinstance(ms, dict)
            row = [machine, what, ms["guard"], ms["alone"], ms["added"], ms.get("python", "")]
            lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    lines += [
        "",
        "What the guard imports beyond what Python starts with (own time, ms, under `-X importtime`):",
        "",
    ]
    for machine, found in results.items():
        modules = found["imports"]
        assert isinstance(modules, list)
        told = ", ".join(f"{name} {ms:.2f}" for name, ms in modules)
        lines.append(f"* {machine}: {told}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
