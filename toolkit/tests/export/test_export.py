"""Exports of tiny networks, with the real PyTorch and ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from trtkit.cli import main
from trtkit.errors import EnvironmentLack, RequestError, WorkFailed
from trtkit.export import ExportOptions, UnsupportedOperator, export_onnx
from trtkit.export.report import ExportReport
from trtkit.object_reference import named_object
from trtkit.onnx_graph import load_onnx
from trtkit.runners.onnxruntime import OnnxRuntimeRunner
from trtkit.tensors import TensorSpec

pytestmark = pytest.mark.torch

NETWORKS = Path(__file__).with_name("networks.py")
EXAMPLES = Path(__file__).parents[2] / "examples"


def source(name: str) -> str:
    return f"{NETWORKS}:{name}"


def exported(name: str, to: Path, **options: Any) -> ExportReport:
    return export_onnx(source(name), to / "net.onnx", ExportOptions.model_validate(options))


def saved(name: str, to: Path, **arguments: Any) -> str:
    """A file that a function of networks.py wrote."""
    path = to / f"{name}.{'pt2' if name == 'program' else 'pt'}"
    named_object(source(name))(str(path), **arguments)
    return str(path)


class TestAModel:
    def test_becomes_onnx_with_a_batch_that_is_dynamic(self, tmp_path: Path) -> None:
        report = exported("convolutional", tmp_path, inputs=["input:1x3x12x12"])
        assert report.inputs == (TensorSpec("input", "float32", (-1, 3, 12, 12)),)
        assert report.outputs == (TensorSpec("output", "float32", (-1, 5)),)
        assert [one.shapes["input"][0] for one in report.comparisons] == [1, 4, 8]
        graph = onnx.load(report.path).graph
        assert {it.dim_param for it in graph.input[0].type.tensor_type.shape.dim if it.dim_param} == {"batch"}
        assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_in_training_mode_is_exported_for_inference(self, tmp_path: Path) -> None:
        report = exported("convolutional", tmp_path, inputs=["input:1x3x12x12"])
        assert not {"Dropout", "BatchNormalization"} & set(report.nodes)
        assert report.nodes["Conv"] == 1

    def test_runs_at_a_batch_that_nobody_compared_it_at(self, tmp_path: Path) -> None:
        exported("convolutional", tmp_path, inputs=["input:1x3x12x12"], batches=[1])
        runner = OnnxRuntimeRunner(tmp_path / "net.onnx")
        assert runner.run({"input": np.zeros((5, 3, 12, 12), np.float32)})["output"].shape == (5, 5)

    def test_brings_its_own_example(self, tmp_path: Path) -> None:
        report = exported("with_example", tmp_path)
        assert report.inputs == (TensorSpec("input", "float32", (-1, 3, 12, 12)),)

    def test_takes_several_inputs_and_gives_a_dict(self, tmp_path: Path) -> None:
        asked = ["state:1x5", "image:1x4"]  # by name, so their order does not matter
        report = exported("TwoInputs", tmp_path, inputs=asked)
        assert [str(spec) for spec in report.inputs] == ["image float32 ?x4", "state float32 ?x5"]
        assert [str(spec) for spec in report.outputs] == [
            "mixed float32 ?x6", "parts_0 float32 ?", "parts_1 int64 ?",
        ]  # fmt: skip

    def test_takes_an_argument_by_name_that_comes_after_a_gap(self, tmp_path: Path) -> None:
        asked = ["image:1x4", "state:1x5", "scale:1x6"]
        assert len(exported("TwoInputs", tmp_path, inputs=asked).inputs) == 3

    def test_takes_inputs_by_position_under_other_names(self, tmp_path: Path) -> None:
        report = exported("TwoInputs", tmp_path, inputs=["a:1x4", "b:1x5"], output_names=["x", "y", "z"])
        assert [spec.name for spec in (*report.inputs, *report.outputs)] == ["a", "b", "x", "y", "z"]

    def test_takes_tokens_of_any_length(self, tmp_path: Path) -> None:
        report = exported(
            "Tokens", tmp_path, inputs=["tokens:1x6:int64"], dynamic=["tokens:0=batch,1=length"],
            compare=["tokens:3x11", "tokens:1x1"],
        )  # fmt: skip
        assert report.inputs == (TensorSpec("tokens", "int64", (-1, -1)),)
        assert report.comparisons[-2].shapes == {"tokens": (3, 11)}

    def test_is_compared_with_the_values_of_its_example(self, tmp_path: Path) -> None:
        report = exported(
            "tokens_with_ids", tmp_path, dynamic=["tokens:0=batch,1=length"], compare=["tokens:3x9"]
        )
        assert len(report.comparisons) == 4

    def test_returns_a_named_tuple(self, tmp_path: Path) -> None:
        report = exported("Detector", tmp_path, inputs=["x:1x10"])
        assert [str(spec) for spec in report.outputs] == ["boxes float32 ?x4", "scores float32 ?x6"]

    def test_without_a_batch_is_static(self, tmp_path: Path) -> None:
        report = exported("Unbatched", tmp_path, inputs=["state:7"], dynamic={})
        assert report.inputs == (TensorSpec("state", "float32", (7,)),)
        assert [one.shapes for one in report.comparisons] == [{"state": (7,)}]

    def test_has_its_nodes_named_after_its_modules(self, tmp_path: Path) -> None:
        exported("Deep", tmp_path, inputs=["x:1x2x4x8"])
        names = {node.name for node in onnx.load(tmp_path / "net.onnx").graph.node}
        assert {"body.mix/Softmax", "Relu"} <= names

    def test_gives_the_same_bytes_each_time(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
        a = exported("convolutional", tmp_path / "a", inputs=["input:1x3x12x12"])
        b = exported("convolutional", tmp_path / "b", inputs=["input:1x3x12x12"])
        made = (tmp_path / "a" / "net.onnx").read_bytes()
        assert made == (tmp_path / "b" / "net.onnx").read_bytes()
        assert a.sha256 == b.sha256
        assert str(NETWORKS.parent).encode() not in made
        other = exported("convolutional", tmp_path / "b", inputs=["input:1x3x12x12"], seed=1)
        assert other.sha256 != a.sha256

    def test_goes_through_the_torchscript_exporter_too(self, tmp_path: Path) -> None:
        report = exported("convolutional", tmp_path, inputs=["input:1x3x12x12"], exporter="torchscript")
        assert report.inputs == (TensorSpec("input", "float32", (-1, 3, 12, 12)),)
        assert report.outputs == (TensorSpec("output", "float32", (-1, 5)),)
        assert not {"Dropout", "BatchNormalization"} & set(report.nodes)

    def test_with_a_branch_on_values_cannot_be_captured(self, tmp_path: Path) -> None:
        with pytest.raises(WorkFailed, match="cannot capture") as caught:
            exported("Branches", tmp_path, inputs=["x:1x4"])
        assert "networks.py" in str(caught.value.fact("line"))
        assert "--exporter torchscript" in str(caught.value.text())


class TestAFile:
    def test_of_torchscript(self, tmp_path: Path) -> None:
        report = export_onnx(
            saved("traced", tmp_path),
            tmp_path / "net.onnx",
            ExportOptions.model_validate({"inputs": ["x:1x3x12x12"]}),
        )
        assert report.exporter == "torchscript"
        assert report.inputs == (TensorSpec("x", "float32", (-1, 3, 12, 12)),)

    def test_of_torchscript_in_training_mode_is_another_each_time(self, tmp_path: Path) -> None:
        options = ExportOptions.model_validate({"inputs": ["x:1x3x12x12"]})
        with pytest.raises(WorkFailed, match="another each time"):
            export_onnx(saved("traced_in_training", tmp_path), tmp_path / "net.onnx", options)

    def test_of_an_exported_program(self, tmp_path: Path) -> None:
        report = export_onnx(saved("program", tmp_path), tmp_path / "net.onnx", ExportOptions())
        assert report.inputs == (TensorSpec("input", "float32", (-1, 3, 12, 12)),)
        named = ExportOptions.model_validate({"inputs": ["image:4x3x12x12"], "dynamic": ["image:0=n"]})
        report = export_onnx(saved("program", tmp_path), tmp_path / "net.onnx", named)
        graph = onnx.load(report.path).graph
        assert graph.input[0].name == "image"
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"

    def test_of_a_program_with_a_fixed_batch_cannot_get_a_dynamic_one(self, tmp_path: Path) -> None:
        file = saved("program", tmp_path, dynamic=False)
        with pytest.raises(RequestError, match="dimension 0 of 'input' fixed at 2"):
            export_onnx(file, tmp_path / "net.onnx", ExportOptions())
        report = export_onnx(file, tmp_path / "net.onnx", ExportOptions(dynamic={}))
        assert report.inputs[0].shape == (2, 3, 12, 12)

    def test_of_weights_changes_the_result(self, tmp_path: Path) -> None:
        plain = exported("convolutional", tmp_path, inputs=["input:1x3x12x12"])
        for wrapped in (False, True):
            file = Path(saved("weights", tmp_path, wrapped=wrapped))
            loaded = exported("convolutional", tmp_path, inputs=["input:1x3x12x12"], weights=file)
            assert loaded.sha256 != plain.sha256
        assert (
            loaded.sha256
            == exported("convolutional", tmp_path, inputs=["input:1x3x12x12"], seed=9, weights=file).sha256
        )


class TestAnOperatorThatOnnxDoesNotHave:
    def test_of_our_own(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedOperator) as caught:
            exported("custom", tmp_path, inputs=["input:1x4"])
        error = caught.value
        assert (error.operator, error.module, error.opset) == ("trtkit_tests::twice", "1.1", None)
        assert error.line is not None
        assert error.line.startswith(str(NETWORKS))
        assert "return twice(x)" in error.line
        assert list(tmp_path.iterdir()) == []

    def test_is_exported_with_a_translation(self, tmp_path: Path) -> None:
        exported("custom", tmp_path, inputs=["input:1x4"], translations=source("RIGHT"))

    def test_is_not_with_a_translation_that_computes_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "net.onnx").write_text("of yesterday")
        with pytest.raises(WorkFailed, match="something else than PyTorch") as caught:
            exported("custom", tmp_path, inputs=["input:1x4"], translations=source("WRONG"))
        assert "differs by" in str(caught.value.fact("output"))
        assert (tmp_path / "net.onnx").read_text() == "of yesterday"
        assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]

    def test_that_a_younger_opset_has(self, tmp_path: Path) -> None:
        deformable = f"{EXAMPLES / 'unsupported.py'}:deformable"
        with pytest.raises(UnsupportedOperator) as caught:
            export_onnx(deformable, tmp_path / "net.onnx", ExportOptions())
        error = caught.value
        assert (error.operator, error.module) == ("torchvision::deform_conv2d", "0.1")
        assert "deform_conv2d(image" in str(error.line)

    def test_that_a_younger_opset_has_in_torchscript(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedOperator) as caught:
            exported("Deep", tmp_path, inputs=["x:1x2x4x8"], exporter="torchscript", opset=13)
        error = caught.value
        assert error.operator == "aten::scaled_dot_product_attention"
        assert (error.module, error.opset) == ("body.mix", 14)
        assert "networks.py" in str(error.line)

    def test_is_told_without_the_exporters_own_noise(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name, exporter, opset in (
            ("custom", "dynamo", 18), ("Branches", "dynamo", 18), ("custom", "torchscript", 13),
        ):  # fmt: skip
            with pytest.raises(WorkFailed):
                exported(name, tmp_path, inputs=["x:1x4"], exporter=exporter, opset=opset)
            assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("file", "shape", "operator", "module"),
        [
            ("traced_custom", "x:1x4", "trtkit_tests::twice", "1.1"),
            ("scripted_attention", "x:1x2x4x8", "aten::scaled_dot_product_attention", "1"),
        ],
    )
    def test_in_a_torchscript_file(
        self, tmp_path: Path, file: str, shape: str, operator: str, module: str
    ) -> None:
        options = ExportOptions.model_validate({"inputs": [shape], "opset": 13})
        with pytest.raises(UnsupportedOperator) as caught:
            export_onnx(saved(file, tmp_path), tmp_path / "net.onnx", options)
        assert (caught.value.operator, caught.value.module) == (operator, module)
        assert "networks.py" in str(caught.value.line)

    def test_the_examples_show_what_they_say(self, tmp_path: Path) -> None:
        custom = f"{EXAMPLES / 'unsupported.py'}:custom"
        with pytest.raises(UnsupportedOperator, match="trtkit_examples::soft_clip"):
            export_onnx(custom, tmp_path / "net.onnx", ExportOptions())
        table = f"{EXAMPLES / 'unsupported.py'}:TRANSLATIONS"
        assert (
            export_onnx(custom, tmp_path / "net.onnx", ExportOptions(translations=table)).nodes["Tanh"] == 1
        )


class TestARequestThatIsWrong:
    @pytest.mark.parametrize(
        ("name", "options", "says"),
        [
            ("convolutional", {}, "nothing says what the model is called with"),
            ("convolutional", {"inputs": ["x:1x4x12x12"]}, "cannot run the model on x 1x4x12x12"),
            ("TwoInputs", {"inputs": ["image:1x4"]}, "does not take 1 inputs"),
            ("TwoInputs", {"inputs": ["image:1x4", "state:1x5", "x:1", "y:1"]}, "does not take 4 inputs"),
            ("TwoInputs", {"inputs": ["image:1x4", "image:1x5"]}, "have the same name"),
            ("Tokens", {"inputs": ["tokens:1x6"]}, "cannot run the model"),
            ("Unbatched", {"inputs": ["state:7"], "dynamic": ["state:1=x"]}, "no dimension 1"),
            ("Unbatched", {"inputs": ["state:7"], "dynamic": ["x:0=x"]}, "of an input 'x'"),
            ("Unbatched", {"inputs": ["state:7"], "output_names": ["a", "b"]}, "has 1 outputs, not 2"),
            ("Unbatched", {"inputs": ["state:7"], "compare": ["x:7"]}, "no input 'x'"),
            ("Counted", {"inputs": ["x:1x4"]}, "is a int, not a tensor"),
            ("Complex", {"inputs": ["x:1x4"]}, "is complex64, which cannot be compared"),
            ("gives_a_list", {}, "gives a list, not a model"),
            ("fails", {}, r"fails\(\) fails"),
            ("convolutionl", {}, "has no 'convolutionl'"),
            ("NOT_A_MODEL", {}, "which cannot be called"),
            ("custom", {"inputs": ["x:1x4"], "translations": source("NOT_A_MODEL")}, "is a int"),
            ("Detector", {"inputs": ["x:1x10"], "opset": 99}, "opset 99"),
            ("Detector", {"inputs": ["x:1x10"], "opset": 99, "exporter": "torchscript"}, "opset 99"),
        ],
    )  # fmt: skip
    def test_is_told(self, tmp_path: Path, name: str, options: dict[str, Any], says: str) -> None:
        with pytest.raises(RequestError, match=says):
            exported(name, tmp_path, **options)
        assert list(tmp_path.iterdir()) == []

    def test_an_opset_that_the_exporter_cannot_reach(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="opset 17, only in 18") as caught:
            exported("convolutional", tmp_path, inputs=["input:1x3x12x12"], opset=17)
        assert "--opset 18" in str(caught.value.fact("next"))

    @pytest.mark.parametrize(
        ("name", "exporter", "says"),
        [
            ("FixedBatch", "dynamo", "fixes dimension 0 of its input 'x' at 2"),
            ("Length", "torchscript", "something else than PyTorch"),
            ("NotANumber", "dynamo", "'output' holds NaN"),
            ("Random", "dynamo", "another each time"),
        ],
    )
    def test_a_model_that_cannot_be_what_is_asked(
        self, tmp_path: Path, name: str, exporter: str, says: str
    ) -> None:
        with pytest.raises(WorkFailed, match=says):
            exported(name, tmp_path, inputs=["x:2x4"], exporter=exporter)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("asked", "says", "fact"),
        [
            ("torchvision:resnet51", "no model 'resnet51'", "resnet"),
            ("no.such.module:net", "there is no module no", "install"),
            ("no_such_file.py:net", "there is no file", "FILE.py:name"),
            ("no_such_file.pt2", "there is no model", "torchvision:NAME"),
            (str(NETWORKS), "is not a model that PyTorch saved", "torchvision:NAME"),
        ],
    )
    def test_a_source_that_is_none(self, tmp_path: Path, asked: str, says: str, fact: str) -> None:
        with pytest.raises(RequestError, match=says) as caught:
            export_onnx(asked, tmp_path / "net.onnx", ExportOptions())
        assert fact in str(caught.value.fact("next"))

    def test_a_module_that_does_not_import(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "broken_net.py").write_text("weights = 1 / 0\n")
        (tmp_path / "needy_net.py").write_text("import a_package_that_is_not_here\n")
        with pytest.raises(RequestError, match="broken_net cannot be imported") as caught:
            export_onnx("broken_net:net", tmp_path / "net.onnx", ExportOptions())
        assert "ZeroDivisionError" in str(caught.value.fact("because"))
        with pytest.raises(RequestError, match="needs the module a_package_that_is_not_here"):
            export_onnx("needy_net:net", tmp_path / "net.onnx", ExportOptions())

    def test_weights_where_a_model_is_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="holds weights") as caught:
            export_onnx(saved("weights", tmp_path), tmp_path / "net.onnx", ExportOptions())
        assert "--weights" in str(caught.value.fact("next"))

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="does not fit the model") as caught:
            exported("convolutional", tmp_path, weights=Path(saved("other_weights", tmp_path)))
        assert "fc.weight" in str(caught.value.fact("because"))

    def test_weights_that_are_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="is not a state dict"):
            exported("convolutional", tmp_path, weights=NETWORKS)

    def test_torchscript_through_dynamo(self, tmp_path: Path) -> None:
        options = ExportOptions.model_validate({"inputs": ["x:1x3x12x12"], "exporter": "dynamo"})
        with pytest.raises(RequestError, match="does not take TorchScript"):
            export_onnx(saved("traced", tmp_path), tmp_path / "net.onnx", options)

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        for name in ("traced", "program"):
            file = Path(saved(name, tmp_path))
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) // 2])
            with pytest.raises(RequestError):
                export_onnx(str(file), tmp_path / "net.onnx", ExportOptions())

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="no folder"):
            exported("convolutional", tmp_path / "nowhere")

    def test_a_gpu_where_there_is_none(self, tmp_path: Path) -> None:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(EnvironmentLack, match="no GPU"):
            exported("convolutional", tmp_path, device="cuda")


class TestTheCommand:
    def run(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["export", *arguments])
        return int(ended.value.code or 0)

    def test_prints_one_json_document(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "net.onnx"
        shapes = [
            "--input",
            "tokens:1x6:int64",
            "--dynamic",
            "tokens:0=batch,1=length",
            "--compare",
            "tokens:2x9",
        ]
        code = self.run(source("Tokens"), "-o", str(out), *shapes, "--batches", "1,3", "--json")
        report = ExportReport.model_validate(json.loads(capsys.readouterr().out))
        assert code == 0
        assert [one.shapes["tokens"] for one in report.comparisons] == [(1, 6), (3, 6), (2, 9)]
        assert out.is_file()

    def test_prints_a_table(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert self.run(source("Unbatched"), "--input", "state:7", "--static") == 0
        told = capsys.readouterr().out
        assert "Unbatched.onnx" in told
        assert "state float32 7" in told
        assert (tmp_path / "Unbatched.onnx").is_file()

    def test_says_where_equality_proves_little(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(source("Zero"), "-o", str(tmp_path / "net.onnx"), "--input", "x:1x4") == 0
        assert "PyTorch's own output is all-zero" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "options",
        [
            ["--batches", "1,none"],
            ["--static", "--dynamic", "x:0=n"],
            ["--opset", "3"],
            ["--exporter", "magic"],
        ],
    )
    def test_refuses_what_it_does_not_know(
        self, capsys: pytest.CaptureFixture[str], options: list[str]
    ) -> None:
        assert self.run("torchvision:resnet18", *options) == 2
        assert capsys.readouterr().err.startswith("error: ")

    def test_the_file_is_onnx_whatever_it_is_called(self, tmp_path: Path) -> None:
        out = tmp_path / "net.json"
        assert self.run(source("Zero"), "--out", str(out), "--input", "x:1x4") == 0
        assert load_onnx(out).graph.input[0].name == "x"
