"""Samples and files that are given: what fits is used, what does not is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.verify.networks import healthy, matrix, network, node, save
from trtkit.errors import RequestError
from trtkit.sidecar import sidecar_path
from trtkit.verify import VerifyOptions, verify


def test_samples_are_run_in_batches_that_the_profile_admits(built: Path, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    options = VerifyOptions(reference=built / "model.onnx", data=tmp_path)
    report = verify([built / "model.engine", built / "model.onnx"], options)
    assert [(row.case, row.shapes) for row in report.subjects[1].rows] == [("samples.npz", "x:20x8")]
    assert report.subjects[1].rows[0].comparison.top1 == 1.0


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"z": np.zeros((1, 8), np.float32)}, "does not hold the model's inputs"),
        ({"x": np.zeros((1, 8), np.complex64)}, "is complex64, and the model takes float32"),
        ({"x": np.zeros((1, 9), np.float32)}, "does not fit the input"),
        ({"x": np.float32(0)}, "does not fit the input"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    reference: Path, tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    np.savez(tmp_path / "samples.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=problem):
        verify([reference], VerifyOptions(reference=reference, data=tmp_path / "samples.npz"))


def test_files_that_are_no_samples_are_refused(reference: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    for data, problem in [
        (tmp_path / "bad.npz", "cannot be read as samples"),
        (tmp_path / "none.npz", "there is no file"),
        (tmp_path / "empty", "there is no .npz file"),
    ]:
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(RequestError, match=problem):
            verify([reference], VerifyOptions(reference=reference, data=data))


def test_a_corrupt_engine_is_told_by_its_sha256(built: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes((built / "model.engine").read_bytes()[:-1] + b"\0\0")
    sidecar_path(engine).write_bytes(sidecar_path(built / "model.engine").read_bytes())
    with pytest.raises(RequestError, match="is not the engine that"):
        verify([engine], VerifyOptions(reference=built / "model.onnx"))


def test_an_engine_without_a_sidecar_is_refused(built: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes((built / "model.engine").read_bytes())
    with pytest.raises(RequestError, match="has no sidecar"):
        verify([engine], VerifyOptions(reference=built / "model.onnx"))


def test_other_inputs_or_outputs_are_refused(reference: Path, tmp_path: Path) -> None:
    renamed = healthy()
    renamed.graph.output[0].name = renamed.graph.node[-1].output[0] = "z"
    narrow = network([node("MatMul", "x w", "y")], {"w": matrix(1, 4)}, width=4)
    for model, what in [(renamed, "outputs"), (narrow, "inputs")]:
        with pytest.raises(RequestError, match=f"the {what} of other.onnx are not the reference's"):
            verify([save(model, tmp_path / "other.onnx")], VerifyOptions(reference=reference))


def test_shapes_that_do_not_fit_are_refused(reference: Path) -> None:
    for shapes, problem in [
        ({"x": (1, 9)}, "does not fit the input"),
        ({"z": (1, 8)}, "there is no input 'z'"),
    ]:
        with pytest.raises(RequestError, match=problem):
            verify([reference], VerifyOptions(reference=reference, shapes=(shapes,)))


def test_more_dynamic_than_the_batch_asks_for_shapes(tmp_path: Path) -> None:
    model = healthy()
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[1].dim_param = "width"
    path = save(model, tmp_path / "wide.onnx")
    with pytest.raises(RequestError, match="nothing tells the shapes") as told:
        verify([path], VerifyOptions(reference=path))
    assert told.value.fact("next") == "--shapes x:1x1"
    report = verify([path], VerifyOptions(reference=path, shapes=({"x": (2, 8)},)))
    assert [row.shapes for row in report.subjects[0].rows] == ["x:2x8"]


@pytest.mark.parametrize("content", [b"", b"not an onnx file", b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(reference: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(content)
    with pytest.raises(RequestError):
        verify([bad], VerifyOptions(reference=reference))
    with pytest.raises(RequestError):
        verify([reference], VerifyOptions(reference=bad))


def test_nothing_to_compare_with_is_told(reference: Path) -> None:
    with pytest.raises(RequestError, match="nothing to compare with"):
        verify([reference], VerifyOptions())
