"""Running an engine: without a GPU, what is said; with CUDA and TensorRT stood in for, what is done.

No GPU and no full TensorRT has run this here; that every symbol exists in each release is checked elsewhere.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version

from tests.runners.stand_in import ROWS, Cuda, Engine, TensorRT
from trtkit import cuda
from trtkit.devices import NO_GPU, Gpu, gpus
from trtkit.errors import EnvironmentLack, RequestError, WorkFailed
from trtkit.fit import EngineDoesNotFit
from trtkit.flavour import TensorRT as Here
from trtkit.flavour import find_tensorrt
from trtkit.runners import engine as engines
from trtkit.runners.engine import LoadedEngine
from trtkit.runners.tensorrt import TensorRTRunner
from trtkit.sidecar import Sidecar, file_sha256, write_sidecar
from trtkit.tensors import ShapeRange, TensorSpec

GPU = Gpu(0, "GPU-0", "a GPU", "86", 8 << 30, "580")


def engine_file(folder: Path, content: bytes = b"an engine", **changes: Any) -> Path:
    engine = folder / "m.fp16.engine"
    engine.write_bytes(content)
    facts: dict[str, Any] = {
        "engine_sha256": file_sha256(engine), "onnx_sha256": "", "flavour": "tensorrt", "sms": ("86",),
        "tensorrt_version": TensorRT.__version__, "precision": "fp16", "inputs": (), "outputs": (),
        "workspace": 0, "trtkit": "0",
    }  # fmt: skip
    write_sidecar(Sidecar(**{**facts, **changes}), engine)
    return engine


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> TensorRT:
    """TensorRT 10.13 on an SM 86, stood in for."""
    trt = TensorRT(Cuda())
    monkeypatch.setattr(cuda, "_runtime", lambda: trt.cuda)
    monkeypatch.setattr(engines, "current_gpu", lambda: GPU)
    monkeypatch.setattr(engines, "find_tensorrt", lambda: Here("tensorrt", Version(trt.__version__), trt))
    return trt


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    find_tensorrt()  # so that it is not TensorRT that is missing
    with pytest.raises(EnvironmentLack, match=NO_GPU):
        TensorRTRunner(engine_file(tmp_path))


def test_the_lean_runtime_runs_a_version_compatible_engine_and_has_no_plugins(
    tmp_path: Path, trt: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here("tensorrt", Version(trt.__version__), trt, lean=True)
    monkeypatch.setattr(engines, "find_tensorrt", lambda: here)
    monkeypatch.delattr(TensorRT, "TensorFormat")
    with pytest.raises(EngineDoesNotFit):
        TensorRTRunner(engine_file(tmp_path))
    runner = TensorRTRunner(engine_file(tmp_path, version_compatible=True))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(runner.run({"x": x})["twice"], 2 * x)
    assert not trt.plugins
    monkeypatch.setattr(Engine, "described", "Two wide channel vectorized row major FP16 format")
    with pytest.raises(RequestError, match="can be neither fed nor read") as refused:
        TensorRTRunner(engine_file(tmp_path, version_compatible=True))
    assert "its layout is Two wide" in refused.value.text()


def test_outputs_are_right_at_every_size_and_shapes_that_the_values_decide(
    tmp_path: Path, trt: TensorRT
) -> None:
    runner = TensorRTRunner(engine_file(tmp_path))
    assert runner.name == "TensorRT FP16"
    assert runner.inputs == (TensorSpec("x", "float32", (-1, 3)),)
    assert [spec.name for spec in runner.outputs] == ["twice", "positive"]
    assert runner.profile == {"x": ShapeRange((1, 3), (2, 3), (ROWS, 3))}
    assert trt.plugins
    kept = []
    for rows in (1, ROWS, 2):
        x = np.random.default_rng(rows).standard_normal((rows, 3), np.float32)
        kept.append((x, runner.run({"x": x})))
    for x, outputs in kept:  # results are copies: later runs do not change them
        np.testing.assert_array_equal(outputs["twice"], 2 * x)
        np.testing.assert_array_equal(outputs["positive"], x[x > 0])
    assert runner.run({"x": -np.ones((1, 3), np.float32)})["positive"].shape == (0,)


def test_a_run_on_the_device_can_be_repeated(tmp_path: Path, trt: TensorRT) -> None:
    runner = TensorRTRunner(engine_file(tmp_path))
    again = runner.resident({"x": np.ones((2, 3), np.float32)})
    again(), again()
    assert not trt.cuda.queued


def test_several_runners_share_an_engine_and_nothing_else(tmp_path: Path, trt: TensorRT) -> None:
    loaded = LoadedEngine(engine_file(tmp_path))
    first, second = TensorRTRunner(loaded), TensorRTRunner(loaded)
    assert trt.contexts == 2
    first.close()
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(second.run({"x": x})["twice"], 2 * x)


def test_closing_frees_everything(tmp_path: Path, trt: TensorRT) -> None:
    TensorRTRunner(engine_file(tmp_path)).close()
    assert not trt.cuda.alive


@pytest.mark.usefixtures("trt")
def test_an_engine_that_tensorrt_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"cannot load m\.fp16\.engine") as caught:
        LoadedEngine(engine_file(tmp_path, b"something else"))
    assert caught.value.fact("because") == "the magic tag does not match"


@pytest.mark.usefixtures("trt")
def test_an_engine_for_another_gpu_is_not_even_loaded(tmp_path: Path) -> None:
    with pytest.raises(EngineDoesNotFit):
        LoadedEngine(engine_file(tmp_path, sms=("75",)))


def test_a_failed_run_is_told_with_tensorrts_words_and_the_runner_goes_on(
    tmp_path: Path, trt: TensorRT
) -> None:
    runner = TensorRTRunner(engine_file(tmp_path))
    x = np.ones((1, 3), np.float32)
    trt.failing = "the tactic failed"
    with pytest.raises(WorkFailed) as caught:
        runner.run({"x": x})
    assert caught.value.fact("because") == "the tactic failed"
    assert not isinstance(caught.value, cuda.DeviceLost)
    trt.failing = ""
    np.testing.assert_array_equal(runner.run({"x": x})["twice"], 2 * x)


@pytest.mark.parametrize("failing", ["", "enqueue failed"])
def test_a_gpu_that_is_lost_in_a_run_is_told_as_that(tmp_path: Path, trt: TensorRT, failing: str) -> None:
    runner = TensorRTRunner(engine_file(tmp_path))
    trt.cuda.lost, trt.failing = True, failing
    with pytest.raises(cuda.DeviceLost):
        runner.run({"x": np.ones((1, 3), np.float32)})
    runner.close()


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("kind", TensorRT.DataType.FP8, "its type is FP8"),
        ("location", TensorRT.TensorLocation.HOST, "shapes"),
        ("layout", TensorRT.TensorFormat.CHW2, "CHW2"),
    ],
)
def test_tensors_that_cannot_be_fed_are_refused(
    tmp_path: Path, trt: TensorRT, attribute: str, value: object, told: str
) -> None:
    loaded = LoadedEngine(engine_file(tmp_path))
    setattr(loaded.engine, attribute, value)
    with pytest.raises(RequestError, match="neither fed nor read") as caught:
        TensorRTRunner(loaded)
    assert told in caught.value.text()
    assert not trt.cuda.alive


def test_a_profile_that_is_not_there_is_told(tmp_path: Path, trt: TensorRT) -> None:
    with pytest.raises(RequestError, match="no optimisation profile 1"):
        TensorRTRunner(engine_file(tmp_path), profile_index=1)
    assert not trt.cuda.alive


@pytest.mark.usefixtures("trt")
def test_it_runs_on_a_thread_other_than_its_makers(tmp_path: Path) -> None:
    runner, results = TensorRTRunner(engine_file(tmp_path)), []
    thread = threading.Thread(target=lambda: results.append(runner.run({"x": np.ones((1, 3), np.float32)})))
    thread.start()
    thread.join()
    assert results[0]["twice"].tolist() == [[2, 2, 2]]
