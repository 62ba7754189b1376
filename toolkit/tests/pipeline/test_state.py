"""What is remembered of a step, and when it is not believed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.pipeline.fingerprint import fingerprint
from trtkit.pipeline.state import Done, key_of, remember, remembered
from trtkit.sidecar import file_sha256

Plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(facts=st.dictionaries(st.text(max_size=3), Plain, min_size=1, max_size=4))
def test_the_order_of_facts_does_not_matter_and_their_values_do(facts: dict[str, Any]) -> None:
    key = key_of(facts)
    assert key_of(dict(reversed(facts.items()))) == key
    assert key_of({**facts, next(iter(facts)): "another value"}) != key
    assert key_of({**facts, "a new fact": 1}) != key


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a step that made net.onnx."""
    (tmp_path / "net.onnx").write_bytes(b"a network")
    files = {"net.onnx": file_sha256(tmp_path / "net.onnx")}
    remember(tmp_path, "export", Done(key="k", files=files, says="done", report={"worst": math.nan}))
    return tmp_path


def test_what_was_done_is_remembered_with_its_report(work: Path) -> None:
    done = remembered(work, "export", "k")
    assert done is not None
    assert (done.says, list(done.files)) == ("done", ["net.onnx"])
    assert math.isnan(done.report["worst"])


def test_another_key_or_step_is_not(work: Path) -> None:
    assert remembered(work, "export", "k2") is None
    assert remembered(work, "build fp16", "k") is None


@pytest.mark.parametrize("content", [None, b"a network!", b"", b"A network"])
def test_a_missing_or_changed_file_means_doing_it_again(content: bytes | None, work: Path) -> None:
    (work / "net.onnx").unlink()
    if content is not None:
        (work / "net.onnx").write_bytes(content)
    assert remembered(work, "export", "k") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": "k"}', b"\xff\xfe"])
def test_a_damaged_state_file_means_doing_it_again(content: bytes, work: Path) -> None:
    (work / "steps" / "export.json").write_bytes(content)
    assert remembered(work, "export", "k") is None


def test_a_file_is_named_by_what_is_in_it_and_a_folder_by_all_of_it(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text("a = 1")
    before = fingerprint(f"{code}:Net")
    assert before == fingerprint(str(code))
    code.write_text("a = 2")
    assert fingerprint(f"{code}:Net") != before
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.npy").write_bytes(b"1")
    folder = fingerprint(str(tmp_path / "data"))
    (tmp_path / "data" / "deep" / "a.npy").rename(tmp_path / "data" / "deep" / "b.npy")
    assert fingerprint(str(tmp_path / "data")) != folder
    assert fingerprint("no_such_module:net") == "no_such_module:net"
    assert fingerprint("") == ""
    assert fingerprint("json:load") == file_sha256(Path(json.__file__))
