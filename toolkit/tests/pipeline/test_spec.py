"""model.yaml as people write it, and what they are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtkit.errors import RequestError
from trtkit.pipeline import PipelineSpec, read_spec
from trtkit.tensors import TensorSpec

WHOLE = """\
name: net
model: net.py:Net
export:
  inputs: ["image:1x3x16x16"]
  opset: 18
profile: {min: ["image:1x3x16x16"], opt: ["image:2x3x16x16"], max: ["image:4x3x16x16"]}
preprocess: {resize: 16, crop: 16}
labels: labels.txt
calibrate: {data: net.py:samples, samples: 20, method: minmax, keep_fp16: ["*/head"]}
engines:
  - {precision: fp16, sm: [80, 86], workspace: 1GiB}
  - {precision: int8, sm: 89}
bench: {batches: [1, 4], rounds: 2}
budgets:
  agreement: 0.9
  latency: [{row: TensorRT FP16, batch: 4, p99: 5}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text("")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return tmp_path


def read(folder: Path, text: str) -> PipelineSpec:
    (folder / "net.yaml").write_text(text)
    return read_spec(folder / "net.yaml")


def test_a_whole_file_is_read(folder: Path) -> None:
    spec = read(folder, WHOLE)
    assert spec.source == f"{folder}/net.py:Net"
    assert spec.export.inputs == (TensorSpec("image", "float32", (1, 3, 16, 16)),)
    assert spec.profile.max == {"image": (4, 3, 16, 16)}
    assert [engine.sm for engine in spec.engines] == [("80", "86"), ("89",)]
    assert spec.engines[0].workspace == 1 << 30
    assert spec.class_names() == ("cat", "dog")
    assert spec.calibrate is not None
    assert spec.calibrate.options(folder / "ranges.json", spec.preprocess).preprocess.crop == 16
    built = spec.engines[0].options(spec.profile, spec.preprocess, spec.class_names())
    assert (built.labels, built.min_shapes) == (("cat", "dog"), {"image": (1, 3, 16, 16)})


def test_a_model_alone_is_enough_and_the_file_gives_the_name(folder: Path) -> None:
    spec = read(folder, "model: torchvision:resnet18\n")
    assert (spec.name, spec.source, spec.engines) == ("net", "torchvision:resnet18", ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: torchvision:x\nlabls: l.txt\n", "net.yaml:2: labls: Extra inputs are not permitted"),
        ("model: torchvision:x\nbench:\n  rounds: 1\n  round: 3\n", "net.yaml:4: bench.round: Extra"),
        ("model: torchvision:x\nlabels: none.txt\n", "net.yaml:2: labels: there is no file none.txt"),
        ("model: none.py:Net\n", "net.yaml:1: model: there is no file none.py"),
        ("model: none.pt2\n", "net.yaml:1: model: there is no file none.pt2"),
        ("model: torchvision:x\nexport: {weights: w.pth}\n", "net.yaml:2: export: there is no file w.pth"),
        ("model: torchvision:x\n\ncalibrate: {data: images}\n", "net.yaml:3: calibrate: there is no"),
        ("model: torchvision:x\nengines:\n  - {precision: fp8}\n", "net.yaml:3: engines.0.precision: Input"),
        ("model: torchvision:x\nengines:\n- {precision: fp16, sm: [9000]}\n", "net.yaml:3: engines.0.sm: '9"),
        ("model: torchvision:x\nengines: [{precision: fp16, workspace: 2XB}]\n", "workspace: '2XB' is not"),
        ("model: torchvision:x\nengines: [{precision: fp16, workspace: 0}]\n", "workspace: Input should be"),
        ("model: torchvision:x\nprofile:\n  min: ['x=1']\n", "net.yaml:3: profile.min: 'x=1' is not a shape"),
        ("model: torchvision:x\nexport:\n  inputs: ['x:1:int3']\n", "net.yaml:2: export: 'int3' is not"),
        ("model: torchvision:x\nbench: {batches: [1, 1]}\n", "net.yaml:2: bench.batches: a batch size"),
        ("model: torchvision:x\nbench: {batches: [0]}\n", "net.yaml:2: bench.batches.0: Input"),
        ("model: torchvision:x\nbench: {batches: []}\n", "net.yaml:2: bench.batches: Tuple"),
        ("model: torchvision:x\nname: ../../x\n", "net.yaml:2: name: String should match"),
        ("model: torchvision:x\nname: .x\n", "net.yaml:2: name: String should match"),
        ("model: torchvision:x\nfolder: /\n", "net.yaml:2: folder: it is the one that the file is in"),
        ("model: torchvision:x\nbudgets: {latency: [{row: ONNX Runtime CPU, p50: .nan}]}\n", "p50: Input"),
        ("model: torchvision:x\nbudgets: {agreement: 1.1}\n", "net.yaml:2: budgets.agreement: Input"),
        ("model: torchvision:x\n3: 4\n", "3: Extra inputs"),
        ("name: net\n", "model: Field required"),
        ("model: torchvision:x\nmodel: torchvision:y\n", "net.yaml:2"),
        ("model: [\n", "net.yaml:2"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_line(text: str, told: str, folder: Path) -> None:
    with pytest.raises(RequestError) as raised:
        read(folder, text)
    assert told in raised.value.text()


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    with pytest.raises(RequestError) as raised:
        read(folder, "model: no.py:Net\nlabels: no.txt\nbench: {rounds: 0}\n")
    assert [text.split(":")[1] for _, text in raised.value.facts] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("engines: [{precision: int8}]", "an int8 engine needs `calibrate`"),
        ("engines: [{precision: fp16, sm: 80}, {precision: fp16, sm: 86}]", "two engines of one precision"),
        ("budgets: {agreement: 0.9}", "nothing is calibrated"),
        ("budgets: {sqnr_db: 20}", "nothing is calibrated"),
        ("bench:\nbudgets: {latency: [{row: ONNX Runtime CPU, p50: 1}]}", "which is left out"),
        ("budgets: {latency: [{row: TensorRT FP16, p50: 1}]}", "there is no row 'TensorRT FP16'"),
        ("budgets: {latency: [{row: onnx runtime, p50: 1}]}", "PyTorch FP32, PyTorch FP16"),
        ("budgets: {latency: [{row: ONNX Runtime CPU, batch: 2, p50: 1}]}", "no batch of 2"),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, told: str, folder: Path) -> None:
    with pytest.raises(RequestError) as raised:
        read(folder, f"model: torchvision:x\n{text}\n")
    assert told in raised.value.text()


@pytest.mark.parametrize("content", [b"", b"- a\n", b"text", b"\xff\xfe\x00"])
def test_what_is_no_mapping_is_refused(content: bytes, folder: Path) -> None:
    (folder / "net.yaml").write_bytes(content)
    with pytest.raises(RequestError, match=r"net\.yaml"):
        read_spec(folder / "net.yaml")


def test_a_missing_file_and_a_folder_are_refused(folder: Path) -> None:
    for path in (folder / "none.yaml", folder):
        with pytest.raises(RequestError, match="there is no file"):
            read_spec(path)


def test_paths_are_beside_the_file_wherever_it_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    spec = read(folder, "model: net.py:Net\nlabels: labels.txt\ncalibrate: {data: net.py:samples}\n")
    assert spec.class_names() == ("cat", "dog")
    assert spec.calibrate is not None
    assert spec.beside(spec.calibrate.data) == f"{folder}/net.py:samples"
