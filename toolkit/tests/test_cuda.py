"""The little of CUDA that is used: its errors anywhere, its streams and buffers where there is a GPU."""

from __future__ import annotations

import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pytest

from trtkit import cuda
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import EnvironmentLack

needs_gpu = pytest.mark.skipif(not gpus(), reason=NO_GPU)
needs_no_gpu = pytest.mark.skipif(bool(gpus()), reason="there is a GPU")


@needs_no_gpu
@pytest.mark.parametrize("ask", [cuda.memory_info, cuda.current_gpu, cuda.Stream, lambda: cuda.HostBuffer(8)])
def test_without_a_gpu_everything_says_so(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(EnvironmentLack, match=NO_GPU) as caught:
        ask()
    assert "cudaError" in (caught.value.fact("because") or "")


def test_the_binding_is_not_imported_before_it_is_used() -> None:
    code = "import sys, trtkit.cuda; assert not any(name.startswith('cuda.') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["cudaErrorIllegalAddress", "cudaErrorECCUncorrectable", "cudaErrorUnknown"])
def test_errors_after_which_nothing_runs_any_more_are_told_apart(name: str) -> None:
    error = cuda.cuda_error("cudaStreamSynchronize", name, "gone")
    assert isinstance(error, cuda.DeviceLost)
    assert "restart the process" in error.text()
    other = cuda.cuda_error("cudaMalloc", "cudaErrorMemoryAllocation", "out of memory")
    assert type(other) is cuda.CudaError
    assert (other.call, other.name, other.meaning) == (
        "cudaMalloc",
        "cudaErrorMemoryAllocation",
        "out of memory",
    )


def test_the_names_of_errors_are_those_of_cuda() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    assert {*cuda.STICKY, *cuda.ABSENT} <= {error.name for error in runtime.cudaError_t}


def test_a_uuid_is_written_as_nvml_writes_it() -> None:
    assert cuda.gpu_uuid(bytes(range(16))) == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"


@needs_gpu
def test_the_gpu_is_the_one_that_nvml_knows() -> None:
    assert cuda.current_gpu() in gpus()


@needs_gpu
def test_what_is_copied_to_the_device_comes_back() -> None:
    values = np.random.default_rng(1).standard_normal((100, 1000)).astype(np.float32)
    stream, device = cuda.Stream(), cuda.DeviceBuffer(values.nbytes)
    there, back = cuda.HostBuffer(values.nbytes), cuda.HostBuffer(values.nbytes)
    there.view("float32", values.shape)[...] = values
    stream.upload(device, there, values.nbytes)
    stream.download(back, device, values.nbytes)
    stream.synchronise()
    np.testing.assert_array_equal(back.view(np.float32, values.shape), values)
    for one in (there, back, device, stream):
        one.close()


@needs_gpu
def test_memory_is_given_back() -> None:
    stream = cuda.Stream()
    before = cuda.memory_info().free
    buffer = cuda.DeviceBuffer(256 << 20)
    assert before - cuda.memory_info().free >= 256 << 20
    buffer.close()
    stream.close()
    assert cuda.memory_info().free >= before - (2 << 20)


@needs_gpu
def test_too_much_memory_is_an_error_after_which_the_gpu_still_works() -> None:
    with pytest.raises(cuda.CudaError, match="out of memory") as caught:
        cuda.DeviceBuffer(cuda.memory_info().total * 2)
    assert caught.value.name == "cudaErrorMemoryAllocation"
    assert not isinstance(caught.value, cuda.DeviceLost)
    cuda.DeviceBuffer(1024).close()


@needs_gpu
def test_who_waits_for_the_gpu_does_not_hold_the_interpreter() -> None:
    stream, device, host = cuda.Stream(), cuda.DeviceBuffer(1 << 30), cuda.HostBuffer(1 << 30)
    for _ in range(10):
        stream.upload(device, host, 1 << 30)
    waiting = Thread(target=stream.synchronise)
    start, steps = time.perf_counter(), 0
    waiting.start()
    while waiting.is_alive():
        steps += 1
        time.sleep(0.001)
    assert time.perf_counter() - start > 0.02  # there was something to wait for
    assert steps > 10
    for one in (host, device, stream):
        one.close()
