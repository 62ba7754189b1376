"""An engine opened for serving, with CUDA and TensorRT stood in for: what is read, shared and freed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tests.runners.stand_in import Context, Cuda, Engine, TensorRT
from tests.runners.test_tensorrt import GPU, engine_file
from trtkit import cuda, sidecar
from trtkit.errors import WorkFailed
from trtkit.flavour import TensorRT as Here
from trtkit.runners import engine as engines
from trtkit.serve import folder
from trtkit.serve.folder import Choice, open_model


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> TensorRT:
    """TensorRT 10.13 on an SM 86, stood in for."""
    trt = TensorRT(Cuda())
    monkeypatch.setattr(cuda, "_runtime", lambda: trt.cuda)
    for module in (engines, folder):
        monkeypatch.setattr(module, "current_gpu", lambda: GPU)
        monkeypatch.setattr(module, "find_tensorrt", lambda: Here("tensorrt", Version(trt.__version__), trt))
    return trt


def test_an_engine_is_hashed_once(tmp_path: Path, trt: TensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_file(tmp_path)
    hashed: list[Path] = []
    sha256 = sidecar.file_sha256

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256(path)

    monkeypatch.setattr(sidecar, "file_sha256", counted)
    opened = open_model(tmp_path, Choice())
    assert hashed == [engine]
    opened.close()
    assert trt.cuda.alive == {}


def test_if_a_later_context_fails_all_before_it_is_freed(
    tmp_path: Path, trt: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_file(tmp_path)
    create, closed = Engine.create_execution_context, []
    loaded_close = engines.LoadedEngine.close

    def at_most_two(engine: Engine) -> Context | None:
        return create(engine) if trt.contexts < 2 else None

    def close(loaded: engines.LoadedEngine) -> None:
        closed.append(loaded)
        loaded_close(loaded)

    monkeypatch.setattr(Engine, "create_execution_context", at_most_two)
    monkeypatch.setattr(engines.LoadedEngine, "close", close)
    with pytest.raises(WorkFailed, match="no execution context"):
        open_model(tmp_path, Choice(contexts=3))
    assert trt.cuda.alive == {}
    assert len(closed) == 1


def test_if_the_device_has_no_room_nothing_of_the_host_is_kept(
    tmp_path: Path, trt: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_file(tmp_path)
    host = Cuda.cudaMalloc
    monkeypatch.setattr(Cuda, "cudaHostAlloc", lambda self, size, _: host(self, size))
    monkeypatch.setattr(Cuda, "cudaMalloc", lambda self, _: (self.cudaError_t.cudaErrorMemoryAllocation, 0))
    with pytest.raises(WorkFailed, match="cudaMalloc failed"):
        open_model(tmp_path, Choice())
    assert trt.cuda.alive == {}


class Rtx:
    """As much of an engine of TensorRT-RTX as its cache needs. compiled: what the cache holds."""

    def __init__(self, compiled: bytes | None) -> None:
        self.compiled = compiled

    def create_runtime_config(self) -> Any:
        return self

    create_runtime_cache = create_runtime_config

    def set_runtime_cache(self, cache: Any) -> None:
        assert cache is self

    def serialize(self) -> bytes | None:
        return self.compiled

    def deserialize(self, content: bytes) -> bool:
        self.compiled = content
        return True


def test_compiled_kernels_are_kept_beside_the_engine_and_nothing_where_there_are_none(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engines._JitCache(Rtx(None), engine).save()
    assert list(tmp_path.iterdir()) == []
    engines._JitCache(Rtx(b"kernels"), engine).save()
    assert [path.name for path in tmp_path.iterdir()] == ["m.engine.jit"]
    again = Rtx(None)
    engines._JitCache(again, engine)
    assert again.compiled == b"kernels"
