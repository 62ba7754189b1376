"""What is not understood byte for byte is refused, with the place and the reason."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.slim.library_factory import Library, code
from tests.slim.loaded_image import sections
from trtforge.slim.errors import NotUnderstood
from trtforge.slim.library import slim_library

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEFORE = Library(
    [[code("sm_80", 9000), code("sm_90", 9000)], [code("sm_80", 9000), code("sm_90", 9000)]]
).build()
FATBIN = sections(BEFORE)[".nv_fatbin"][1]
FIRST = FATBIN + 16
SECOND = FIRST + 9064
WRAPPER = sections(BEFORE)[".nvFatBinSegment"][1]
RELOCATION = sections(BEFORE)[".rela.dyn"][1]
SYMBOL = sections(BEFORE)[".symtab"][1] + 24
(SECTIONS,) = struct.unpack_from("<Q", BEFORE, 40)
FATBIN_SECTION = SECTIONS + 3 * 64


def put(form: str, at: int, *values: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into("<" + form, data, at, *values)


def test_the_library_is_slimmed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "l.so").write_bytes(BEFORE)
    assert slim_library(tmp_path / "l.so", tmp_path / "o.so", ["90"]).saved


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(put("I", 0, 0), "no 64-bit little-endian ELF", id="magic"),
        pytest.param(put("B", 4, 1), "no 64-bit little-endian ELF", id="32-bit"),
        pytest.param(put("H", 16, 2), "no shared library", id="executable"),
        pytest.param(put("H", 18, 183), "no shared library for x86-64", id="machine"),
        pytest.param(put("H", 54, 32), "unknown sizes", id="header-size"),
        pytest.param(put("H", 56, 0), "no segments", id="no-segments"),
        pytest.param(put("H", 56, 9000), "beyond the end", id="segments-beyond"),
        pytest.param(put("Q", 40, len(BEFORE)), "beyond the end", id="sections-beyond"),
        pytest.param(put("Q", 40, FATBIN), "names|malformed|beyond|overlaps", id="sections-in-code"),
        pytest.param(put("Q", FATBIN_SECTION + 32, 1 << 40), "beyond the end", id="section-too-long"),
        pytest.param(put("Q", FATBIN_SECTION + 32, 100), "lies about its size", id="section-too-short"),
        pytest.param(put("Q", FATBIN_SECTION + 16, 8), "not loaded to its address", id="address"),
        pytest.param(put("Q", 64 + 48, 3), "not to pages", id="alignment"),
        pytest.param(put("Q", 64 + 32, 1 << 40), "beyond the end", id="segment-too-long"),
        pytest.param(put("I", FATBIN, 1), "no fatbin container", id="container-magic"),
        pytest.param(put("H", FATBIN + 4, 2), "unknown version 2", id="container-version"),
        pytest.param(put("Q", FATBIN + 8, 1 << 50), "lies about its size", id="container-too-long"),
        pytest.param(put("Q", FATBIN + 8, 9064), "no fatbin container", id="container-too-short"),
        pytest.param(
            put("Q", FATBIN + 8, 9064 + 40), "something follows the last entry", id="container-tail"
        ),
        pytest.param(put("H", FIRST, 64), "unknown kind 64", id="entry-kind"),
        pytest.param(put("H", FIRST + 2, 0x102), "version 0x102", id="entry-version"),
        pytest.param(put("I", FIRST + 4, 8), "unknown form", id="entry-header"),
        pytest.param(put("Q", FIRST + 8, 8 << 20), "lies about its size", id="entry-too-long"),
        pytest.param(put("Q", FIRST + 8, 8), "unknown kind", id="entries-overlap"),
        pytest.param(put("I", FIRST + 16, 9001), "lies about its size", id="compressed"),
        pytest.param(put("I", FIRST + 28, 0), "unknown architecture", id="architecture"),
        pytest.param(put("Q", SECOND + 40, 0x300011), "unknown architecture", id="two-suffixes"),
        pytest.param(put("Q", SECOND + 40, 0x400011), "unknown flags", id="flags"),
        pytest.param(put("I", WRAPPER + 4, 2), "wrapper is of unknown version 2", id="wrapper-version"),
        pytest.param(put("Q", WRAPPER + 8, 8), "do not agree", id="wrapper-pointer"),
        pytest.param(put("Q", WRAPPER + 16, 8), "unknown version", id="wrapper-more"),
        pytest.param(put("q", RELOCATION + 16, FATBIN + 8), "in a way that is not known", id="addend"),
        pytest.param(put("Q", RELOCATION, FATBIN), "changes what is in .nv_fatbin", id="target"),
        pytest.param(put("Q", RELOCATION, 0), "in a way that is not known", id="elsewhere"),
        pytest.param(put("I", RELOCATION + 8, 37), "in a way that is not known", id="relocation-type"),
        pytest.param(
            put("q", RELOCATION + 24 + 16, FATBIN), "nothing points|do not agree", id="unreferenced"
        ),
        pytest.param(put("Q", SYMBOL + 8, FATBIN + 8), "a symbol concerns", id="symbol"),
    ],
)
def test_a_change_is_refused(change: Callable[[bytearray], None], reason: str, tmp_path: Path) -> None:
    data = bytearray(BEFORE)
    change(data)
    (tmp_path / "l.so").write_bytes(data)
    with pytest.raises(NotUnderstood, match=reason) as refused:
        slim_library(tmp_path / "l.so", tmp_path / "o.so", ["90"])
    assert refused.value.library == "l.so"
    assert refused.value.offset >= 0


@pytest.mark.parametrize("size", [0, 3, 63, 64, 200, 1000, FATBIN + 20, SECOND, len(BEFORE) - 1])
def test_a_truncated_library_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "l.so").write_bytes(BEFORE[:size])
    with pytest.raises(NotUnderstood):
        slim_library(tmp_path / "l.so", tmp_path / "o.so", ["90"])
