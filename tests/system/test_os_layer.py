"""The OS layer's tar says nothing of the machine and the hour it was made in."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtforge.layers.gzip_tar import compress_tar
from trtforge.oci import EPOCH
from trtforge.store import Store
from trtforge.system.os_layer import clean_tar, rootfs
from trtforge.system.os_packages import OsSuite
from trtforge.system.os_sources import narrowed

if TYPE_CHECKING:
    from pathlib import Path

BOOKWORM = OsSuite("debian", "bookworm")


def member(name: str, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar_of(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def cleaned(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    clean_tar(io.BytesIO(tar_of(*members)), out)
    return out.getvalue()


def members_of(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getmembers()


@given(st.integers(0, 2**33), st.text("abc", max_size=8), st.sampled_from(["", "./"]))
def test_time_owner_names_and_spelling_leave_no_trace(mtime: int, owner: str, start: str) -> None:
    noisy = member(f"{start}bin/sh", mtime=mtime, uname=owner, gname=owner, size=3, mode=0o755, uid=7)
    plain = member("bin/sh", size=3, mode=0o755, uid=7)
    assert cleaned(noisy) == cleaned(plain)
    (kept,) = members_of(cleaned(noisy))
    assert (kept.mtime, kept.mode, kept.uid, kept.size) == (EPOCH, 0o755, 7, 3)


@pytest.mark.parametrize(
    "name",
    [
        "dev/null",
        "etc/hostname",
        "etc/machine-id",
        "etc/passwd-",
        "etc/resolv.conf",
        "run/x",
        "tmp/x/y",
        "var/cache/apt/archives/lock",
        "var/cache/debconf/config.dat-old",
        "var/cache/ldconfig/aux-cache",
        "var/lib/apt/lists/partial",
        "var/lib/dpkg/status-old",
        "var/log/dpkg.log",
    ],
)
def test_what_is_of_the_machine_is_left_out(name: str) -> None:
    assert members_of(cleaned(member(f"./{name}"))) == []


@pytest.mark.parametrize(
    "name",
    [
        "dev",
        "etc/passwd",
        "etc/host.conf",
        "run/lock",
        "tmp",
        "usr/tmp/x",
        "var/lib/dpkg/status",
        "var/log/apt",
    ],
)
def test_what_is_of_the_system_stays(name: str) -> None:
    assert [info.name for info in members_of(cleaned(member(f"./{name}")))] == [name]


def test_links_go_where_they_went() -> None:
    tar = cleaned(
        member("./usr/bin/perl", size=2),
        member("./usr/bin/perl5", type=tarfile.LNKTYPE, linkname="./usr/bin/perl"),
        member("./bin", type=tarfile.SYMTYPE, linkname="usr/bin"),
    )
    assert [info.linkname for info in members_of(tar)] == ["", "usr/bin/perl", "usr/bin"]


def test_capabilities_stay_and_other_attributes_do_not() -> None:
    attributes = {"SCHILY.xattr.security.capability": "cap", "SCHILY.xattr.security.selinux": "of this host"}
    (kept,) = members_of(cleaned(member("ping", pax_headers=attributes)))
    assert kept.pax_headers == {"SCHILY.xattr.security.capability": "cap"}


def test_the_root_file_system_is_unpacked_once_and_open_to_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tar = cleaned(member("bin", type=tarfile.SYMTYPE, linkname="/usr/bin"), member("usr/bin/sh", size=1))
    with (tmp_path / "blob").open("wb") as out:
        layer = compress_tar(io.BytesIO(tar), out)
    store.keep_layer("key", tmp_path / "blob", layer)
    folder = rootfs(store, layer)
    assert (folder / "bin").readlink().as_posix() == "/usr/bin"
    assert (folder / "usr/bin/sh").read_text() == "x"
    assert folder.stat().st_mode & 0o777 == 0o755
    (folder / "mark").touch()
    assert rootfs(store, layer) == folder
    assert (folder / "mark").exists()


def test_image_sources_in_one_line_style() -> None:
    example = """\
# See sources.list(5)
deb http://a.test/debian bookworm main contrib non-free
deb http://a.test/debian bookworm-updates main contrib
deb http://a.test/debian bookworm-extra contrib
#deb-src http://a.test/debian bookworm main
deb-src http://a.test/debian bookworm main
"""
    assert narrowed(example, BOOKWORM) == (
        "deb http://a.test/debian bookworm main\ndeb http://a.test/debian bookworm-updates main\n"
    )


def test_image_sources_in_deb822_style() -> None:
    example = """\
## Settings: Types, URIs
Types: deb deb-src
URIs: http://a.test/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: /k.gpg

## Security
Types: deb
URIs: http://a.test/debian-security
Suites: trixie-security
Components: main contrib
"""
    assert narrowed(example, OsSuite("debian", "trixie")) == (
        "Types: deb\nURIs: http://a.test/debian\nSuites: trixie trixie-updates\nComponents: main\n"
        "Signed-By: /k.gpg\n"
        "\n"
        "Types: deb\nURIs: http://a.test/debian-security\nSuites: trixie-security\nComponents: main\n"
    )


def test_sources_of_another_release_are_not_taken() -> None:
    assert narrowed("deb http://a.test/debian sid main\n", BOOKWORM) == ""
