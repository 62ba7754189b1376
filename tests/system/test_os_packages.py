"""What apt says becomes locked packages, and errors a person can act on."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trtforge.errors import EnvironmentLack
from trtforge.progress import Silent
from trtforge.store import Store
from trtforge.system.apt import sources_of
from trtforge.system.os_packages import OsPackage, OsSuite, fetch_os, package_of_uri_line, resolve_os

if TYPE_CHECKING:
    from pathlib import Path

TINI = b"not really a package"
PACKAGE = OsPackage(
    name="tini",
    version="0.19.0-1",
    filename="tini_0.19.0-1_amd64.deb",
    sha256=hashlib.sha256(TINI).hexdigest(),
    size=len(TINI),
)

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not here")


@pytest.fixture
def suite(tmp_path: Path) -> OsSuite:
    """A suite whose mirror refuses connections."""
    keyring = tmp_path / "keys.gpg"
    keyring.touch()
    return OsSuite("debian", "bookworm", keyring=str(keyring), mirror="http://127.0.0.1:1/debian")


def test_a_line_of_print_uris_is_a_package() -> None:
    line = f"'http://mirror.test/p/passwd_4.13%2b.deb' passwd_1%3a4.13+x_amd64.deb 972180 SHA256:{'a' * 64}"
    assert package_of_uri_line(line) == OsPackage(
        name="passwd",
        version="1:4.13+x",
        filename="passwd_1%3a4.13+x_amd64.deb",
        sha256="a" * 64,
        size=972180,
    )


@given(
    st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,30}", fullmatch=True),
    st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,20}", fullmatch=True),
    st.integers(0, 10**10),
)
def test_names_and_versions_survive_apts_file_names(name: str, version: str, size: int) -> None:
    filename = f"{name}_{version.replace(':', '%3a')}_amd64.deb"
    package = package_of_uri_line(f"'http://mirror.test/x.deb' {filename} {size} SHA256:{'0' * 64}")
    assert (package.name, package.version, package.size) == (name, version, size)


def test_a_mirror_without_sha256_is_refused() -> None:
    with pytest.raises(EnvironmentLack, match=r"no SHA-256 of tini_1_amd64\.deb"):
        package_of_uri_line(f"'http://mirror.test/x.deb' tini_1_amd64.deb 1 MD5Sum:{'0' * 32}")


@pytest.mark.parametrize("filename", ["../tini.deb", "a/b.deb", "tini.rpm"])
def test_a_locked_file_name_cannot_lead_out_of_the_store(filename: str) -> None:
    with pytest.raises(ValidationError):
        OsPackage(name="tini", version="1", filename=filename, sha256="0" * 64, size=1)


def test_debians_security_updates_are_beside_a_named_mirror() -> None:
    suite = OsSuite("debian", "trixie", keyring="/k.gpg")
    assert sources_of(suite, "http://a.test/debian", "http://a.test/debian-security") == (
        "deb [signed-by=/k.gpg] http://a.test/debian trixie main\n"
        "deb [signed-by=/k.gpg] http://a.test/debian trixie-updates main\n"
        "deb [signed-by=/k.gpg] http://a.test/debian-security trixie-security main\n"
    )


@needs_apt
def test_a_mirror_that_does_not_answer_is_named(suite: OsSuite) -> None:
    with pytest.raises(EnvironmentLack) as reported:
        resolve_os(suite, ["python3"])
    facts = list(reported.value.facts)
    assert ("mirror", "http://127.0.0.1:1/debian") in facts
    assert ("mirror", "http://127.0.0.1:1/debian-security") in facts
    assert "Connection refused" in (reported.value.fact("apt says") or "")
    assert reported.value.fact("rules out") == "every image with packages of debian bookworm"


@needs_apt
def test_missing_keys_are_said_with_their_package() -> None:
    suite = OsSuite("ubuntu", "jammy", keyring="/nowhere/ubuntu.gpg", mirror="http://127.0.0.1:1/ubuntu")
    with pytest.raises(EnvironmentLack) as reported:
        resolve_os(suite, [])
    assert reported.value.fact("missing") == "/nowhere/ubuntu.gpg"
    assert reported.value.fact("next") == "apt-get install ubuntu-keyring"


@needs_apt
def test_a_failed_fetch_leaves_nothing(suite: OsSuite, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(EnvironmentLack):
        fetch_os([PACKAGE], suite, store, Silent())
    assert not [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_without_apt_an_alternative_is_named(suite: OsSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentLack) as reported:
        resolve_os(suite, ["python3"])
    assert "base image from a registry" in (reported.value.fact("next") or "")


def test_what_is_in_the_store_is_not_asked_for(
    suite: OsSuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    store = Store(tmp_path / "store")
    file = store.file("debs", PACKAGE.sha256, PACKAGE.filename)
    file.parent.mkdir(parents=True)
    file.write_bytes(TINI)
    assert fetch_os([PACKAGE], suite, store, Silent()) == [file]
