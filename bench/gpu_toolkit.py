"""trtkit on a machine with an NVIDIA GPU: `PYTHONPATH=toolkit python bench/gpu_toolkit.py OUT`.

It needs what trtkit needs, PyTorch among it, but neither trtforge nor TensorRT. In turn, each in a process of
its own with a time limit, so that none takes another down:

    usage    NVML's numbers against a load that is known: idle, then matrix products for two seconds
    export   torchvision ResNet-50 on the GPU to ONNX, compared with PyTorch at three batch sizes
    bench    all rows that run here, at batches 1, 4, 8 and 32
    int8     calibration on images made here, and what INT8 costs against FP32
    service  `trtkit serve` with that network: requests, then its metrics with the GPU's gauges
    tests    toolkit/tests/runners and the benchmark's own, which find the GPU

OUT gets toolkit_gpu.json (everything), toolkit_gpu.md, and the benchmark as bench.json, bench.md, bench.svg.
"""

# mypy: disable-error-code="import-not-found"
# trtkit and PyTorch are not in trtforge's environment, and need not be.

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TOOLKIT = Path(__file__).resolve().parents[1] / "toolkit"
MODEL = "torchvision:resnet50"
BATCHES = (1, 4, 8, 32)
IMAGES = 300


@dataclass(frozen=True)
class Job:
    """Where a section works, and where the results go."""

    out: Path
    work: Path
    rounds: int
    seconds: float

    @property
    def onnx(self) -> Path:
        return self.work / "resnet50.onnx"


def usage(job: Job) -> dict[str, Any]:  # noqa: ARG001
    """Utilisation and memory as trtkit.devices tells them, idle and under a load."""
    import torch
    from trtkit.bench.machine import look
    from trtkit.bench.usage import memory_in_use, utilisation

    machine = look()
    assert machine.gpu is not None, "no GPU"
    with utilisation(machine.gpu) as idle:
        time.sleep(1.5)
    before = memory_in_use(machine.gpu)
    one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    held = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    with utilisation(machine.gpu) as busy:
        end = time.perf_counter() + 2
        while time.perf_counter() < end:
            for _ in range(20):
                one @ one
            torch.cuda.synchronize()
    after = memory_in_use(machine.gpu)
    free, total = torch.cuda.mem_get_info()
    assert before is not None
    assert after is not None
    result = {
        "machine": machine.model_dump(),
        "idle_utilisation": idle,
        "busy_utilisation": busy,
        "memory_before": before,
        "memory_after": after,
        "cuda_memory_in_use": total - free,
        "checks": {
            # NVML tells the sample period before: the first readings are still idle.
            "a busy GPU reads above 80 %": min(busy[len(busy) // 2 :], default=0) > 80,
            "an idle one below 20 %": max(idle, default=100) < 20,
            "2 GiB that were taken are seen": after - before > held.numel(),
            "NVML's memory is CUDA's within 1 GiB": abs(after - (total - free)) < 1 << 30,
            "its total is CUDA's within 2 GiB": abs(machine.gpu.memory - total) < 2 << 30,
        },
    }
    say(f"idle {idle}, busy {busy}")
    return result


def export(job: Job) -> dict[str, Any]:
    """The ONNX file that all later sections use."""
    from trtkit.devices import gpus
    from trtkit.export import ExportOptions, export_onnx

    options = ExportOptions.model_validate({"device": "cuda", "batches": (1, 4, 8)})
    report = export_onnx(MODEL, job.onnx, options)
    return {"report": report.model_dump(), "checks": {"exported on the GPU": report.device == gpus()[0].name}}


def bench(job: Job) -> dict[str, Any]:
    """All rows; TensorRT's say why they are skipped."""
    from trtkit.bench import BenchOptions, run_bench
    from trtkit.bench.plot import write_plot
    from trtkit.bench.table import markdown

    options = BenchOptions(
        model=MODEL,
        onnx=job.onnx,
        batches=BATCHES,
        rounds=job.rounds,
        round_seconds=job.seconds,
        warm_up_seconds=3,
    )
    report = run_bench(options, say)
    (job.out / "bench.json").write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    (job.out / "bench.md").write_text(markdown(report), "utf-8")
    write_plot(report, job.out / "bench.svg")
    print(markdown(report), flush=True)
    ran = {row.title for row in report.rows if row.status == "ran"}
    return {
        "rows": {row.title: [row.status, row.reason] for row in report.rows},
        "checks": {
            "no row failed": all(row.status != "failed" for row in report.rows),
            "PyTorch's four rows ran": len([title for title in ran if "orch" in title]) == 4,
            "outputs agree": all(not it.disagreement for row in report.rows for it in row.batches),
            "no row leaks GPU memory": not any(
                it.gpu_memory and it.gpu_memory.grows for row in report.rows for it in row.batches
            ),
        },
    }


def int8(job: Job) -> dict[str, Any]:
    """Accuracy of INT8 (explicit Q/DQ) against FP32."""
    from trtkit.calibrate import CalibrateOptions, calibrate

    say(f"making {IMAGES} images")
    folder = images(job.work / "images")
    options = CalibrateOptions(data=str(folder), samples=200, evaluate=100)
    report = calibrate(job.onnx, job.work / "resnet50.int8.onnx", options)
    return {"report": report.model_dump(), "checks": {"layers were quantised": report.quantised > 0}}


def service(job: Job) -> dict[str, Any]:
    """The service's answers, and the GPU among its metrics."""
    import numpy as np

    command = [sys.executable, "-m", "trtkit", "serve", str(job.onnx), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            say(f"{started}")
            address = started["address"].rstrip("/")
            body = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32).tobytes()
            url = f"{address}/infer?shape=2x3x224x224"
            headers = {"content-type": "application/octet-stream"}
            statuses = []
            for _ in range(20):
                with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
                    statuses.append(answer.status)
                    given = len(answer.read())
            with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
                metrics = answer.read().decode()
        finally:
            process.terminate()
            process.wait(30)
    gauges = [line for line in metrics.splitlines() if line.startswith("trtkit_gpu")]
    print("\n".join(gauges), flush=True)
    return {
        "started": started,
        "gauges": gauges,
        "metrics": metrics,
        "checks": {
            "20 requests were answered": statuses == [200] * 20,
            "with all outputs": given == 2 * 1000 * 4,
            "and counted": re.search(r'trtkit_requests_total\{outcome="ok"\} 20', metrics) is not None,
            "the GPU is among the metrics": bool(gauges),
            "it ended with 0": process.returncode == 0,
        },
    }


def tests(job: Job) -> dict[str, Any]:  # noqa: ARG001
    """The tests that use a GPU where there is one."""
    chosen = ("tests/runners", "tests/bench/test_contender.py", "tests/bench/test_torch_rows.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    ended = subprocess.run(command, cwd=TOOLKIT, capture_output=True, text=True, check=False)
    print(ended.stdout[-6000:], flush=True)
    last = ended.stdout.strip().splitlines()[-1:]
    return {"output": ended.stdout[-6000:], "checks": {f"pytest: {''.join(last)}": ended.returncode == 0}}


SECTIONS: dict[str, tuple[Callable[[Job], dict[str, Any]], int]] = {
    "usage": (usage, 60),
    "export": (export, 90),
    "bench": (bench, 330),
    "int8": (int8, 120),
    "service": (service, 60),
    "tests": (tests, 120),
}
"""A section -> what it does, and the seconds it may take."""


def images(folder: Path) -> Path:
    """Pictures with areas, edges and noise, the same every time."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8).astype(np.uint8))
        picture = np.asarray(coarse.resize((256, 256), Image.Resampling.BICUBIC), np.float32)
        picture += random.normal(0, 12, picture.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=90)
    return folder


def say(text: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


def run_section(name: str, job: Job, arguments: list[str]) -> dict[str, Any]:
    """A section in its own process; what it found, or how it ended."""
    print(f"== {name}", flush=True)
    result, limit = job.work / f"{name}.json", SECTIONS[name][1]
    command = [sys.executable, __file__, *arguments, "--work", str(job.work), "--section", name]
    start = time.perf_counter()
    try:
        code: int | str = subprocess.run(command, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        code = f"more than {limit} s"
    found = (
        json.loads(result.read_text("utf-8"))
        if result.exists()
        else {"checks": {f"ended with {code}": False}}
    )
    found["seconds"] = round(time.perf_counter() - start, 1)
    for check, held in found["checks"].items():
        print(f"  {'ok  ' if held else 'FAIL'} {check}", flush=True)
    print(f"  {found['seconds']} s", flush=True)
    return found


def summary(found: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "# trtkit on a GPU",
        "",
        "Written by `bench/gpu_toolkit.py`, which says what each section does.",
        "",
    ]
    machine = found.get("usage", {}).get("machine")
    if machine:
        gpu, cpu = machine["gpu"], f"{machine['cpu']}, {machine['cores']} cores"
        lines += [
            f"{gpu['name']}, SM{gpu['sm']}, driver {gpu['driver']}; {cpu}.",
            "",
        ]
    lines += ["| section | check | held |", "|---|---|---|"]
    for name, section in found.items():
        lines += [
            f"| {name} | {check} | {'yes' if held else '**no**'} |"
            for check, held in section["checks"].items()
        ]
    return "\n".join([*lines, "", "The benchmark itself is in bench.md.", ""])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--only", default=",".join(SECTIONS), help="sections, as usage,export")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--seconds", type=float, default=0.6)
    arguments.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--section", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = options.work or Path(tempfile.mkdtemp(prefix="gpu-toolkit-"))
    job = Job(out, work, options.rounds, options.seconds)
    if options.section:
        result = SECTIONS[options.section][0](job)
        (work / f"{options.section}.json").write_text(json.dumps(result, default=str), "utf-8")
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOOLKIT), os.environ.get("PYTHONPATH")]))
    passed = [str(out), "--rounds", str(job.rounds), "--seconds", str(job.seconds)]
    found: dict[str, dict[str, Any]] = {}
    try:
        for name in options.only.split(","):
            found[name] = run_section(name, job, passed)
            # After each, so that what was found is there whatever the next one does.
            (out / "toolkit_gpu.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
            (out / "toolkit_gpu.md").write_text(summary(found), "utf-8")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not all(held for section in found.values() for held in section["checks"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
