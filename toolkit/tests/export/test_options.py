"""What an export is asked for, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import RequestError
from trtkit.export.options import DTYPES, ExportOptions, parse_dynamic, parse_input
from trtkit.tensors import TensorSpec, shape_text

names = st.from_regex(r"[A-Za-z_][A-Za-z_0-9.:/]{0,12}", fullmatch=True)
shapes = st.lists(st.integers(1, 4096), max_size=5).map(tuple)


@given(names, shapes, st.sampled_from(DTYPES))
def test_an_input_reads_as_it_is_written(name: str, shape: tuple[int, ...], dtype: str) -> None:
    spec = TensorSpec(name, dtype, shape)
    assert parse_input(f"{name}:{shape_text(shape)}:{dtype}") == spec


def test_an_input_without_a_type_is_float32() -> None:
    assert parse_input("input:1x3x224x224") == TensorSpec("input", "float32", (1, 3, 224, 224))
    assert parse_input("model:in:8") == TensorSpec("model:in", "float32", (8,))
    assert parse_input("scale:scalar") == TensorSpec("scale", "float32", ())


@pytest.mark.parametrize(
    "text", ["", "input", "input:", "input:1x", "input:-1x3", "1x3x4", ":1x3", "a:1x2:float"]
)
def test_what_is_no_input_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_input(text)
    assert caught.value.fact("next")


def test_dynamic_dimensions_have_names() -> None:
    assert parse_dynamic(["input:0=batch,2=height", "mask:0=batch"]) == {
        "input": {0: "batch", 2: "height"},
        "mask": {0: "batch"},
    }


@pytest.mark.parametrize(
    "text", ["input", "input:", "input:batch", "input:0", "input:0=1", ":0=batch", "x:0=a,0=b"]
)
def test_what_names_no_dimension_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_dynamic([text])


def test_a_pipeline_file_says_the_same_in_the_same_words() -> None:
    written = {
        "inputs": ["tokens:1x16:int64"],
        "dynamic": ["tokens:0=batch,1=length"],
        "compare": ["tokens:2x32"],
    }
    options = ExportOptions.model_validate(written)
    assert options.inputs == (TensorSpec("tokens", "int64", (1, 16)),)
    assert options.dynamic == {"tokens": {0: "batch", 1: "length"}}
    assert options.compare == ({"tokens": (2, 32)},)
    assert ExportOptions.model_validate_json(options.model_dump_json()) == options


def test_the_batch_is_dynamic_by_default_and_static_is_something_else() -> None:
    assert ExportOptions().dynamic is None
    assert ExportOptions(dynamic={}).dynamic == {}
