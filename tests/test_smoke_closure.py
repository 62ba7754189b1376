"""The smoke test of libraries judges as the real dynamic linker does, and names the file rule at fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.checks import libraries
from smoke.closure import Closure, Missing
from smoke.elf import BadElf, Linkage, linkage
from tests.linked_libraries import shared_library


def missing(root: Path) -> set[tuple[str, str]]:
    files, faults = libraries.read(str(root))
    assert not faults
    system = libraries.where_in(libraries.loader_folders())
    found = libraries.unresolved(files, str(root), system)
    return {(os.path.relpath(miss.path, root), miss.name) for miss in found}


def loads(*paths: Path) -> bool:
    """Whether the real loader opens `paths`, one after the other, in a fresh process."""
    code = "import ctypes, sys\nfor path in sys.argv[1:]: ctypes.CDLL(path)"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1)
    return done.returncode == 0


@pytest.mark.parametrize(("tag", "found"), [("rpath", True), ("runpath", True), ("none", False)])
def test_a_library_is_found_by_the_path_of_the_one_that_needs_it(
    tmp_path: Path, tag: str, found: bool
) -> None:
    leaf = shared_library(tmp_path / "other" / "libleaf.so.1")
    paths = {} if tag == "none" else {tag: "$ORIGIN/../other"}
    top = shared_library(tmp_path / "some" / "libtop.so", needs=[leaf], **paths)
    assert loads(top) == found
    assert missing(tmp_path) == (set() if found else {("some/libtop.so", "libleaf.so.1")})


@pytest.mark.parametrize(("tag", "found"), [("rpath", True), ("runpath", False)])
def test_rpath_is_inherited_by_what_is_loaded_and_runpath_is_not(
    tmp_path: Path, tag: str, found: bool
) -> None:
    leaf = shared_library(tmp_path / "b" / "libleaf.so")
    middle = shared_library(tmp_path / "b" / "libmiddle.so", needs=[leaf])
    top = shared_library(tmp_path / "a" / "libtop.so", needs=[middle], **{tag: "$ORIGIN/../b"})
    assert loads(top) == found
    closure = Closure(libraries.read(str(tmp_path))[0], lambda _: None)
    in_process = closure.missing(lambda path: [str(top)] if path == str(middle) else [])
    assert (Missing(str(middle), "libleaf.so") not in in_process) == found


def test_a_library_with_a_runpath_does_not_inherit(tmp_path: Path) -> None:
    leaf = shared_library(tmp_path / "b" / "libleaf.so")
    middle = shared_library(tmp_path / "b" / "libmiddle.so", needs=[leaf], runpath="/nowhere")
    top = shared_library(tmp_path / "a" / "libtop.so", needs=[middle], rpath="$ORIGIN/../b")
    assert not loads(top)
    assert ("b/libmiddle.so", "libleaf.so") in missing(tmp_path)


def test_a_library_that_is_loaded_already_is_not_looked_for(tmp_path: Path) -> None:
    leaf = shared_library(tmp_path / "torch" / "lib" / "libtorch_python.so")
    top = shared_library(tmp_path / "torchvision" / "_C.so", needs=[leaf])
    assert not loads(top)
    assert loads(leaf, top)
    assert missing(tmp_path) == set()
    top.rename(tmp_path / "other.so")
    assert missing(tmp_path) == {("other.so", "libtorch_python.so")}


def test_what_the_system_has_is_found_and_drivers_are_not_expected(tmp_path: Path) -> None:
    driver = shared_library(tmp_path / "stub" / "libcuda.so.1")
    shared_library(tmp_path / "one.so", needs=[driver])
    driver.unlink()
    subprocess.run(["gcc", "-shared", "-o", tmp_path / "two.so", "-Wl,--no-as-needed", "-lm"], check=True)
    assert "libm.so.6" in linkage(str(tmp_path / "two.so")).needed  # type: ignore[union-attr]
    assert missing(tmp_path) == set()


def test_plugins_of_networks_may_lack_what_few_sites_have(tmp_path: Path) -> None:
    mpi = shared_library(tmp_path / "libmpi.so.40")
    for path in ("nvidia/nvshmem/lib/nvshmem_bootstrap_mpi.so.3", "elsewhere.so"):
        shared_library(tmp_path / path, needs=[mpi])
    mpi.unlink()
    assert missing(tmp_path) == {("elsewhere.so", "libmpi.so.40")}


def test_what_is_opened_by_name_must_be_there_too(tmp_path: Path) -> None:
    folder = tmp_path / "nvidia" / "cuda_nvrtc" / "lib"
    shared_library(folder / "libnvrtc.so.12", runpath="$ORIGIN")
    builtins = shared_library(folder / "libnvrtc-builtins.so.12.8")
    assert missing(tmp_path) == set()
    builtins.unlink()
    assert missing(tmp_path) == {("nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "libnvrtc-builtins.so.*")}


def test_a_failure_names_the_file_what_it_needs_and_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = shared_library(tmp_path / "nvidia" / "lib" / "libsolver.so.11")
    shared_library(tmp_path / "torch" / "libtorch.so", needs=[leaf], rpath="$ORIGIN/../nvidia/lib")
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    assert libraries.check({})["files"] == 2
    leaf.unlink()
    left_out = [
        {"package": "nvidia-solver", "rule": "solvers", "drop": ["*/libsolver.so.*"], "keep": []},
        {"package": "nvidia-solver", "rule": "headers", "drop": ["*/include/*"], "keep": []},
    ]
    with pytest.raises(AssertionError) as caught:
        libraries.check({"left_out": left_out})
    assert str(caught.value) == (
        "torch/libtorch.so needs libsolver.so.11, which the image does not have:"
        " the file rule solvers leaves */libsolver.so.* of nvidia-solver out"
    )


def test_a_broken_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_library(tmp_path / "libcut.so", needs=[shared_library(tmp_path / "liba.so")])
    path.write_bytes(path.read_bytes()[:200])
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(AssertionError, match=r"libcut\.so is broken: it ends before"):
        libraries.check({})


def test_folders_of_ld_so_conf_are_read_with_what_it_includes(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text("/b  # here\n")
    (tmp_path / "conf.d" / "a.conf").write_text("/a1\n\n/a2\n")
    (tmp_path / "ld.so.conf").write_text(f"include {tmp_path}/conf.d/*.conf\ninclude conf.d/b.conf\n/last\n")
    assert libraries.configured(tmp_path / "ld.so.conf") == ["/a1", "/a2", "/b", "/b", "/last"]


@pytest.fixture(scope="module")
def sample() -> bytes:
    with TemporaryDirectory() as folder:
        leaf = shared_library(Path(folder, "libleaf.so.1"))
        top = shared_library(Path(folder, "libtop.so"), needs=[leaf], rpath="$ORIGIN:/other", functions=["f"])
        assert linkage(str(top)) == Linkage("libtop.so", ("libleaf.so.1",), ("$ORIGIN", "/other"), ())
        return top.read_bytes()


@given(data=st.data())
def test_a_mutated_library_is_read_or_called_broken(sample: bytes, data: st.DataObject) -> None:
    content = bytearray(sample[: data.draw(st.integers(16, len(sample)))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(4, min(len(content), 1024) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder, "lib.so")
        path.write_bytes(content)
        try:
            found = linkage(str(path))
        except BadElf:
            return
        assert found is None or all(isinstance(name, str) for name in found.needed)
