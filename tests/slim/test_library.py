"""A slimmed library is smaller, holds what its GPUs run, and is otherwise the library that it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.slim.library_factory import PAGE, Code, Library, code
from tests.slim.loaded_image import at, memory, registered, sections
from trtforge.slim.errors import NothingRuns, NotUnderstood
from trtforge.slim.library import Slimmed, slim_library

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = ["sm_70", "sm_80", "sm_86", "sm_90", "sm_90a", "sm_100", "compute_100"]


def everywhere(salt: str) -> list[Code]:
    return [code(architecture, salt=salt) for architecture in EVERYWHERE]


def slim(data: bytes, folder: Path, *sm: str) -> tuple[Slimmed, bytes]:
    (folder / "library.so").write_bytes(data)
    done = slim_library(folder / "library.so", folder / "slim.so", sm)
    return done, (folder / "slim.so").read_bytes()


def test_what_stays_is_what_the_gpus_run_and_the_pages_of_the_rest_leave_the_file(tmp_path: Path) -> None:
    library = Library([everywhere("one"), everywhere("two")])
    before = library.build()
    done, after = slim(before, tmp_path, "80", "86")
    assert registered(after) == [
        [(80, code("sm_80", salt=salt).payload), (86, code("sm_86", salt=salt).payload)]
        for salt in ("one", "two")
    ]
    assert done.saved == len(before) - len(after)
    assert done.saved >= sum(done.dropped.values()) - 2 * PAGE
    assert done.saved % PAGE == 0
    assert done.kept == {"sm_80": 2 * 2112, "sm_86": 2 * 2112}
    assert set(done.dropped) == set(EVERYWHERE) - set(done.kept)


def test_all_else_stays_at_its_address(tmp_path: Path) -> None:
    before = Library([everywhere("one"), everywhere("two")]).build()
    _, after = slim(before, tmp_path, "90")
    was, now = sections(before), sections(after)
    assert {name: row[0] for name, row in now.items()} == {name: row[0] for name, row in was.items()}
    moved = {".nv_fatbin", ".nvFatBinSegment", ".rela.dyn", ".symtab"}
    for name in was.keys() - moved:
        address, offset, size = now[name]
        assert after[offset : offset + size] == before[was[name][1] : was[name][1] + size], name
        if address:
            assert at(memory(after), address, size) == at(memory(before), address, size), name


def test_wrappers_whose_address_only_the_relocation_has_stay_so(tmp_path: Path) -> None:
    before = Library([everywhere("one"), everywhere("two")], stored=False).build()
    _, after = slim(before, tmp_path, "86")
    address, offset, size = sections(after)[".nvFatBinSegment"]
    assert address
    assert all(after[at + 8 : at + 16] == bytes(8) for at in range(offset, offset + size, 24))
    assert [[capability for capability, _ in one] for one in registered(after)] == [[86], [86]]


def test_a_container_with_nothing_for_the_gpus_is_emptied_and_stays_registered(tmp_path: Path) -> None:
    before = Library([everywhere("one"), [code("sm_70", 9000)], everywhere("three")]).build()
    _, after = slim(before, tmp_path, "90")
    assert [[capability for capability, _ in one] for one in registered(after)] == [[90, 90], [], [90, 90]]


def test_a_container_without_machine_code_for_a_gpu_keeps_its_ptx(tmp_path: Path) -> None:
    before = Library([everywhere("one"), [code("sm_70", 9000), code("compute_80", 64)]]).build()
    _, after = slim(before, tmp_path, "86", "90")
    assert [[capability for capability, _ in one] for one in registered(after)] == [[86, 90, 90], [80]]


def test_a_library_that_loses_no_whole_page_stays_as_it_is(tmp_path: Path) -> None:
    before = Library([[code("sm_80", 512), code("sm_90", 512)]]).build()
    done, after = slim(before, tmp_path, "90")
    assert after == before
    assert (done.saved, done.dropped) == (0, {})


def test_it_is_the_same_when_it_is_done_again(tmp_path: Path) -> None:
    before = Library([everywhere("one")]).build()
    first = slim(before, tmp_path, "90")
    assert slim(before, tmp_path, "90") == first
    again, after = slim(first[1], tmp_path, "90")
    assert (after, again.saved) == (first[1], 0)


def test_a_library_of_which_nothing_would_run_is_refused_with_what_would_be_lost(tmp_path: Path) -> None:
    operators = ["_ZN2at4cuda3mulERKNS_6TensorES3_", "_ZN2at4cuda6helperEv"]
    before = Library([[code("sm_80", 9000), code("sm_90a", 9000)]], names=operators).build()
    with pytest.raises(NothingRuns) as refused:
        slim(before, tmp_path, "86", "75")
    assert (refused.value.library, refused.value.sm) == ("library.so", "75")
    assert refused.value.has == ("sm_80", "sm_90a")
    assert refused.value.lost == ("mul",)
    assert "mul" in (refused.value.fact("lost would be") or "")


def test_kernels_are_named_where_no_operators_are(tmp_path: Path) -> None:
    stub = "_ZL40__device_stub__ZN6vision3ops10nms_kerneliPf"
    before = Library([[code("sm_80", 9000)]], names=[stub]).build()
    with pytest.raises(NothingRuns) as refused:
        slim(before, tmp_path, "90")
    assert refused.value.lost == ("nms_kernel",)


def test_a_library_without_gpu_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotUnderstood, match="no GPU code"):
        slim(Library([]).build(), tmp_path, "90")
