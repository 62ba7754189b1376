"""TensorRT 10's calibrators: made from the real bindings where those can be had; refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bindings.installed import Bindings, install, listed, make_stubs
from tests.calibrate import networks
from trtkit.calibrate import CalibrateOptions, calibrate_in_tensorrt, trt_calibrator
from trtkit.errors import RequestError
from trtkit.flavour import find_tensorrt

MAKE = """
import json, sys
import numpy as np
import tensorrt
from pathlib import Path
from trtkit.calibrate import trt_calibrator
from trtkit.errors import RequestError
from trtkit.flavour import find_tensorrt

class Samples:
    iterated = 0
    def __iter__(self):
        Samples.iterated += 1
        return iter([{"x": np.zeros((2, 4), np.float32)}])

found = find_tensorrt()
cache = Path("CACHE")
told = {}
output, sys.stdout = sys.stdout, sys.stderr  # polygraphy prints what it does
for method, base in (("entropy", "IInt8EntropyCalibrator2"), ("minmax", "IInt8MinMaxCalibrator")):
    made = trt_calibrator(Samples(), cache, method, found)
    assert isinstance(made, getattr(tensorrt, base))
    assert made.read_calibration_cache() is None
    made.write_calibration_cache(memoryview(b"TRT-scales"))
    assert cache.read_bytes() == b"TRT-scales"
    again = trt_calibrator(Samples(), cache, method, found)
    assert again.read_calibration_cache() == b"TRT-scales"
    cache.unlink()
    told[method] = str(made.get_algorithm())
try:
    trt_calibrator(Samples(), None, "percentile", found)
except RequestError as error:
    told["percentile"] = error.problem
told["iterated"] = Samples.iterated
print(json.dumps(told), file=output)
"""


@pytest.fixture(scope="module")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> list[Bindings]:
    """The oldest and the newest of TensorRT 10."""
    folder = tmp_path_factory.mktemp("bindings")
    stubs = make_stubs(folder / "stubs")
    ten = [(flavour, version) for flavour, version in listed() if version.startswith("10.")]
    return [install(*one, folder / one[1], stubs) for one in (ten[0], ten[-1])]


@pytest.mark.packages
def test_they_are_made_of_the_real_bindings(bindings: list[Bindings], tmp_path: Path) -> None:
    for one in bindings:
        told = one.run("-c", MAKE.replace("CACHE", str(tmp_path / "scales.cache")))
        assert "ENTROPY_CALIBRATION_2" in told["entropy"]
        assert "MINMAX" in told["minmax"]
        assert "percentile" in told["percentile"]
        assert told["iterated"] == 4


class TestRefused:
    def test_where_tensorrt_has_none(self) -> None:
        found = find_tensorrt()
        assert not found.calibrates, "this machine has TensorRT 10: the test is for others"
        with pytest.raises(RequestError) as raised:
            trt_calibrator([], None, "entropy", found)
        assert "no calibrators" in raised.value.problem
        assert "trtkit calibrate" in (raised.value.fact("next") or "")

    def test_before_anything_is_read(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((2, 8), np.float32))
        network = networks.classifier(tmp_path / "n.onnx")
        options = CalibrateOptions(str(tmp_path / "x.npy"), cache=tmp_path / "cache")
        with pytest.raises(RequestError, match="no calibrators"):
            calibrate_in_tensorrt(network, options)
        assert not (tmp_path / "cache").exists()
