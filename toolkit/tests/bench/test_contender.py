"""Which rows there are, in which order, and what they say where they cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.test_options import network
from trtkit.bench import BenchOptions, run_bench
from trtkit.bench.contender import contenders
from trtkit.bench.options import Signature
from trtkit.devices import gpus
from trtkit.errors import RequestError
from trtkit.sidecar import Precision, Sidecar, file_sha256, write_sidecar
from trtkit.tensors import TensorSpec

LOCKED = (
    "PyTorch FP32", "PyTorch FP16", "torch.compile FP32", "torch.compile FP16",
    "ONNX Runtime CPU", "ONNX Runtime CUDA", "TensorRT FP16", "TensorRT INT8",
)  # fmt: skip


def engine(path: Path, precision: Precision) -> Path:
    """A file with a sidecar that calls it an engine."""
    path.write_bytes(b"engine")
    specs = (TensorSpec("input", "float32", (-1, 4)),)
    sidecar = Sidecar(
        engine_sha256=file_sha256(path),
        onnx_sha256="0" * 64,
        flavour="tensorrt",
        tensorrt_version="10.13.3.9",
        sms=("80",),
        precision=precision,
        inputs=specs,
        outputs=specs,
        workspace=1 << 31,
        trtkit="0.1.0",
    )
    write_sidecar(sidecar, path)
    return path


def titles(options: BenchOptions) -> tuple[str, ...]:
    return tuple(row.title for row in contenders(options, Signature((), ())))


def test_all_rows_are_there_in_their_order_whatever_is_given() -> None:
    assert titles(BenchOptions()) == LOCKED
    assert titles(BenchOptions(model="torchvision:resnet18")) == LOCKED


def test_engines_stand_by_precision_and_several_of_one_are_told_apart(tmp_path: Path) -> None:
    given: dict[str, Precision] = {"i": "int8", "sm80": "fp16", "sm86": "fp16", "w": "fp32"}
    engines = tuple(engine(tmp_path / f"{name}.engine", precision) for name, precision in given.items())
    rows = titles(BenchOptions(engines=engines))
    assert rows[:6] == LOCKED[:6]
    assert rows[6:] == ("TensorRT FP32", "TensorRT FP16 sm80", "TensorRT FP16 sm86", "TensorRT INT8")


def test_an_engine_without_its_sidecar_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(b"engine")
    with pytest.raises(RequestError, match="has no sidecar"):
        titles(BenchOptions(engines=(tmp_path / "x.engine",)))


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU: its rows run")
def test_without_a_gpu_its_rows_say_so_and_the_cpu_is_measured(tmp_path: Path) -> None:
    options = BenchOptions(
        onnx=network(tmp_path / "x.onnx", ["batch", 4]),
        engines=(engine(tmp_path / "x.engine", "fp16"),),
        batches=(1, 2),
        rounds=2,
        round_seconds=0.02,
        warm_up_seconds=0.05,
    )
    report = run_bench(options)
    assert tuple(row.title for row in report.rows) == LOCKED
    assert {row.title: (row.status, row.reason) for row in report.rows} == {
        **dict.fromkeys(LOCKED[:4], ("skipped", "no PyTorch model was given")),
        "ONNX Runtime CPU": ("ran", ""),
        "ONNX Runtime CUDA": ("skipped", "no GPU"),
        "TensorRT FP16": ("skipped", "no GPU"),
        "TensorRT INT8": ("skipped", "no INT8 engine was given"),
    }
    assert report.machine.gpu is None
    assert [result.batch for result in report.row("ONNX Runtime CPU").batches] == [1, 2]
    assert report.reference == "ONNX Runtime CPU"
