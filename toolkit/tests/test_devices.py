"""The GPUs of a machine, by the real binding over a library that stands in for the driver's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.stub_nvml import stub_nvml
from trtkit.devices import Gpu

GPUS = (
    Gpu(0, "GPU-a", "NVIDIA A10G", "86", 24 << 30, "570.1"),
    Gpu(1, "GPU-b", "NVIDIA RTX PRO 6000 Blackwell", "120", 96 << 30, "570.1"),
)

ASK = """
import json
from dataclasses import asdict
from trtkit.devices import gpus, usage
found = gpus()
told = [usage(gpu) for gpu in found]
print(json.dumps([[asdict(gpu) for gpu in found], [one and asdict(one) for one in told]]))
"""


def ask(environment: Mapping[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_all_gpus_are_told_with_their_capability_and_use(tmp_path: Path) -> None:
    found, used = ask(stub_nvml(tmp_path, GPUS))
    assert found == [asdict(gpu) for gpu in GPUS]
    assert used == [{"utilisation": 87, "memory": gpu.memory // 4} for gpu in GPUS]


def test_a_driver_that_is_not_loaded_is_no_gpu(tmp_path: Path) -> None:
    assert ask(stub_nvml(tmp_path, GPUS, init=9)) == [[], []]


def test_a_driver_that_does_not_say_how_busy_a_gpu_is_gives_no_use(tmp_path: Path) -> None:
    found, used = ask(stub_nvml(tmp_path, GPUS, usage=3))
    assert len(found) == 2
    assert used == [None, None]
