"""Tars made on the fly are tars."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.engine.file_tree import differences, file_tree
from trtforge.engine.tar_stream import Member, file_chunks, tar_stream
from trtforge.errors import BuildError
from trtforge.oci import EPOCH

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=150).filter(
    lambda name: name.strip(".") != ""
)


@given(st.dictionaries(NAMES, st.lists(st.binary(max_size=2000), max_size=3), max_size=5))
def test_what_goes_in_comes_out(files: dict[str, list[bytes]]) -> None:
    members = [Member(name, sum(map(len, chunks)), chunks) for name, chunks in files.items()]
    data = b"".join(tar_stream(members))
    assert len(data) % tarfile.BLOCKSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == list(files)
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            assert content.read() == b"".join(files[member.name])
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", EPOCH)


def test_a_size_beyond_what_ustar_can_say() -> None:
    size = 9 << 30
    header = next(iter(tar_stream([Member("big", size, [])])))
    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == size


@pytest.mark.parametrize("chunks", [[b"ab"], [b"ab", b"cd"], []])
def test_contents_of_another_length_are_refused(chunks: list[bytes]) -> None:
    with pytest.raises(BuildError, match="not 3 bytes"):
        list(tar_stream([Member("x", 3, chunks)]))


def test_an_unreadable_file_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        list(file_chunks(tmp_path / "absent"))


def test_a_file_tree_tells_every_kind_apart() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, target in [
            ("./folder/", tarfile.DIRTYPE, ""),
            ("folder/link", tarfile.SYMTYPE, "../x"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("null", tarfile.CHRTYPE, ""),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        member = tarfile.TarInfo("file")
        member.size, member.mode, member.uid = 3, 0o4755, 7
        tar.addfile(member, io.BytesIO(b"abc"))
        member = tarfile.TarInfo("hard")
        member.type, member.linkname = tarfile.LNKTYPE, "file"
        tar.addfile(member)
    data = out.getvalue()
    tree = file_tree(data[start : start + 700] for start in range(0, len(data), 700))
    assert {path: entry.kind for path, entry in tree.items()} == {
        "folder": "folder",
        "folder/link": "symlink",
        "pipe": "fifo",
        "null": "device",
        "file": "file",
        "hard": "file",
    }
    assert tree["hard"] == tree["file"]
    assert (tree["file"].size, tree["file"].mode, tree["file"].uid) == (3, 0o4755, 7)
    assert tree["folder/link"].content == "../x"
    assert differences(tree, tree) == []
    assert len(differences(tree, {**tree, "file": tree["folder"]}, ignore=["hard"])) == 1
    assert differences(tree, {"file": tree["file"]}, ignore=["hard", "pipe", "null", "folder"]) != []
