"""Which file of a model folder is served, and what is told where none can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import TensorProto

from tests.serve.networks import doubling, sum_and_difference, unchanged
from trtkit.errors import EnvironmentLack, RequestError
from trtkit.serve.folder import Choice, open_model


def test_an_onnx_file_is_served_by_onnx_runtime_under_its_folders_name(tmp_path: Path) -> None:
    doubling(tmp_path / "twice" / "model.onnx")
    opened = open_model(tmp_path / "twice", Choice())
    assert opened.model.name == "twice"
    assert (opened.model.platform, opened.model.max_batch) == ("onnxruntime_onnx", 32)
    assert open_model(tmp_path / "twice" / "model.onnx", Choice()).model.name == "model"
    assert open_model(tmp_path / "twice", Choice(name="t", max_batch=4)).model.max_batch == 4


def test_a_model_of_one_shape_is_not_batched(tmp_path: Path) -> None:
    assert open_model(doubling(tmp_path / "one.onnx", batch=1), Choice()).model.joins is False


def test_several_contexts_share_one_session(tmp_path: Path) -> None:
    opened = open_model(doubling(tmp_path / "m.onnx"), Choice(contexts=3))
    assert len(opened.runners) == 3
    assert len(set(map(id, opened.runners))) == 1


def test_the_description_beside_the_file_gives_labels_and_preprocessing(tmp_path: Path) -> None:
    model = doubling(tmp_path / "m.onnx")
    (tmp_path / "model.json").write_text(
        '{"labels": ["cat", "dog"], "preprocess": {"crop": 32, "resize": 40}}'
    )
    opened = open_model(model, Choice()).model
    assert opened.labels == ("cat", "dog")
    assert opened.preprocess is not None
    assert opened.preprocess.crop == 32


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Invalid JSON"),
        ('{"label": []}', "label"),
        ('{"preprocess": {"crop": "big"}}', "preprocess.crop"),
    ],
)
def test_a_wrong_description_is_told_where_it_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    model = doubling(tmp_path / "m.onnx")
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        open_model(model, Choice())
    assert told in caught.value.text()


def test_images_need_a_model_with_one_input(tmp_path: Path) -> None:
    model = sum_and_difference(tmp_path / "m.onnx")
    (tmp_path / "model.json").write_text(json.dumps({"preprocess": {}}))
    with pytest.raises(RequestError, match="the model has 2"):
        open_model(model, Choice())


def test_types_that_the_protocol_does_not_know_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no type for some tensors") as caught:
        open_model(unchanged(tmp_path / "m.onnx", TensorProto.STRING), Choice())
    assert caught.value.fact("tensors") == "x object ?x2, y object ?x2"


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    cases = [
        ("nowhere", "there is no"),
        ("empty", "nothing to serve"),
        ("notes.txt", "cannot be served"),
        ("broken.onnx", "cannot load broken.onnx"),
    ]
    for name, told in cases:
        with pytest.raises(RequestError) as caught:
            open_model(tmp_path / name, Choice())
        assert told in caught.value.problem


def test_two_onnx_files_are_one_too_many(tmp_path: Path) -> None:
    doubling(tmp_path / "a.onnx"), doubling(tmp_path / "b.onnx")
    with pytest.raises(RequestError, match="several") as caught:
        open_model(tmp_path, Choice())
    assert caught.value.fact("has") == "a.onnx, b.onnx"


def test_where_no_engine_can_run_the_onnx_file_beside_it_is_served_and_says_why(tmp_path: Path) -> None:
    doubling(tmp_path / "m.onnx")
    (tmp_path / "m.fp16.engine").write_bytes(b"an engine")
    opened = open_model(tmp_path, Choice())
    assert opened.file.name == "m.onnx"
    assert opened.because.startswith("no engine runs here: ")
    for choice in (Choice(backend="tensorrt"), Choice(engine="m.fp16")):  # then nothing else will do
        with pytest.raises((RequestError, EnvironmentLack)):
            open_model(tmp_path, choice)
    with pytest.raises(RequestError, match=r"no engine 'm\.int8'"):
        open_model(tmp_path, Choice(engine="m.int8"))


def test_tensorrt_is_not_asked_for_an_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="engine"):
        open_model(doubling(tmp_path / "m.onnx"), Choice(backend="tensorrt"))
