"""The checks of torch.compile: what they refuse, and the stub that stands for a driver."""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from smoke import compiled
from smoke.outcome import Skip

if TYPE_CHECKING:
    from pathlib import Path

DRIVER_C = """
#include "cuda.h"
static void load(void) { cuInit(0); cuModuleLoadData(&module, image); }
typedef CUresult (*cuLaunchKernelEx_t)(const CUlaunchConfig *config);
"""


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("_no_compiler")
def test_an_image_of_ours_must_have_a_compiler() -> None:
    with pytest.raises(AssertionError, match="no C compiler"):
        compiled.require_compiler({"packages": {"triton": "3.5.1"}})


@pytest.mark.usefixtures("_no_compiler")
def test_a_brought_base_need_not() -> None:
    with pytest.raises(Skip, match="the base has no C compiler"):
        compiled.require_compiler({"interpreter": "/usr/bin/python"})


def test_one_that_is_named_or_on_the_path_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.require_compiler({})  # the tests' own machine has gcc
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "tcc")
    compiled.require_compiler({})


def test_the_stub_has_what_triton_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backend = tmp_path / "backend"
    backend.mkdir()
    (backend / "driver.c").write_text(DRIVER_C)
    (backend / "driver.py").write_text('"cuLaunchKernelEx(&config, function, params, 0)"')
    for name in ("triton", "triton.backends", "triton.backends.nvidia"):
        module = ModuleType(name)
        module.__path__ = [str(backend)]
        monkeypatch.setitem(sys.modules, name, module)
    # A name that no driver has, so that the tests say the same on a machine with one.
    monkeypatch.setattr(compiled, "LIBRARY", "libcuda-smoke.so.1")
    monkeypatch.setenv("TRITON_LIBCUDA_PATH", "")
    assert compiled.with_driver(tmp_path) == "a stub of libcuda"
    stub = ctypes.CDLL("libcuda-smoke.so.1")  # loaded already, under its soname
    assert {stub.cuInit(0), stub.cuModuleLoadData(), stub.cuLaunchKernelEx()} == {100}
    assert (tmp_path / "libcuda.so").resolve() == tmp_path / "libcuda-smoke.so.1"


def test_both_checks_need_triton() -> None:
    for name in ("torch_compile", "torch_compile_run"):
        assert "packages.triton" in importlib.import_module(f"smoke.checks.{name}").NEEDS
