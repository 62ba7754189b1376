"""sshd's start: who may log in, and what sessions find. sshd itself runs in tests/e2e/test_variants.py."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.base_factory import cells_with_base
from tests.conftest import PROJECT
from tests.images.scripts import script
from tests.lock_factory import PYTHON3, lock_of
from tests.test_locking import pick
from trtforge.dockerfile import read_dockerfile
from trtforge.errors import CompatibilityError
from trtforge.image import check_followable
from trtforge.recipe import Recipes
from trtforge.system.os_layer import clean_tar

if TYPE_CHECKING:
    from pathlib import Path

    from trtforge.cells import Cells
    from trtforge.matrix import Matrix

start = script("ssh", "start")
CONFIG = PROJECT / "images/ssh/opt/trtforge/ssh/sshd_config"

needs_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not here")


def new_key(folder: Path, name: str = "id") -> Path:
    """A private key, its public one beside it."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "somebody", "-f", str(folder / name)]
    subprocess.run(command, check=True)
    return folder / name


def refused(environment: dict[str, str], home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        start.given_keys(environment, home)
    assert ended.value.code == 2
    return capsys.readouterr().err


@needs_keygen
def test_keys_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    one = new_key(tmp_path).with_suffix(".pub").read_text().strip()
    other = new_key(tmp_path, "other").with_suffix(".pub").read_text().strip()
    limited = f'restrict,command="nvidia-smi" {other}'
    assert start.given_keys({"AUTHORIZED_KEYS": f"# mine\n{one}\n\n{limited}\n"}, tmp_path) == [one, limited]
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "authorized_keys").write_text(one + "\n")
    assert start.given_keys({}, tmp_path) == [one]
    (tmp_path / "keys").write_text(other)
    assert start.given_keys({"AUTHORIZED_KEYS_FILE": str(tmp_path / "keys")}, tmp_path) == [other]


@needs_keygen
def test_without_a_key_it_says_how_to_give_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for environment in ({}, {"AUTHORIZED_KEYS": ""}, {"AUTHORIZED_KEYS": "# none\n"}):
        said = refused(environment, tmp_path, capsys)
        assert "there is no key that may log in" in said
        assert "AUTHORIZED_KEYS=" in said


@needs_keygen
def test_what_is_no_public_key_is_refused_and_a_private_one_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = new_key(tmp_path)
    public = private.with_suffix(".pub").read_text()
    assert "no public key: ssh-ed25519 AAAA" in refused(
        {"AUTHORIZED_KEYS": "ssh-ed25519 AAAA"}, tmp_path, capsys
    )
    assert "no public key: hello" in refused({"AUTHORIZED_KEYS": f"{public}hello"}, tmp_path, capsys)
    said = refused({"AUTHORIZED_KEYS": private.read_text()}, tmp_path, capsys)
    assert "holds a private key" in said
    assert private.read_text().splitlines()[1] not in said


@needs_keygen
def test_a_host_key_is_made_once_and_is_its_users_alone(tmp_path: Path) -> None:
    key = start.host_key(tmp_path)
    content = key.read_bytes()
    assert start.host_key(tmp_path).read_bytes() == content
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert start.host_key(tmp_path / "other").read_bytes() != content


names = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in start.OWN)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(st.dictionaries(names, values), st.sampled_from(["/bin", "/opt/venv/bin:/bin"]))
def test_sessions_have_the_environment_to_the_letter(given_: dict[str, str], path: str) -> None:
    """Words of sshd_config are split like those of a POSIX shell in double quotes, but for $ and `."""
    line = start.environment_line({**given_, "PATH": path, "HOME": "/root", "AUTHORIZED_KEYS": "secret"})
    assert len(line.splitlines()) == 1
    keyword, *pairs = shlex.split(line)
    assert keyword == "SetEnv"
    told = dict(pair.split("=", 1) for pair in pairs)
    wanted = {name: value for name, value in given_.items() if value.isprintable() and name != "PATH"}
    assert told == wanted | {"PATH": path, "TRTFORGE_PATH": path}


def test_sshd_is_told_to_let_in_keys_alone() -> None:
    lines = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    told = dict(line.split(" ", 1) for line in lines)
    assert len(told) == len(lines)  # of two lines, the first counts
    assert told["AuthenticationMethods"] == "publickey"
    for name in ("PasswordAuthentication", "KbdInteractiveAuthentication", "PermitEmptyPasswords"):
        assert told[name] == "no"
    assert (told["PermitRootLogin"], told["UsePAM"], told["PermitUserEnvironment"]) == ("no", "no", "no")


def test_the_host_keys_that_an_installation_makes_are_in_no_layer() -> None:
    source, out = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as tar:
        for name in ("ssh_host_rsa_key", "ssh_host_ed25519_key.pub", "ssh_config"):
            tar.addfile(tarfile.TarInfo(f"./etc/ssh/{name}"))
    source.seek(0)
    clean_tar(source, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        assert tar.getnames() == ["etc/ssh/ssh_config"]


def test_it_stands_on_the_tensorrt_image_and_its_tests_know_the_package(cells: Cells) -> None:
    cell = pick(cells, cuda="12.1", tensorrt="rtx", variant="ssh")
    sshd = PYTHON3.model_copy(update={"name": "openssh-server", "version": "1:9.2", "sha256": "b" * 64})
    lock = lock_of(cells, cell)
    locked = lock.cells[cells.name(cell)].model_copy(update={"packages": "ssh"})
    lock = lock.model_copy(update={"packages": {"ssh": (sshd,)}, "cells": {cells.name(cell): locked}})
    *_, below, image = Recipes(PROJECT, cells).chain(cell, lock)
    assert (below.image, image.image) == ("tensorrt", "ssh")
    assert image.parent == below
    assert {"opt/trtforge/ssh/start.py", "opt/trtforge/ssh/sshd_config", "etc/profile.d/trtforge.sh"} <= set(
        image.files
    )
    expected = json.loads(image.files["opt/smoke/expected.json"])
    assert expected["system_packages"] == {"openssh-server": "1:9.2"}
    check_followable(image.dockerfile)
    said = {one.name: one for one in read_dockerfile(image.dockerfile)}
    assert said["EXPOSE"].ports() == ["2222/tcp"]
    assert said["CMD"].argv() == ["python", "/opt/trtforge/ssh/start.py"]
    assert "SSH-" in said["HEALTHCHECK"].health_check()["Test"][-1]
    assert "USER" not in said  # the one of the image below, who is not root


def test_it_needs_an_os_of_packages(matrix: Matrix) -> None:
    with pytest.raises(CompatibilityError) as caught:
        cells_with_base(matrix).choose({"os": ("acme-torch",), "variant": ("ssh",)})
    assert caught.value.rule == "packages-need-an-os-of-ours"
