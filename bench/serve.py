"""The service, measured: `python -m bench.serve [--rounds 3] [--requests 100000] [--results FOLDER]`.

A real `trtkit serve`, a load generator (bench/load.py) and the backend called directly, each in a process of
its own, in turn, on ONNX Runtime's CPU provider with one thread:

    overhead     a trivial model (y = 2 x, 16 floats), one request at a time: what the service adds
    throughput   a network worth batching (four layers, 42 million weights: one row reads them all),
                 64 connections: the service's rows a second over the backend's own best
    memory       the resident memory of the service over many requests of the trivial model

It needs trtkit with its extra `serve`, and onnx.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
CONNECTIONS = 64
BATCHES = (1, 2, 4, 8, 16, 32)
DIRECT = """
import json, sys, time, numpy as np
from pathlib import Path
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
path, width, batch, seconds = sys.argv[1], *map(float, sys.argv[2:])
runner = OnnxRuntimeRunner(Path(path), threads=1)
feeds = {"x": np.ones((int(batch), int(width)), np.float32)}
for _ in range(10): runner.run(feeds)
times, end = [], time.perf_counter() + seconds
while (start := time.perf_counter()) < end:
    runner.run(feeds)
    times.append(time.perf_counter() - start)
times.sort()
print(json.dumps({"p50": times[len(times) // 2] * 1e6, "rows": batch * len(times) / sum(times)}))
"""


@dataclass(frozen=True)
class Results:
    """Microseconds, rows a second, bytes; every list has a value a round."""

    machine: str
    direct_p50: list[float]
    served_p50: list[float]
    direct_rows: dict[int, float]
    best_rows: list[float]
    served_rows: list[float]
    batch_rows: float
    requests: int
    requests_a_second: float
    memory: list[int]


def trivial(path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    _write(path, [node], [], 16, 16)


def worth_batching(path: Path) -> None:
    random, widths = np.random.default_rng(0), (1024, 4096, 4096, 4096, 1000)
    nodes, weights = [], []
    for layer, shape in enumerate(pairwise(widths)):
        values: NDArray[Any] = random.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"h{layer}" if layer else "x", f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"h{layer + 1}"]))
    nodes[-1].output[0] = "y"
    _write(path, nodes, weights, widths[0], widths[-1])


def _write(path: Path, nodes: list[Any], weights: list[Any], width: int, out: int) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
              for name, size in (("x", width), ("y", out))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def request(model: str, width: int) -> bytes:
    """A KServe request with binary data, as it goes over the wire."""
    row = np.ones((1, width), np.float32)
    inputs = [{"name": "x", "shape": [1, width], "datatype": "FP32",
               "parameters": {"binary_data_size": row.nbytes}}]  # fmt: skip
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = header + row.tobytes()
    head = (f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
            f"Inference-Header-Content-Length: {len(header)}\r\n\r\n")  # fmt: skip
    return b"".join((head.encode(), body))


@dataclass(frozen=True)
class Served:
    """A running service."""

    port: str
    pid: int

    def load(self, body: bytes, connections: int, *limit: str) -> dict[str, float]:
        command = [sys.executable, "bench/load.py", "127.0.0.1", self.port, str(connections), *limit]
        printed = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
        told: dict[str, float] = json.loads(printed)
        assert not told["failed"], told
        return told

    def memory(self) -> int:
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def sample(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


@contextmanager
def serving(model: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "trtkit", "serve", str(model), "--port", "0", "--json", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = json.loads(process.stdout.readline())["address"]
        yield Served(address.rsplit(":", 1)[1], process.pid)
    finally:
        process.terminate()
        process.wait()


def direct(model: Path, width: int, batch: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-c", DIRECT, str(model), str(width), str(batch), str(seconds)]
    told: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return told


def measure(folder: Path, rounds: int, requests: int) -> Results:
    small, large = folder / "small.onnx", folder / "large.onnx"
    trivial(small)
    worth_batching(large)
    direct_p50, served_p50 = [], []
    with serving(small) as served:
        served.load(request("small", 16), 1, "--requests", "500")
        for _ in range(rounds):
            direct_p50.append(direct(small, 16, 1, 2)["p50"])
            served_p50.append(served.load(request("small", 16), 1, "--seconds", "4")["p50"])
    rows = {batch: direct(large, 1024, batch, 2)["rows"] for batch in BATCHES}
    best = max(rows, key=lambda batch: rows[batch])
    best_rows, served_rows = [], []
    with serving(large) as served:
        served.load(request("large", 1024), CONNECTIONS, "--requests", "200")
        counted = served.sample("trtkit_batch_rows_sum"), served.sample("trtkit_batch_rows_count")
        for _ in range(rounds):
            best_rows.append(direct(large, 1024, best, 4)["rows"])
            told = served.load(request("large", 1024), CONNECTIONS, "--seconds", "8")
            served_rows.append(told["ok"] / told["seconds"])
        batch_rows = (served.sample("trtkit_batch_rows_sum") - counted[0]) / (
            served.sample("trtkit_batch_rows_count") - counted[1]
        )
    memory = []
    with serving(small) as served:
        start = time.perf_counter()
        for _ in range(10):
            served.load(request("small", 16), CONNECTIONS, "--requests", str(requests // 10))
            memory.append(served.memory())
        a_second = requests / (time.perf_counter() - start)
    return Results(
        machine=machine(),
        direct_p50=direct_p50,
        served_p50=served_p50,
        direct_rows=rows,
        best_rows=best_rows,
        served_rows=served_rows,
        batch_rows=batch_rows,
        requests=requests,
        requests_a_second=a_second,
        memory=memory,
    )


def machine() -> str:
    """The processor, and how many cores of it may be used."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(os.sched_getaffinity(0))
    name = models[0] if models else platform.machine()
    return f"{cores} cores of {name}, Python {platform.python_version()}"


def report(results: Results) -> str:
    median, rounds = statistics.median, len(results.served_rows)
    direct, served = median(results.direct_p50), median(results.served_p50)
    ratio = median(one / other for one, other in zip(results.served_rows, results.best_rows, strict=True))
    best = max(results.direct_rows, key=lambda batch: results.direct_rows[batch])
    batches = "\n".join(f"| {batch} | {rows:.0f} |" for batch, rows in results.direct_rows.items())
    mib = ", ".join(f"{value / 2**20:.1f}" for value in results.memory)
    return f"""# The service, measured

`python -m bench.serve` on {results.machine}.
ONNX Runtime on the CPU with one thread; the service, the load generator and the direct calls are processes of
their own and share these cores. Medians of {rounds} rounds, alternated.

| | directly | through the service | |
|---|---|---|---|
| a trivial model, one request at a time, P50 | {direct:.0f} us | {served:.0f} us | it adds \
{(served - direct) / 1000:.2f} ms (limit: 1 ms) |
| a network worth batching, {CONNECTIONS} connections | {median(results.best_rows):.0f} rows/s in \
batches of {best} | {median(results.served_rows):.0f} rows/s, {results.batch_rows:.1f} rows a run \
| {ratio:.0%} (limit: 85 %) |

What the backend reaches by itself:

| rows of a batch | rows/s |
|---|---|
{batches}

Resident memory of the service over {results.requests} requests, {results.requests_a_second:.0f} a second over
{CONNECTIONS} connections, in MiB after every tenth of them: {mib}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where serve.md and serve.json go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.rounds, arguments.requests)
    text = report(results)
    print(text)
    (arguments.results / "serve.md").write_text(text, encoding="utf-8")
    (arguments.results / "serve.json").write_text(
        json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
