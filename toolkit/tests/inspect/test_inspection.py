"""What is in an ONNX file and in an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtkit.build import BuildOptions, build_engine
from trtkit.devices import NO_GPU, gpus
from trtkit.errors import RequestError
from trtkit.inspect.engine_inspection import EngineInspection, inspect_engine
from trtkit.inspect.onnx_inspection import OnnxInspection, inspect_onnx
from trtkit.sidecar import read_sidecar, sidecar_path, write_sidecar


def convolutions() -> onnx.ModelProto:
    """input (batch, 3, 8, 8) -> Conv + Relu -> Conv -> Add(its input) -> Relu -> mean -> Gemm."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(
            random.standard_normal(shape).astype(np.float32) * np.float32(0.1), name
        )

    def node(op: str, name: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs.split(), [output], name=name, **attributes)

    nodes = [
        node("Conv", "/a/Conv", "input wa ba", "a", pads=[1, 1, 1, 1]),
        node("Relu", "/a/Relu", "a", "ar"),
        node("Conv", "/b/Conv", "ar wb", "b", pads=[1, 1, 1, 1]),
        node("Add", "/b/Add", "b ar", "sum"),
        node("Relu", "/b/Relu", "sum", "br"),
        node("GlobalAveragePool", "/pool", "br", "p"),
        node("Flatten", "/flat", "p", "f"),
        node("Gemm", "/fc/Gemm", "f wc bc", "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [
            weight("wa", 4, 3, 3, 3),
            weight("ba", 4),
            weight("wb", 4, 4, 3, 3),
            weight("wc", 5, 4),
            weight("bc", 5),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="us"
    )
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and model.engine, made of it by TensorRT for two GPUs' sake."""
    folder = tmp_path_factory.mktemp("built")
    onnx.save(convolutions(), str(folder / "model.onnx"))
    build_engine(folder / "model.onnx", folder / "model.engine", BuildOptions(sms=("80",)))
    return folder


def test_an_onnx_file_before_and_after_fusion(built: Path) -> None:
    found = inspect_onnx(built / "model.onnx", batch=2)
    assert found.opsets == {"ai.onnx": 17}
    assert found.operators == {
        "Conv": 2,
        "Relu": 2,
        "Add": 1,
        "Flatten": 1,
        "Gemm": 1,
        "GlobalAveragePool": 1,
    }
    assert found.parameters == 4 * 27 + 4 + 4 * 36 + 20 + 5
    assert found.weights == found.parameters * 4
    assert len(found.layers) == 8
    assert found.optimised is not None
    fused = {layer.fused: layer for layer in found.optimised}
    assert fused["/a/Conv", "/a/Relu"].type == "FusedConv"
    assert fused["/a/Conv", "/a/Relu"].outputs[0].shape == (2, 4, 8, 8)
    assert fused["/a/Conv", "/a/Relu"].weights == (4 * 27 + 4) * 4
    named = [name for layer in found.optimised for name in layer.fused]
    assert sorted(named) == sorted(layer.name for layer in found.layers)


def test_memory_of_activations_is_what_is_alive_at_one_time(built: Path) -> None:
    found = inspect_onnx(built / "model.onnx", batch=2)
    image, maps = 2 * 3 * 64 * 4, 2 * 4 * 64 * 4
    assert found.peak == 3 * maps  # ar, b and sum, when the convolutions' sum is made
    assert found.activations == image + 5 * maps + 2 * (4 + 4 + 5) * 4
    double = inspect_onnx(built / "model.onnx", batch=4)
    assert double.peak == 2 * found.peak


def test_shapes_in_place_of_a_batch(built: Path) -> None:
    assert inspect_onnx(built / "model.onnx", shapes={"input": (3, 3, 8, 8)}).shapes == {
        "input": (3, 3, 8, 8)
    }
    with pytest.raises(RequestError, match="fits no input"):
        inspect_onnx(built / "model.onnx", shapes={"input": (3, 3, 8, 9)})


def test_what_depends_on_values_is_unknown_and_not_guessed(tmp_path: Path) -> None:
    model = convolutions()
    model.graph.node.append(helper.make_node("NonZero", ["logits"], ["where"], name="where"))
    model.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, [2, None]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    found = inspect_onnx(tmp_path / "model.onnx")
    assert (found.peak, found.activations) == (None, None)


def test_what_onnx_runtime_cannot_load_is_told_and_the_file_shown(tmp_path: Path) -> None:
    model = convolutions()
    model.opset_import.append(helper.make_opsetid("custom.domain", 1))
    model.graph.node[1].domain, model.graph.node[1].op_type = "custom.domain", "Strange"
    onnx.save(model, str(tmp_path / "model.onnx"))
    found = inspect_onnx(tmp_path / "model.onnx")
    assert found.optimised is None
    assert "Strange" in found.why
    assert len(found.layers) == 8


def test_looking_twice_tells_the_same(built: Path) -> None:
    assert inspect_onnx(built / "model.onnx") == inspect_onnx(built / "model.onnx")
    assert inspect_engine(built / "model.engine") == inspect_engine(built / "model.engine")


def test_an_engines_layers_are_told_by_its_sidecar(built: Path) -> None:
    found = inspect_engine(built / "model.engine")
    assert found.sms == ("80",)
    assert 0 < len(found.layers) < found.onnx_nodes
    fused = [set(layer.fused) for layer in found.layers]
    assert any({"/a/Conv", "/a/Relu"} <= nodes for nodes in fused)
    assert "fp16" in found.precisions
    assert "NHWC" in found.formats
    assert found.profiles[0]["input"].max == (8, 3, 8, 8)
    assert EngineInspection.model_validate_json(found.model_dump_json()) == found


@pytest.mark.skipif(bool(gpus()), reason="tells what happens without a GPU")
def test_without_a_gpu_the_inspector_is_skipped_and_says_so(built: Path) -> None:
    found = inspect_engine(built / "model.engine")
    assert found.why == NO_GPU
    assert found.device_memory is None
    assert "sidecar" in found.source


def test_an_engine_that_nobody_tells_of_says_why(built: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes((built / "model.engine").read_bytes())
    sidecar = read_sidecar(built / "model.engine")
    write_sidecar(sidecar.model_copy(update={"layers": ()}), engine)
    found = inspect_engine(engine)
    if not gpus():
        assert found.layers == ()
        assert found.why == "no GPU; and its sidecar tells no layers"
        done = trtkit("inspect", engine, "--svg", tmp_path / "no.svg")
        assert done.returncode == 1
        assert "there is nothing to draw" in done.stderr
        assert not (tmp_path / "no.svg").exists()


def test_a_foreign_or_corrupt_engine_is_refused(built: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"something else")
    with pytest.raises(RequestError, match="has no sidecar"):
        inspect_engine(engine)
    sidecar_path(engine).write_bytes(sidecar_path(built / "model.engine").read_bytes())
    with pytest.raises(RequestError, match="is not the engine that"):
        inspect_engine(engine)
    sidecar_path(engine).write_text("{")
    with pytest.raises(RequestError, match="cannot be read"):
        inspect_engine(engine)


def trtkit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["model.onnx", "model.engine"])
def test_the_command_prints_and_draws(built: Path, tmp_path: Path, name: str) -> None:
    done = trtkit("inspect", built / name, "--svg", tmp_path / "picture.svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/a/Conv + /a/Relu" in " ".join(done.stdout.split())
    assert ElementTree.parse(tmp_path / "picture.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_json_is_one_document_and_nothing_else(built: Path) -> None:
    told = json.loads(trtkit("inspect", built / "model.onnx", "--json").stdout)
    assert OnnxInspection.model_validate(told).operators["Conv"] == 2


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    assert trtkit("inspect", tmp_path / "bad.onnx").returncode == 2
    assert trtkit("inspect", tmp_path / "none.onnx").returncode == 2
