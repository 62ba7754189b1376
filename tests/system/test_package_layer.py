"""A layer of packages: put upon the tree without them, it gives the tree with them."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from trtforge.oci import EPOCH
from trtforge.system.package_layer import Tree, layer_key, tree_of, write_difference

if TYPE_CHECKING:
    from collections.abc import Mapping

Entries = dict[str, tuple[bytes, int, int]]
"""Path -> contents (of a folder: none), mode and owner."""


def tar_of(entries: Entries, links: Mapping[str, str] | None = None) -> bytes:
    """A tar like those of `clean_tar`: folders before what is in them, hard links after all files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, (contents, mode, uid) in sorted(entries.items()):
            info = tarfile.TarInfo(path)
            info.mode, info.uid, info.size, info.mtime = mode, uid, len(contents), EPOCH
            info.type = tarfile.REGTYPE if contents else tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(contents))
        for path, target in sorted((links or {}).items()):
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.mtime = tarfile.LNKTYPE, target, EPOCH
            tar.addfile(info)
    return out.getvalue()


def difference(old: bytes, new: bytes) -> bytes:
    out = io.BytesIO()
    write_difference(tree_of(io.BytesIO(old)), tree_of(io.BytesIO(new)), io.BytesIO(new), out)
    return out.getvalue()


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()


def applied(old: bytes, layer: bytes) -> Tree:
    """The tree that an engine has once it has unpacked `layer` upon `old` (OCI image-spec, layer.md)."""
    tree = tree_of(io.BytesIO(old))
    for path, facts in tree_of(io.BytesIO(layer)).items():
        name = PurePosixPath(path)
        if name.name.startswith(".wh."):
            gone = str(name.with_name(name.name.removeprefix(".wh.")))
            tree = {one: kept for one, kept in tree.items() if one != gone and not one.startswith(f"{gone}/")}
        else:
            tree[path] = facts
    return tree


folders = st.sampled_from(["usr", "usr/bin", "usr/lib", "var"])
files = st.builds("{}/{}".format, folders, st.sampled_from(["a", "b", "c"]))
owned = st.tuples(st.sampled_from([0o755, 0o700]), st.sampled_from([0, 1000]))


@st.composite
def systems(draw: st.DrawFn) -> Entries:
    entries: Entries = {}
    for path in draw(st.sets(files)):
        for folder in PurePosixPath(path).parents[:-1]:
            entries.setdefault(str(folder), (b"", *draw(owned)))
        entries[path] = (draw(st.binary(min_size=1, max_size=3)), *draw(owned))
    return entries


@given(systems(), systems())
def test_upon_the_one_tree_it_gives_the_other(before: Entries, after: Entries) -> None:
    old, new = tar_of(before), tar_of(after)
    assert applied(old, difference(old, new)) == tree_of(io.BytesIO(new))


@given(systems())
def test_where_nothing_differs_it_is_empty(system: Entries) -> None:
    assert names(difference(tar_of(system), tar_of(system))) == []


SYSTEM: Entries = {
    "usr": (b"", 0o755, 0),
    "usr/bin": (b"", 0o750, 7),
    "usr/bin/sh": (b"sh", 0o755, 0),
    "var": (b"", 0o755, 0),
    "var/status": (b"sh", 0o644, 0),
}


def test_only_what_differs_is_in_it_and_the_folders_above_keep_mode_and_owner() -> None:
    after = SYSTEM | {"usr/bin/gcc": (b"gcc", 0o755, 0)}
    layer = difference(tar_of(SYSTEM), tar_of(after))
    assert names(layer) == ["usr", "usr/bin", "usr/bin/gcc"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        folder = tar.getmember("usr/bin")
        assert (folder.mode, folder.uid, folder.mtime) == (0o750, 7, EPOCH)


def test_what_is_gone_leaves_one_whiteout() -> None:
    after = {path: entry for path, entry in SYSTEM.items() if not path.startswith("usr/bin")}
    assert names(difference(tar_of(SYSTEM), tar_of(after))) == ["usr", "usr/.wh.bin"]


def test_a_hard_link_comes_with_the_file_that_it_leads_to() -> None:
    layer = difference(tar_of(SYSTEM), tar_of(SYSTEM, {"var/sh": "usr/bin/sh"}))
    assert names(layer) == ["usr", "usr/bin", "usr/bin/sh", "var", "var/sh"]


def test_a_hard_link_comes_again_if_its_file_changes() -> None:
    links = {"var/sh": "usr/bin/sh"}
    after = SYSTEM | {"usr/bin/sh": (b"another", 0o755, 0)}
    assert "var/sh" in names(difference(tar_of(SYSTEM, links), tar_of(after, links)))


def test_the_key_is_of_the_system_below_and_of_what_is_added() -> None:
    from tests.lock_factory import PYTHON3

    other = PYTHON3.model_copy(update={"sha256": "b" * 64})
    keys = {layer_key("system", [PYTHON3]), layer_key("system", [other]), layer_key("another", [PYTHON3])}
    assert len(keys) == 3
    assert layer_key("system", [PYTHON3, other]) == layer_key("system", [other, PYTHON3])
