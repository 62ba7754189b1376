"""What the checks of an image with compilers compile, with the image's own nvcc, and where it lies.

Both a check that compiles and the one that runs the result ask for it; the second finds what the first made.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

PLACE = Path(tempfile.gettempdir()) / "smoke-nvcc"
SM_AT = (0, 8)
"""Bits of a cubin's e_flags from which its compute capability is read: until CUDA 12, and from CUDA 13 on."""

KERNEL = r"""
#include <cstdio>
#include <cub/block/block_reduce.cuh>

__global__ void sum(const float *values, float *out) {
  using Reduce = cub::BlockReduce<float, 256>;
  __shared__ typename Reduce::TempStorage shared;
  float total = Reduce(shared).Sum(values[threadIdx.x]);
  if (threadIdx.x == 0) *out = total;
}

int main() {
  float values[256], result = 0, *in, *out;
  for (int i = 0; i < 256; i++) values[i] = i;
  cudaMalloc(&in, sizeof values);
  cudaMalloc(&out, sizeof result);
  cudaMemcpy(in, values, sizeof values, cudaMemcpyHostToDevice);
  sum<<<1, 256>>>(in, out);
  cudaMemcpy(&result, out, sizeof result, cudaMemcpyDeviceToHost);
  cudaError_t error = cudaGetLastError();
  std::printf("%s, %g\n", cudaGetErrorString(error), result);
  return error != cudaSuccess || result != 255 * 128;
}
"""

EXTENSION = r"""
#include <ATen/cuda/CUDAContext.h>
#include <torch/extension.h>

__global__ void twice(const float *in, float *out, int64_t n) {
  int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) out[i] = 2 * in[i];
}

torch::Tensor doubled(torch::Tensor in) {
  if (!in.is_cuda()) return 2 * in;
  auto out = torch::empty_like(in);
  twice<<<(in.numel() + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
      in.data_ptr<float>(), out.data_ptr<float>(), in.numel());
  return out;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("doubled", &doubled); }
"""


def run(*command: str) -> str:
    """What a command prints; AssertionError with its output if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def program(sms: list[str]) -> Path:
    """A program with the kernel for each of `sms`."""
    made = PLACE / "kernel"
    if not made.exists():
        targets = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in sms]
        run("nvcc", *targets, "-o", str(made), str(source("kernel.cu", KERNEL)))
    return made


def cubin_sm(sm: str) -> str:
    """The compute capability of the machine code that nvcc makes for `sm`."""
    made = PLACE / ("kernel.sm_" + sm)
    run("nvcc", "-cubin", "-arch=sm_" + sm, "-o", str(made), str(source("kernel.cu", KERNEL)))
    header = made.read_bytes()[:64]
    assert header[:4] == b"\x7fELF", f"what nvcc made for sm_{sm} is no ELF file"
    flags = int.from_bytes(header[48:52], "little")  # e_flags (elf(5), Elf64_Ehdr)
    found = [str(flags >> bit & 0xFF) for bit in SM_AT]
    return sm if sm in found else found[0]


def extension() -> Any:
    """The extension of torch, imported; built if it is not there."""
    load = importlib.import_module("torch.utils.cpp_extension").load
    sources = [str(source("extension.cu", EXTENSION))]
    os.environ.setdefault("MAX_JOBS", "2")
    return load(name="smoke_extension", sources=sources, build_directory=str(PLACE), with_cuda=True)


def source(name: str, text: str) -> Path:
    PLACE.mkdir(exist_ok=True)
    file = PLACE / name
    if not file.exists():
        file.write_text(text, encoding="utf-8")
    return file
