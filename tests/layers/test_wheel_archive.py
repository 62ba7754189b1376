"""A wheel is refused when anything in its zip could mislead, and read right in every shape a zip may take."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wheel_factory import ZipMember, make_wheel, raw_deflate, wheels, zip_of
from trtforge.errors import BuildError, CorruptWheel, UnsafeWheel
from trtforge.layers import wheel_archive
from trtforge.layers.wheel_archive import CHUNK, WheelArchive
from trtforge.layers.zip_directory import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = b"the content of a file\n" * 50
GOOD = ZipMember("good.py", TEXT)


def write(folder: Path, content: bytes) -> Path:
    wheel = folder / "demo-1.0-py3-none-any.whl"
    wheel.write_bytes(content)
    return wheel


def read_all(wheel: Path) -> dict[str, bytes]:
    with WheelArchive(wheel) as archive:
        return {
            name: b"".join(piece.plain for piece in archive.pieces(member))
            for name, member in archive.members.items()
        }


def refusal_of(wheel: Path) -> BuildError:
    with pytest.raises((UnsafeWheel, CorruptWheel)) as refusal:
        read_all(wheel)
    assert isinstance(refusal.value, UnsafeWheel | CorruptWheel)
    assert refusal.value.wheel == wheel.name
    return refusal.value


@settings(deadline=None, max_examples=30)
@given(wheels())
def test_what_is_read_is_what_zipfile_reads(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        wheel = write(Path(folder), content)
        with zipfile.ZipFile(wheel) as theirs:
            assert read_all(wheel) == {name: theirs.read(name) for name in theirs.namelist()}


@settings(deadline=None, max_examples=60)
@given(wheels(), st.data())
def test_no_flipped_byte_goes_unnoticed(content: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(content) - 1))
    broken = bytearray(content)
    broken[position] ^= data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        before = read_all(write(Path(folder), content))
        wheel = write(Path(folder), bytes(broken))
        try:
            after = read_all(wheel)
        except (UnsafeWheel, CorruptWheel):
            return
        # What is left are bytes that no reader looks at: times, versions, spare bits of a deflate stream.
        assert after == before


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
@pytest.mark.parametrize("deflated", [True, False])
def test_content_of_any_size_comes_whole(tmp_path: Path, size: int, deflated: bool) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert read_all(write(tmp_path, zip_of([ZipMember("a", content, deflated=deflated)]))) == {"a": content}


def test_reading_all_in_order_also_hashes_the_file(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, [GOOD, replace(GOOD, name="b.py", descriptor="<II")])
    with WheelArchive(wheel) as archive:
        for member in archive.members.values():
            archive.read(member, 10_000)
            for _ in archive.pieces(member):
                pass
        assert archive.sha256() == hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_members_come_in_the_order_they_lie_in_the_file(tmp_path: Path) -> None:
    members = [ZipMember(name, name.encode()) for name in "cab"]
    with WheelArchive(write(tmp_path, zip_of(members))) as archive:
        assert list(archive.members) == ["c", "a", "b"]


def test_folders_in_a_wheel_are_nothing_to_install(tmp_path: Path) -> None:
    wheel = write(tmp_path, zip_of([ZipMember("folder/", mode=0o40755), replace(GOOD, name="folder/x")]))
    assert read_all(wheel) == {"folder/x": TEXT}


ESCAPES = "/etc/passwd", "../x", "a/../../x", "a/..", "./x", "a//b", "..", ".", "a\\b", "C:\\x", "a\0b"
WHITEOUTS = ".wh.x", "a/.wh..wh..opq"
TOO_LONG = "x" * 256, "é" * 128, "/".join(["x" * 200] * 20)


@pytest.mark.parametrize("name", [*ESCAPES, *WHITEOUTS, *TOO_LONG])
def test_names_that_could_land_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    refusal = refusal_of(write(tmp_path, zip_of([GOOD, ZipMember(name, TEXT)])))
    assert isinstance(refusal, UnsafeWheel)
    assert refusal.member == name


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    refusal = refusal_of(write(tmp_path, zip_of([GOOD, ZipMember("", TEXT)])))
    assert refusal.problem == "unsafe wheel: its name is empty"


UNSAFE: dict[str, tuple[list[ZipMember], str]] = {
    "symbolic link": ([ZipMember("bad", b"/etc", 0o120777)], "neither a file nor a directory"),
    "device": ([ZipMember("bad", mode=0o020644)], "neither a file nor a directory"),
    "fifo": ([ZipMember("bad", mode=0o010644)], "neither a file nor a directory"),
    "file that says it is a directory": ([ZipMember("bad", mode=0o40755)], "neither a file nor a directory"),
    "directory with content": ([ZipMember("bad/", b"x", 0o40755)], "has content"),
    "same name twice": ([ZipMember("bad", b"1"), ZipMember("bad", b"2")], "there twice"),
    "same name, other Unicode form": ([ZipMember("be\u0301"), ZipMember("b\u00e9")], "there twice"),
    "file and directory": ([ZipMember("bad"), ZipMember("bad/below")], "a file and a directory"),
    "file and empty directory": ([ZipMember("bad"), ZipMember("bad/", mode=0o40755)], "there twice"),
    "encrypted": ([ZipMember("bad", TEXT, flags=1)], "encrypted"),
    "strongly encrypted": ([ZipMember("bad", TEXT, flags=0x41)], "encrypted"),
    "masked": ([ZipMember("bad", TEXT, flags=0x2000)], "encrypted"),
    "patch data": ([ZipMember("bad", TEXT, flags=0x20)], "no wheel may use"),
    "bzip2": ([ZipMember("bad", TEXT, method=12)], "method 12"),
    "other name in front of it": ([ZipMember("bad", TEXT, local_name="good")], "gives another name"),
    "other CRC in front of it": ([ZipMember("bad", TEXT, local_crc=1)], "gives another CRC or size"),
    "bytes behind it": ([ZipMember("bad", TEXT, behind=b"hidden")], "belong to no member"),
    "bytes behind its descriptor": (
        [ZipMember("bad", TEXT, descriptor="<II", behind=b"PK\\3\\4")],
        "no data descriptor that agrees",
    ),
    "bytes behind its deflate stream": (
        [ZipMember("bad", TEXT, data=raw_deflate(TEXT) + b"x")],
        "follows the end",
    ),
    "much behind its deflate stream": (
        [ZipMember("bad", TEXT, data=raw_deflate(TEXT) + bytes(2 * CHUNK))],
        "follows the end",
    ),
    "two members in the same bytes": (
        [ZipMember("other", TEXT), ZipMember("bad", TEXT, offset=0)],
        "overlaps",
    ),
    "a member inside another": (
        [ZipMember("bad", zip_of([GOOD])[:-80], deflated=False), replace(GOOD, offset=33)],
        "overlaps",
    ),
    "bomb": ([ZipMember("bad", b"", size=(1 << 30) + 1)], "inflates to 1073741825 bytes, over 100 times"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_archives_are_refused(tmp_path: Path, case: str) -> None:
    members, reason = UNSAFE[case]
    refusal = refusal_of(write(tmp_path, zip_of(members)))
    assert isinstance(refusal, UnsafeWheel)
    assert reason in refusal.reason
    if case != "bomb":
        assert refusal.member in {member.name for member in members}


CORRUPT: dict[str, tuple[ZipMember, str]] = {
    "wrong CRC": (ZipMember("bad", TEXT, crc=1), "CRC"),
    "wrong CRC of a stored member": (ZipMember("bad", TEXT, crc=1, deflated=False), "CRC"),
    "longer than declared": (ZipMember("bad", TEXT, size=len(TEXT) - 1), "declares"),
    "shorter than declared": (ZipMember("bad", TEXT, size=len(TEXT) + 1), "declares"),
    "stored, size differs": (ZipMember("bad", TEXT, size=len(TEXT) + 1, deflated=False), "declares"),
    "endless": (ZipMember("bad", b"", data=raw_deflate(bytes(1 << 27)), size=100), "declares"),
    "stream cut short": (ZipMember("bad", TEXT, data=raw_deflate(TEXT)[:-3]), "cut short"),
    "no stream": (ZipMember("bad", b"", data=b""), "cut short"),
    "not deflate": (ZipMember("bad", TEXT, data=b"\xff" * 20), "broken"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_members_are_refused(tmp_path: Path, case: str) -> None:
    member, reason = CORRUPT[case]
    refusal = refusal_of(write(tmp_path, zip_of([GOOD, member])))
    assert isinstance(refusal, CorruptWheel)
    assert reason in refusal.reason
    assert refusal.member == "bad"


WHOLE = zip_of([GOOD])
END = WHOLE[-22:]


ARCHIVES: dict[str, bytes] = {
    "empty file": b"",
    "not a zip": b"no zip at all" * 10,
    "junk in front": b"#!/bin/sh\n" + WHOLE,
    "junk behind": WHOLE + b"junk",
    "a comment": WHOLE[:-2] + b"\4\0junk",
    "another zip behind": WHOLE + zip_of([ZipMember("other")]),
    "another zip in front": zip_of([ZipMember("other")]) + WHOLE,
    "cut short": WHOLE[:-1],
    "end of the directory missing": WHOLE[:-22],
    "split": WHOLE[:-22] + END[:4] + b"\1" + END[5:],
    "more members claimed": WHOLE[:-22] + END[:8] + struct.pack("<HH", 2, 2) + END[12:],
    "bytes between members and directory": zip_of([replace(GOOD, behind=b"hidden")]),
    "starts later": zip_of([replace(GOOD, offset=1)]),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_with_anything_around_them_are_refused(tmp_path: Path, case: str) -> None:
    refusal_of(write(tmp_path, ARCHIVES[case]))


def test_a_zip64_end_is_read_and_must_agree(tmp_path: Path) -> None:
    def with_zip64_end(count: int = 1, at: Callable[[int], int] = lambda offset: offset) -> bytes:
        length, offset = struct.unpack("<2I", END[12:20])
        end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, at(offset + length), 1)
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return WHOLE[:-22] + end64 + locator + end

    assert read_all(write(tmp_path, with_zip64_end())) == {"good.py": TEXT}
    refusal_of(write(tmp_path, with_zip64_end(count=2)))
    refusal_of(write(tmp_path, with_zip64_end(at=lambda offset: offset - 1)))


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_archive, "MAX_MEMBERS", 3)
    refusal = refusal_of(write(tmp_path, zip_of([ZipMember(name) for name in "abcd"])))
    assert (refusal.fact("member"), refusal.exit_code) == (ARCHIVE, 1)


def test_a_file_too_large_for_memory_is_not_read_into_it(tmp_path: Path) -> None:
    with (
        WheelArchive(write(tmp_path, zip_of([GOOD]))) as archive,
        pytest.raises(UnsafeWheel, match="over the limit"),
    ):
        archive.read(archive.members["good.py"], 100)
