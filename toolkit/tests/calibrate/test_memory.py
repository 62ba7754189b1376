"""Memory does not grow with the number of samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.calibrate import networks

MEASURE = """
import resource, sys
from pathlib import Path
from trtkit.calibrate import CalibrateOptions, calibrate
network, data, samples = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calibrate(network, network.with_suffix(".int8.onnx"), CalibrateOptions(data, samples=samples, evaluate=10))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_twenty_times_the_samples_take_no_more_memory(tmp_path: Path) -> None:
    """Every sample has 3 MiB of activations: kept, those of 200 would be 600 MiB."""
    network = networks.write_network(
        tmp_path / "n.onnx",
        """n (float[b,3,128,128] x) => (float[b,4] y) {
          c = Conv<pads=[1,1,1,1]>(x, w0)
          r = Relu(c)
          d = Conv<pads=[1,1,1,1]>(r, w1)
          s = Relu(d)
          p = GlobalAveragePool(s)
          f = Flatten(p)
          y = MatMul(f, w2)
        }""",
        w0=(24, 3, 3, 3), w1=(24, 24, 3, 3), w2=(24, 4),
    )  # fmt: skip
    data = tmp_path / "data"
    data.mkdir()
    for index in range(220):
        np.save(
            data / f"{index}.npy", np.random.default_rng(index).standard_normal((3, 128, 128), np.float32)
        )
    few, many = (peak(network, data, samples) for samples in (10, 200))
    assert many < few + 40 * 1024


def peak(network: Path, data: Path, samples: int) -> int:
    """KiB, of a process of its own."""
    command = [sys.executable, "-c", MEASURE, str(network), str(data), str(samples)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
