"""`trtkit serve` as a process of its own, on a port that is free."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass
class Running:
    """A service. told: what it said when it started."""

    process: subprocess.Popen[str]
    told: dict[str, Any]
    client: httpx.Client

    @property
    def address(self) -> str:
        """http://127.0.0.1:40001."""
        return str(self.told["address"])

    @property
    def netloc(self) -> str:
        return self.address.removeprefix("http://")

    @property
    def infer(self) -> str:
        """The KServe address of its model."""
        return f"/v2/models/{self.told['model']}/infer"

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels: 'trtkit_requests_total{outcome="ok"}'."""
        lines = self.client.get("/metrics").text.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def memory(self) -> int:
        """Resident bytes of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) << 10

    def stop(self, patience: float = 20) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience)


@contextmanager
def serving(model: Path, *options: str) -> Iterator[Running]:
    """Serve `model` until the block ends."""
    command = [sys.executable, "-m", "trtkit", "serve", str(model), "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"it ended with {process.wait(10)} before it served"
        told = json.loads(line)
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        with httpx.Client(base_url=told["address"], timeout=30, limits=limits) as client:
            yield Running(process, told, client)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(values: list[list[float]], **changes: Any) -> dict[str, Any]:
    """A KServe request in JSON, with changes to its only input."""
    shape = [len(values), len(values[0])]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": values, **changes}]}
