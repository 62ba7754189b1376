"""Subjects against a reference: what passes, fails, is skipped, and is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.tiny_network import network as tiny
from tests.verify.networks import healthy, in_fp16, matrix, network, node, overflowing, save, with_weight
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import RequestError
from trtkit.precision.convert import convert
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.verify import VerifyOptions, VerifyReport, verify
from trtkit.verify.engine_tensors import build_marked
from trtkit.verify.pathology import MEANING

no_gpu = pytest.mark.skipif(bool(gpus()), reason="tells what happens without a GPU")


def test_the_same_file_passes_at_several_batches(reference: Path) -> None:
    report = verify([reference], VerifyOptions(reference=reference))
    assert report.status == "passed"
    assert [row.case for row in report.subjects[0].rows] == ["batch 1", "batch 2", "batch 8"]
    assert all(row.comparison.max_abs == 0.0 for row in report.subjects[0].rows)


def test_a_conversion_to_fp16_passes_with_fp16s_tolerance(reference: Path, tmp_path: Path) -> None:
    subject = save(in_fp16(healthy(), keep_io=False), tmp_path / "model.fp16.onnx")
    report = verify([subject], VerifyOptions(reference=reference))
    assert report.status == "passed"
    assert report.subjects[0].precision == "fp16"
    assert all((row.comparison.max_abs or 0) > 0 for row in report.subjects[0].rows)


def test_an_fp16_overflow_fails_and_the_layer_is_named(tmp_path: Path) -> None:
    reference = save(overflowing(), tmp_path / "model.onnx")
    subject = save(in_fp16(overflowing()), tmp_path / "model.fp16.onnx")
    report = verify([subject], VerifyOptions(reference=reference, bisect=True))
    found = report.subjects[0]
    assert report.status == "failed"
    assert found.bisected == "batch 1"
    assert found.bisection is not None
    assert found.bisection.first is not None
    assert found.bisection.first.node == "Mul_big"
    assert VerifyReport.model_validate_json(report.model_dump_json()) == report


def test_a_wrong_weight_fails(reference: Path, tmp_path: Path) -> None:
    subject = save(with_weight(healthy(), "w1", matrix(9)), tmp_path / "wrong.onnx")
    report = verify([reference, subject], VerifyOptions(reference=reference))
    assert [one.status for one in report.subjects] == ["passed", "failed"]
    assert report.status == "failed"
    assert report.subjects[1].reason.startswith("y at batch 1: differs by up to")


def test_what_is_wrong_with_the_reference_itself_is_noted(tmp_path: Path) -> None:
    dead = network([node("MatMul", "x w", "y")], {"w": matrix(1) * np.float32(0)})
    path = save(dead, tmp_path / "dead.onnx")
    report = verify([path], VerifyOptions(reference=path))
    assert report.status == "passed"
    assert {note.name for note in report.notes} == {"all-zero"}
    assert MEANING["all-zero"][0] in report.notes[0].text


def test_a_batch_whose_samples_all_get_the_first_ones_answer_fails(reference: Path, tmp_path: Path) -> None:
    subject = healthy()
    subject.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    subject.graph.node[-1].output[0] = "each"
    subject.graph.node.extend(
        [
            node("Gather", "each first", "one", axis=0),
            node("Shape", "x", "shape"),
            node("Expand", "one shape", "y"),
        ]
    )
    report = verify([save(subject, tmp_path / "fixed.onnx")], VerifyOptions(reference=reference))
    rows = report.subjects[0].rows
    assert [row.comparison.pathologies for row in rows] == [(), ("same-rows",), ("same-rows",)]
    assert [row.comparison.within for row in rows] == [True, False, False]


def test_budgets_are_judged_when_asked_for(reference: Path, tmp_path: Path) -> None:
    subject = save(in_fp16(healthy()), tmp_path / "model.fp16.onnx")
    report = verify([subject], VerifyOptions(reference=reference, cosine=1.0, top1=1.0))
    assert report.status == "failed"
    assert "cosine" in report.subjects[0].reason
    report = verify([subject], VerifyOptions(reference=reference, top1=1.0))
    assert report.status == "passed"


def test_random_feeds_are_the_same_in_every_run(reference: Path, tmp_path: Path) -> None:
    subject = save(in_fp16(healthy()), tmp_path / "model.fp16.onnx")
    first, again, other = (
        verify([subject], VerifyOptions(reference=reference, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_bf16_is_skipped_and_says_why(reference: Path, tmp_path: Path) -> None:
    subject = save(convert(healthy(), "bf16"), tmp_path / "model.bf16.onnx")
    report = verify([subject], VerifyOptions(reference=reference))
    assert report.status == "skipped"
    assert report.subjects[0].precision == "bf16"
    assert report.subjects[0].reason.startswith("ONNX Runtime's CPU does not compute in BF16")


@pytest.mark.torch
def test_a_pytorch_model_is_the_reference_of_all(tmp_path: Path) -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()
    source = tmp_path / "model.pt"
    torch.jit.trace(module, torch.zeros(2, 8)).save(str(source))
    weights = {name: value.detach().numpy() for name, value in module.named_parameters()}
    nodes = [node("Gemm", "x 0.weight 0.bias", "h", transB=1), node("Relu", "h", "y")]
    onnx_file = save(network(nodes, weights), tmp_path / "model.onnx")
    report = verify([], VerifyOptions(reference=onnx_file, torch=str(source)))
    assert report.status == "passed"
    assert report.runner == "PyTorch FP32"
    assert [one.file for one in report.subjects] == ["model.onnx"]


# Engines.


@no_gpu
def test_an_engine_without_a_gpu_is_skipped_and_all_else_is_looked_at(built: Path) -> None:
    report = verify(
        [built / "model.engine", built / "model.onnx"], VerifyOptions(reference=built / "model.onnx")
    )
    engine, onnx_file = report.subjects
    assert report.status == "skipped"
    assert (engine.status, engine.reason, engine.rows) == ("skipped", NO_GPU, ())
    looked_at = {check.name: check.status for check in engine.checks}
    assert looked_at["sidecar"] == "passed"
    assert looked_at["onnx"] == "passed"
    assert looked_at["fit"] == "skipped"
    assert onnx_file.status == "passed"
    assert [row.case for row in onnx_file.rows] == ["min", "opt", "max"]
    assert [row.shapes for row in onnx_file.rows] == ["x:1x8", "x:3x8", "x:6x8"]


def test_an_engine_of_another_onnx_file_is_told(built: Path, tmp_path: Path) -> None:
    other = save(with_weight(healthy(), "w1", matrix(4)), tmp_path / "other.onnx")
    report = verify([built / "model.engine"], VerifyOptions(reference=other))
    assert ("onnx", "note") in {(check.name, check.status) for check in report.subjects[0].checks}


def test_shapes_inside_the_profile_are_tried_and_outside_refused(built: Path) -> None:
    options = VerifyOptions(reference=built / "model.onnx", shapes=({"x": (5, 8)},))
    report = verify([built / "model.engine", built / "model.onnx"], options)
    assert [row.shapes for row in report.subjects[1].rows][-1] == "x:5x8"
    outside = VerifyOptions(reference=built / "model.onnx", shapes=({"x": (7, 8)},))
    with pytest.raises(RequestError, match="outside the engine's profile") as told:
        verify([built / "model.engine"], outside)
    assert told.value.fact("profile") == "1x8 to 6x8"


def test_a_network_with_all_outputs_marked_builds(built: Path, tmp_path: Path) -> None:
    """What bisecting an engine does before it needs a GPU."""
    from trtkit.sidecar import read_sidecar

    sidecar = read_sidecar(built / "model.engine")
    marked = read_sidecar(build_marked(onnx.load(str(built / "model.onnx")), sidecar, tmp_path))
    assert {spec.name for spec in marked.outputs} == {"h1", "h2", "h3", "y"}
    assert marked.profile == sidecar.profile
    assert marked.precision == "fp16"


def test_what_passes_is_not_bisected(reference: Path, tmp_path: Path) -> None:
    subject = save(with_weight(healthy(), "w1", matrix(9)), tmp_path / "wrong.onnx")
    good, bad = verify([reference, subject], VerifyOptions(reference=reference, bisect=True)).subjects
    assert (good.status, good.bisected, good.bisection) == ("passed", None, None)
    assert (bad.status, bad.bisected) == ("failed", "batch 1")


def test_a_bisection_that_cannot_be_made_is_a_note_and_the_rest_is_told(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine whose ONNX file is not at hand fails on the GPU: ONNX Runtime stands in for that GPU."""
    wrong = save(with_weight(healthy(), "w1", matrix(9)), tmp_path / "wrong.onnx")
    monkeypatch.setattr("trtkit.verify.subject.gpus", lambda: ["a GPU"])
    monkeypatch.setattr("trtkit.runners.tensorrt.TensorRTRunner", lambda _engine: OnnxRuntimeRunner(wrong))
    # Another file of the same network: not the one that the sidecar speaks of.
    other = save(healthy(), tmp_path / "other.onnx")
    with other.open("ab") as file:
        file.write(b"\x12\x05other")  # producer_name, once more
    report = verify([built / "model.engine", other], VerifyOptions(reference=other, bisect=True))
    engine, same = report.subjects
    assert (engine.status, engine.bisection) == ("failed", None)
    (note,) = (check for check in engine.checks if check.name == "bisect")
    assert note.status == "note"
    assert "not bisected" in note.text
    assert "built from" in note.text
    assert same.status == "passed"


def test_bisecting_needs_an_onnx_file_and_says_so_before_anything_is_run(reference: Path) -> None:
    with pytest.raises(RequestError, match="--bisect needs an ONNX file"):
        verify([reference], VerifyOptions(torch="torchvision:no_such_model", bisect=True))


def test_a_network_is_fp16_by_its_ends_alone_and_rounded_as_such(tmp_path: Path) -> None:
    """No weights and no casts: what it holds is said once, for build and verify."""
    half = save(
        tiny("n (float16[batch,8] x) => (float16[batch,8] y) { y = Relu(x) }"), tmp_path / "half.onnx"
    )
    single = save(tiny("n (float[batch,8] x) => (float[batch,8] y) { y = Relu(x) }"), tmp_path / "fp32.onnx")
    (subject,) = verify([half], VerifyOptions(reference=single)).subjects
    assert (subject.precision, subject.status) == ("fp16", "passed")
