"""PyTorch with and without the GPU code of other GPUs, on a machine with one: `python bench/slim_gpu.py`.

It needs PyTorch for CUDA with what its tests need (expecttest), nvcc and one GPU, but nothing of trtforge's
environment. The installed torch package is laid out twice, file by file; in the second one the libraries that
have GPU code are slimmed for this GPU by trtforge.slim. Then, each in processes of their own:

    sweep     PyTorch's own operator list (OpInfo) x dtypes, forward and backward, same seeds and inputs, bit
              for bit: several times with the original, to know what differs by itself, then with the slimmed
    start     import, start of CUDA, first kernel, memory: medians of fresh processes, in turn
    compile   torch.compile of a small model
    emptied   a library of two kernels, one of them built for another GPU alone: what the runtime says of both

--parts runs some of them alone. bench/results, or the folder that is given, gets slim_gpu.json and .md. The
exit code is 1 if a result differs.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trtforge.slim.errors import NotUnderstood  # noqa: E402
from trtforge.slim.library import slim_library  # noqa: E402

WORKER = ROOT / "bench" / "operator_sweep.py"
PARTS = ("emptied", "sweep", "compile", "start")
ROUNDS, ORIGINALS = 7, 3
LIMIT = 280
"""Seconds for one process."""
KERNELS = """
#include <cuda_runtime.h>
__global__ void NAME(int *p) { *p = VALUE; }
extern "C" int run_NAME(int *error) {
    int *d = 0, h = -1;
    cudaMalloc(&d, 4);
    NAME<<<1, 1>>>(d);
    *error = cudaGetLastError();
    if (!*error) *error = cudaMemcpy(&h, d, 4, cudaMemcpyDeviceToHost);
    return h;
}
"""


def lay_out(work: Path) -> dict[str, Path]:
    """Two folders for PYTHONPATH with a torch of their own; the packages beside it are the installed ones,
    because torch's libraries look for NVIDIA's beside their package."""
    spec = importlib.util.find_spec("torch")
    site = Path((spec and spec.origin) or "").parents[1]
    trees = {name: work / name for name in ("original", "slimmed")}
    for tree in trees.values():
        tree.mkdir()
        for entry in site.iterdir():
            if entry.name == "torch":
                shutil.copytree(entry, tree / "torch", symlinks=True, copy_function=_place)
            elif entry.name != "__pycache__":
                (tree / entry.name).symlink_to(entry)
    return trees


def _place(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def slim(tree: Path, sm: str) -> list[dict[str, Any]]:
    """Slim all libraries of the torch in `tree` that can be; what was done to each."""
    told: list[dict[str, Any]] = []
    for library in sorted(tree.glob("torch/lib/*.so")):
        new = library.with_suffix(".slim")
        began = time.perf_counter()
        try:
            done: dict[str, Any] = asdict(slim_library(library, new, [sm]))
        except NotUnderstood as refused:
            new.unlink(missing_ok=True)
            if ".nv_fatbin" not in refused.reason:
                told.append({"library": library.name, "refused": refused.reason})
            continue
        told.append(done | {"seconds": time.perf_counter() - began})
        library.unlink()  # not written over: it may be the installed file itself
        new.rename(library)
    return told


def worker(tree: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    # Some sample inputs come out of a set of strings: without a seed, each process has them in another order.
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{tree}:{os.environ.get('PYTHONPATH', '')}",
        **settings,
    }
    command = ["timeout", "-s", "KILL", str(LIMIT), sys.executable, str(WORKER), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def sweep(tree: Path, out: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """Case -> result, from `jobs` processes; one that is lost over a case is followed by another."""
    out.mkdir()

    def part(index: int) -> None:
        file = out / f"{index}.jsonl"
        while (
            done := worker(tree, "sweep", str(index), str(jobs), str(file), OMP_NUM_THREADS="1")
        ).returncode:
            case = file.with_suffix(".now")
            if not case.exists():  # it did not come to its first case: a package is missing, say
                raise SystemExit(f"the sweep does not start:\n{done.stderr[-2000:]}")
            now = case.read_text()
            lines = file.read_text().splitlines() if file.exists() else []
            if not lines or json.loads(lines[-1])["case"] != now:
                with file.open("a") as results:
                    print(json.dumps({"case": now, "crashed": done.returncode}), file=results)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(part, range(jobs)))
    lines = (line for file in sorted(out.glob("*.jsonl")) for line in file.read_text().splitlines())
    return {case.pop("case"): case for case in map(json.loads, lines)}


def swept(
    trees: dict[str, Path], work: Path, jobs: int
) -> tuple[list[dict[str, dict[str, Any]]], dict[str, dict[str, Any]]]:
    """What the original says, several times, and the slimmed one."""
    runs: list[dict[str, dict[str, Any]]] = []
    for name in (*["original"] * ORIGINALS, "slimmed"):
        began = time.perf_counter()
        runs.append(sweep(trees[name], work / f"run{len(runs)}", jobs))
        print(name, len(runs[-1]), f"{time.perf_counter() - began:.0f} s", flush=True)
    return runs[:-1], runs[-1]


def compiled(trees: dict[str, Path], work: Path) -> dict[str, Any]:
    """What torch.compile makes of a small model with each."""
    told = {}
    for name, tree in trees.items():
        done = worker(tree, "compile", TORCHINDUCTOR_CACHE_DIR=str(work / f"inductor-{name}"))
        told[name] = json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-500:]}
    return told


def compare(originals: list[dict[str, Any]], slimmed: dict[str, Any]) -> dict[str, Any]:
    """What the sweep says.

    Only cases that gave a result count. Of an operator that differs between runs of the original, in any
    dtype, none is compared: it adds in whatever order (torch.use_deterministic_algorithms lists such).
    """
    first, *others = originals
    ran = sorted(name for name, case in first.items() if case.get("samples"))
    own = [name for name in ran if any(first[name] != other.get(name) for other in others)]
    unsteady = {name.split()[0] for name in own}
    stable = [name for name in ran if name.split()[0] not in unsteady]
    return {
        "cases": len(first),
        "ran": len(ran),
        "operators": len({name.split()[0] for name in ran}),
        "samples": sum(first[name]["samples"] for name in ran),
        "with_backward": sum("backward" in first[name] for name in stable),
        "compared": len(stable),
        "differ_by_themselves": own,
        "refused_all_samples": sorted(name for name in first if name not in set(ran)),
        "refused_otherwise": [
            name for name in first if not first[name].get("samples") and first[name] != slimmed.get(name)
        ],
        "differences": [name for name in stable if first[name] != slimmed.get(name)],
    }


def starts(trees: dict[str, Path], rounds: int) -> dict[str, dict[str, float]]:
    """Medians of fresh processes; the trees take turns, after one process each that is not counted."""
    found: dict[str, list[dict[str, float]]] = {}
    for turn in range(rounds + 1):
        for loading in ("LAZY", "EAGER"):
            for name, tree in trees.items():
                done = worker(tree, "start", CUDA_MODULE_LOADING=loading)
                if turn:
                    found.setdefault(f"{name} {loading}", []).append(json.loads(done.stdout))
    return {
        name: {key: statistics.median(one[key] for one in rows) for key in rows[0]}
        for name, rows in found.items()
    }


def emptied(work: Path, sm: str) -> dict[str, Any]:
    """What two kernels answer before and after, one of them built for another architecture alone."""
    sources = {"here": (1, sm), "elsewhere": (2, "80" if sm != "80" else "90")}
    objects = []
    for name, (value, target) in sources.items():
        source = work / f"{name}.cu"
        source.write_text(KERNELS.replace("NAME", name).replace("VALUE", str(value)))
        objects.append(str(source.with_suffix(".o")))
        code = f"arch=compute_{target},code=sm_{target}"
        others = ["-gencode", "arch=compute_100,code=sm_100"]  # enough that a page becomes free
        subprocess.run(
            ["nvcc", "-c", "-Xcompiler", "-fPIC", "-gencode", code, *others, str(source), "-o", objects[-1]],
            check=True,
        )
    library, new = work / "kernels.so", work / "kernels-slim.so"
    subprocess.run(["nvcc", "-shared", "-nodlink", *objects, "-o", str(library)], check=True)
    told: dict[str, Any] = {"slimmed": asdict(slim_library(library, new, [sm]))}
    for label, file in (("before", library), ("after", new)):
        loaded = ctypes.CDLL(str(file))
        told[label] = {}
        for name in sources:
            error = ctypes.c_int(-1)
            told[label][name] = {
                "value": getattr(loaded, f"run_{name}")(ctypes.byref(error)),
                "error": error.value,
            }
    return told


def report(told: dict[str, Any]) -> str:
    """The results for people."""
    lines = ["# PyTorch slimmed for its GPU", "", told["where"], ""]
    lines += ["| library | before, MB | after, MB | kept | seconds |", "|---|---|---|---|---|"]
    for one in told["libraries"]:
        if "refused" in one:
            lines.append(f"| {one['library']} | as it is | | {one['refused']} | |")
        else:
            kept = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in one["kept"].items())
            sizes = f"{one['before'] / 1e6:.1f} | {one['after'] / 1e6:.1f}"
            lines.append(f"| {one['library']} | {sizes} | {kept} | {one['seconds']:.1f} |")
    if "start" in told:
        heads = "import, s", "CUDA, s", "first kernel, ms", "RSS, MiB", "of files, MiB", "GPU, MiB"
        lines += ["", f"| fresh process, median | {' | '.join(heads)} |", "|---" * 7 + "|"]
        for name, row in told["start"].items():
            times = f"{row['import_s']:.2f} | {row['cuda_init_s']:.2f} | {row['first_kernel_s'] * 1e3:.0f}"
            memory = f"{row['rss_mib']:.0f} | {row['rss_file_mib']:.0f} | {row['gpu_mib']:.0f}"
            lines.append(f"| {name} | {times} | {memory} |")
    for part in ("compile", "emptied"):
        if part in told:
            lines += ["", f"{part}: `{json.dumps(told[part])}`"]
    if "sweep" in told:
        lines += ["", *_swept(told["sweep"])]
    return "\n".join(lines) + "\n"


def _swept(found: dict[str, Any]) -> list[str]:
    own, none, other = (
        found[key] for key in ("differ_by_themselves", "refused_all_samples", "refused_otherwise")
    )
    return [
        f"Tried: {found['cases']} operators x dtypes. {found['ran']} gave results, of {found['operators']}",
        f"operators and {found['samples']} sample inputs. The other {len(none)} gave none with the original",
        f"library either; the slimmed one says the same of all but {len(other)} of those.",
        "",
        f"{len(own)} differ between runs of the original, and no dtype of these operators is compared: "
        f"{', '.join(own)}.",
        "",
        f"{found['with_backward']} of those that are compared have gradients.",
        "",
        *(f"DIFFERS: {name}" for name in (*found["differences"], *other)),
        f"{found['compared']} operators x dtypes, {len(found['differences'])} differences",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "bench" / "results")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    import torch  # type: ignore[import-not-found, unused-ignore]

    sm = "".join(map(str, torch.cuda.get_device_capability()))
    where = (
        f"torch {torch.__version__}, {torch.cuda.get_device_name()}, SM {sm}, Python {sys.version.split()[0]}"
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        trees = lay_out(work)
        told: dict[str, Any] = {"where": where, "libraries": slim(trees["slimmed"], sm)}
        print(json.dumps(told), flush=True)
        if "emptied" in options.parts:
            told["emptied"] = emptied(work, sm)
        if "sweep" in options.parts:
            told["sweep"] = compare(*swept(trees, work, options.jobs))
        if "compile" in options.parts:
            told["compile"] = compiled(trees, work)
        if "start" in options.parts:
            told["start"] = starts(trees, options.rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "slim_gpu.json").write_text(json.dumps(told, indent=1) + "\n")
    (options.out / "slim_gpu.md").write_text(report(told))
    print(report(told))
    found = told.get("sweep", {})
    return 1 if found.get("differences") or found.get("refused_otherwise") else 0


if __name__ == "__main__":
    sys.exit(main())
