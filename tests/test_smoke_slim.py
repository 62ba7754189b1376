"""The smoke test of a slim torch: its libraries hold what the cell's GPUs run, all of it and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smoke.checks import torch_slim
from smoke.fatbin import architectures
from tests.slim.library_factory import Library, code
from trtforge.slim.library import slim_library

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = {"slim": {"sm": ["80", "86"], "libraries": ["torch/lib/libtorch_cuda*.so"]}}
SEVERAL = [[code("sm_80", 9000), code("sm_86", 9000), code("sm_90", 9000)], [code("sm_80"), code("sm_100")]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch's libraries, in an environment of its own."""
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    return tmp_path / "torch" / "lib"


def test_a_slimmed_library_passes_and_says_what_it_holds(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.so"
    whole.write_bytes(Library(SEVERAL).build())
    slim_library(whole, folder / "libtorch_cuda.so", ["80", "86"])
    held = torch_slim.check(EXPECTED)["libtorch_cuda.so"]
    assert held.keys() == {"sm_80", "sm_86"}
    assert architectures(str(whole)).keys() == {"sm_80", "sm_86", "sm_90", "sm_100"}


def test_code_of_other_gpus_fails(folder: Path) -> None:
    (folder / "libtorch_cuda.so").write_bytes(Library(SEVERAL).build())
    with pytest.raises(AssertionError, match="still has code for other GPUs: sm_90, sm_100"):
        torch_slim.check(EXPECTED)


def test_a_gpu_without_code_fails(folder: Path) -> None:
    (folder / "libtorch_cuda.so").write_bytes(Library([[code("sm_86")]]).build())
    with pytest.raises(AssertionError, match="no code for SM 80, only sm_86"):
        torch_slim.check(EXPECTED)


@pytest.mark.usefixtures("folder")
def test_a_library_that_is_not_there_fails() -> None:
    with pytest.raises(AssertionError, match="there is none of torch/lib/libtorch_cuda"):
        torch_slim.check(EXPECTED)


def test_what_is_no_container_fails(folder: Path) -> None:
    library = Library([[code("sm_80")]]).build()
    at = library.index((0xBA55ED50).to_bytes(4, "little"))
    (folder / "libtorch_cuda.so").write_bytes(library[:at] + b"\1" + library[at + 1 :])
    with pytest.raises(ValueError, match="no fatbin container"):
        torch_slim.check(EXPECTED)
