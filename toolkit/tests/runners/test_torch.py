"""PyTorch's own rows, against PyTorch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from trtkit.devices import NO_GPU, gpus
from trtkit.errors import EnvironmentLack, RequestError, WorkFailed
from trtkit.runners.torch import TorchMode, TorchRunner
from trtkit.tensors import TensorSpec

pytestmark = pytest.mark.torch

NETWORKS = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, left, right):
        return {"sum": self.layer(left + right), "parts": [left * 2, (right, None)]}

def two():
    return Two(), (torch.zeros(1, 4), torch.zeros(1, 4))

class Refuses(torch.nn.Module):
    def forward(self, x):
        raise ValueError("not today")

def refuses():
    return Refuses(), torch.zeros(1, 4)
"""


@pytest.fixture
def networks(tmp_path: Path) -> str:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return str(path)


def feeds() -> dict[str, np.ndarray]:
    return {"left": np.ones((2, 4), np.float32), "right": np.full((2, 4), 3, np.float32)}


def test_inputs_are_those_of_the_source_with_an_open_batch(networks: str) -> None:
    runner = TorchRunner(f"{networks}:two")
    assert runner.inputs == tuple(TensorSpec(name, "float32", (-1, 4)) for name in ("left", "right"))


def test_nested_outputs_come_out_in_order_by_name(networks: str) -> None:
    runner = TorchRunner(f"{networks}:two")
    outputs = runner.run(feeds())
    assert list(outputs) == ["output_0", "output_1", "output_2"]
    np.testing.assert_array_equal(outputs["output_1"], 2 * feeds()["left"])
    np.testing.assert_array_equal(outputs["output_2"], feeds()["right"])
    names = tuple(TensorSpec(name, "float32", (-1, -1)) for name in ("sum", "double", "right"))
    assert list(TorchRunner(f"{networks}:two", outputs=names).run(feeds())) == ["sum", "double", "right"]


def test_random_weights_are_the_same_in_every_process_and_with_the_same_seed(networks: str) -> None:
    first, again, other = (
        TorchRunner(f"{networks}:two", seed=seed).run(feeds())["output_0"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler: g++ is not here")
def test_compiled_computes_what_eager_does(networks: str) -> None:
    try:
        compiled = TorchRunner(f"{networks}:two", "compile-fp32")
    except EnvironmentLack as lack:
        pytest.skip(lack.problem)
    eager = TorchRunner(f"{networks}:two")
    for name, tensor in eager.run(feeds()).items():
        np.testing.assert_allclose(compiled.run(feeds())[name], tensor, rtol=1e-5)


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU: FP16 runs")
@pytest.mark.parametrize("mode", ["fp16", "compile-fp16"])
def test_fp16_is_for_gpus(networks: str, mode: TorchMode) -> None:
    with pytest.raises(EnvironmentLack) as lack:
        TorchRunner(f"{networks}:two", mode)
    assert lack.value.problem == NO_GPU


def test_without_a_compiler_torch_compile_says_so(networks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(EnvironmentLack, match="is not here"):
        TorchRunner(f"{networks}:two", "compile-fp32")


def test_a_model_that_raises_is_work_that_failed(networks: str) -> None:
    with pytest.raises(WorkFailed) as failed:
        TorchRunner(f"{networks}:refuses").run({"x": np.zeros((1, 4), np.float32)})
    assert failed.value.fact("because") == "ValueError: not today"


def test_as_many_outputs_as_were_told(networks: str) -> None:
    with pytest.raises(WorkFailed, match="gives 3 outputs, not the 1"):
        TorchRunner(f"{networks}:two", outputs=(TensorSpec("sum", "float32", (-1, 3)),)).run(feeds())


def test_there_is_no_such_model() -> None:
    with pytest.raises(RequestError):
        TorchRunner("torchvision:no_such_model")
