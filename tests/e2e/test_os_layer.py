"""A real OS layer: locked from the host's mirror, the same bytes twice, and a system that works."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.built_os import BOOKWORM, WANTED, Built
from trtforge.errors import BuildError, HashMismatch, LockError, RequestError
from trtforge.oci import EPOCH
from trtforge.progress import Silent
from trtforge.store import Store
from trtforge.system.os_layer import os_layer
from trtforge.system.os_packages import OsSuite, fetch_os, resolve_os

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not here"),
]


@pytest.fixture
def other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another time zone, language, umask and folder for temporary files (with a space in its name)."""
    (tmp_path / "some where").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "some where"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.chdir("/")
    before = os.umask(0o077)
    yield
    os.umask(before)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.mark.usefixtures("other_place")
def test_the_same_lock_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = os_layer(built.locked, built.debs(), BOOKWORM, Store(tmp_path / "store"), Silent())
    assert again.layer == built.layer.layer
    assert not any((tmp_path / "some where").iterdir())


def test_a_second_call_makes_nothing(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert os_layer(built.locked, built.debs(), BOOKWORM, built.store, Silent()) == built.layer


def test_the_tar_is_of_no_machine(built: Built) -> None:
    members = built.members()
    assert {member.mtime for member in members.values()} == {EPOCH}
    assert {(member.uname, member.gname) for member in members.values()} == {("", "")}
    assert not any(member.isdev() for member in members.values())
    absent = {"etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/passwd-", "var/log/dpkg.log"}
    assert not absent & set(members)
    assert not [
        name for name in members if re.match(r"(dev|tmp|var/tmp|var/lib/apt/lists|var/cache/apt)/", name)
    ]
    ours = (file for part in ("etc", "var/lib") for file in (built.layer.rootfs / part).rglob("*"))
    assert not [file for file in ours if file.is_file() and b"trtforge-os-" in file.read_bytes()]


def test_the_image_is_slim_and_stays_slim(built: Built) -> None:
    files = {name for name, member in built.members().items() if member.isreg()}
    assert not [name for name in files if re.match(r"usr/share/(man|info|locale|groff|lintian)/", name)]
    assert {Path(name).name for name in files if name.startswith("usr/share/doc/")} == {"copyright"}
    assert "path-exclude=/usr/share/man/*" in (built.layer.rootfs / "etc/dpkg/dpkg.cfg.d/slim").read_text()
    assert not [name for name in files if re.search(r"usr/bin/(gcc|make|perl5)", name)]
    assert built.layer.layer.size < 50_000_000


def test_apt_of_derived_images_asks_the_distribution(built: Built) -> None:
    lines = (built.layer.rootfs / "etc/apt/sources.list").read_text().splitlines()
    assert [line.split()[2:] for line in lines] == [
        ["bookworm", "main"],
        ["bookworm-updates", "main"],
        ["bookworm-security", "main"],
    ]


@needs_root
def test_dpkg_knows_every_locked_package(built: Built) -> None:
    listing = built.run("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Abbrev}\n")
    installed = {tuple(line.split()) for line in listing.splitlines()}
    assert installed == {(package.name, package.version, "ii") for package in built.locked}
    assert built.run("dpkg", "--audit") == ""


@needs_root
def test_the_user_exists_and_cannot_log_in_with_a_password(built: Built) -> None:
    assert built.run("id", "trt") == "uid=1000(trt) gid=1000(trt) groups=1000(trt)\n"
    assert built.run("getent", "passwd", "trt").endswith(":/home/trt:/bin/bash\n")
    assert built.run("passwd", "--status", "trt").split()[1] == "L"
    home = (built.layer.rootfs / "home/trt").stat()
    assert (home.st_uid, home.st_gid, home.st_mode & 0o777) == (1000, 1000, 0o755)


@needs_root
def test_the_environment_is_empty_and_belongs_to_the_user(built: Built) -> None:
    script = "import sys, sysconfig; print(sys.prefix, sys.version.split()[0], sysconfig.get_path('purelib'))"
    assert built.run("/opt/venv/bin/python", "-c", script).split() == [
        "/opt/venv",
        built.layer.python,
        "/opt/venv/lib/python3.11/site-packages",
    ]
    inside = {name: member for name, member in built.members().items() if name.startswith("opt/venv")}
    assert {(member.uid, member.gid) for member in inside.values()} == {(1000, 1000)}
    assert not [name for name in inside if "site-packages/" in name]


@needs_root
def test_the_standard_librarys_bytecode_is_valid_and_unchecked(built: Built) -> None:
    said = built.run("sh", "-c", "python3 -v -c 'import json, ssl, sqlite3, email.message, ctypes' 2>&1")
    assert "ssl.cpython-311.pyc" in said
    assert not re.search(r"code object from '/[^']*\.py'", said)  # said of a module that had to be compiled
    caches = list(built.layer.rootfs.glob("usr/lib/python3*/**/*.pyc"))
    assert {cache.read_bytes()[4:8] for cache in caches} == {b"\1\0\0\0"}  # PEP 552: hash, not checked


@needs_root
def test_certificates_are_there(built: Built) -> None:
    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    assert int(built.run("python3", "-c", count)) > 100


def test_packages_that_do_not_install_say_why(built: Built, tmp_path: Path) -> None:
    pairs = [
        (package, deb)
        for package, deb in zip(built.locked, built.debs(), strict=True)
        if package.name != "libpython3-stdlib"
    ]
    locked, debs = [package for package, _ in pairs], [deb for _, deb in pairs]
    store = Store(tmp_path)
    with pytest.raises(BuildError) as refused:
        os_layer(locked, debs, BOOKWORM, store, Silent())
    assert any("libpython3-stdlib" in line for label, line in refused.value.facts if label == "mmdebstrap")
    assert not list(tmp_path.glob("oci/**/*"))


def test_a_version_that_is_gone_asks_for_a_new_lock(built: Built, tmp_path: Path) -> None:
    tini = next(package for package in built.locked if package.name == "tini")
    gone = tini.model_copy(update={"version": "0.1-1", "sha256": "1" * 64})
    with pytest.raises(LockError) as refused:
        fetch_os([gone], BOOKWORM, Store(tmp_path), Silent())
    assert refused.value.fact("gone") == "tini 0.1-1"


def test_a_package_that_is_not_the_locked_one_is_not_kept(built: Built, tmp_path: Path) -> None:
    tini = next(package for package in built.locked if package.name == "tini")
    other = tini.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(HashMismatch):
        fetch_os([other], BOOKWORM, Store(tmp_path), Silent())
    assert not list(tmp_path.glob("debs/*/*"))


def test_an_unknown_package_is_a_wrong_request() -> None:
    with pytest.raises(RequestError) as refused:
        resolve_os(BOOKWORM, ["tini", "no-such-package"])
    assert refused.value.fact("apt says") == "Unable to locate package no-such-package"


def test_debian_13_is_locked_from_the_same_mirror() -> None:
    locked = {package.name: package for package in resolve_os(OsSuite("debian", "trixie"), WANTED)}
    assert locked["python3"].version.startswith("3.13")
    assert {"apt", "passwd", "tini", "libc6"} <= set(locked)
    assert not {"usrmerge", "perl", "gcc"} & set(locked)
