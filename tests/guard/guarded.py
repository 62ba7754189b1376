"""The real guard of an image, run as a container runs it, on a machine that a stub of NVML describes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.conftest import PROJECT
from tests.stub_nvml import stub_nvml
from trtforge.machine import Gpu

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

A100, A10, L4 = Gpu(0, "NVIDIA A100", "80"), Gpu(0, "NVIDIA A10", "86"), Gpu(0, "NVIDIA L4", "89")
H100, THOR = Gpu(0, "NVIDIA H100 80GB HBM3", "90"), Gpu(0, "NVIDIA Thor", "110")

AMPERE: dict[str, Any] = {
    "image": "tensorrt",
    "cuda": "12.1",
    "driver": "525",
    "sm": ["80", "86"],
    "for_sm": {"89": "trtforge/tensorrt:cu12.1-ada", "90": "trtforge/tensorrt:cu12.1-hopper"},
    "for_driver": {"450": "trtforge/tensorrt:cu11.8-ampere"},
}

NO_GPU = "trtforge: no GPU is visible here (docker run --gpus all gives one)"
ALL_THE_SAME = "trtforge: TRTFORGE_GUARD=warn runs the command all the same"


@dataclass(frozen=True)
class Done:
    """How a container's process ended."""

    code: int
    stdout: str
    lines: list[str]


@dataclass
class Guarded:
    """An image's guard in a folder. facts: its image.json; None: it has none. environment: of each start."""

    folder: Path
    facts: dict[str, Any] | None = field(default_factory=lambda: AMPERE)
    source: str = field(default_factory=lambda: (PROJECT / "guard" / "guard.py").read_text(encoding="utf-8"))
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/bin:/bin"})

    def machine(self, *gpus: Gpu, driver: str = "535.104.05", **stub: Any) -> Guarded:
        """Let it run on this machine from now on."""
        self.environment |= stub_nvml(self.folder / "nvml", driver, gpus, **stub)
        return self

    @property
    def program(self) -> Path:
        program = self.folder / "guard"
        program.write_text(self.source, encoding="utf-8")
        program.chmod(0o755)
        if self.facts is not None:
            (self.folder / "image.json").write_text(json.dumps(self.facts))
        return program

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *command],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Sequence[str] = ("echo", "ran"), **environment: str) -> Done:
        with self.start(*command, **environment) as process:
            stdout, stderr = process.communicate(timeout=60)
        return Done(process.returncode, stdout, stderr.splitlines())
