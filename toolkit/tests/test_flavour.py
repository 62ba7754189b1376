"""Which TensorRT is found: modules are stood in for, whatever is installed here."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from trtkit.errors import EnvironmentLack
from trtkit.flavour import LEAN, MODULES, find_builder, find_tensorrt

ALL = (*MODULES.values(), LEAN)


def only(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those modules, and no others of TensorRT, be here."""
    for name in ALL:
        module = ModuleType(name)
        module.__version__ = "10.16.1.11"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module if name in names else None)


@pytest.mark.parametrize(
    ("there", "flavour", "lean", "told"),
    [
        (("tensorrt",), "tensorrt", False, "TensorRT 10.16.1.11"),
        (("tensorrt_rtx",), "tensorrt-rtx", False, "TensorRT-RTX 10.16.1.11"),
        ((LEAN,), "tensorrt", True, "TensorRT 10.16.1.11 (lean runtime)"),
        (("tensorrt", LEAN), "tensorrt", False, "TensorRT 10.16.1.11"),
    ],
)
def test_the_whole_library_comes_before_its_lean_runtime(
    there: tuple[str, ...], flavour: str, lean: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(there, monkeypatch)
    found = find_tensorrt()
    assert (found.flavour, found.lean, str(found)) == (flavour, lean, told)
    assert found.module.__name__ == there[0]


def test_the_lean_runtime_builds_nothing_and_says_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    only((LEAN,), monkeypatch)
    with pytest.raises(EnvironmentLack, match=r"lean runtime\) builds no engines") as lack:
        find_builder()
    assert ("because", "it has neither builder nor parser") in lack.value.facts
    only(("tensorrt",), monkeypatch)
    assert not find_builder().lean


def test_where_there_is_none_each_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only((), monkeypatch)
    with pytest.raises(EnvironmentLack, match="no TensorRT") as lack:
        find_tensorrt()
    assert {label for label, _ in lack.value.facts} == {*ALL, "next"}
