"""What `docker login` left is found, wherever Docker keeps it."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from trtforge.errors import EnvironmentLack
from trtforge.registry.docker_config import Credentials, find_credentials

if TYPE_CHECKING:
    from pathlib import Path

HOST = "registry.example:5000"
USER = Credentials("user", "pa:ss")
AUTH = base64.b64encode(b"user:pa:ss").decode()


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper, docker-credential-tests, to be written."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin" / "docker-credential-tests"


def find(folder: Path, config: Any, host: str = HOST) -> Credentials | None:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return find_credentials(host, os.environ)


def write(helper: Path, *lines: str) -> None:
    helper.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    helper.chmod(0o755)


def test_without_a_config_everybody_is_anonymous(docker_config: Path) -> None:
    assert not list(docker_config.iterdir())
    assert find_credentials(HOST, os.environ) is None


@pytest.mark.parametrize(
    ("auths", "found"),
    [
        ({HOST: {"auth": AUTH}}, USER),
        ({f"https://{HOST}/v1/": {"auth": AUTH}}, USER),
        ({HOST: {"auth": AUTH, "identitytoken": "t"}}, Credentials(identity_token="t")),
        ({"other.example": {"auth": AUTH}}, None),
        ({HOST: {}}, None),
        (None, None),
    ],
)
def test_config_json_keeps_them(docker_config: Path, auths: Any, found: Credentials | None) -> None:
    assert find(docker_config, {"auths": auths}) == found


def test_docker_hub_has_a_name_of_its_own(docker_config: Path) -> None:
    config = {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}}}
    assert find(docker_config, config, "docker.io") == USER


@pytest.mark.parametrize("config", [{"credsStore": "tests"}, {"credHelpers": {HOST: "tests"}}])
def test_a_helper_is_asked(docker_config: Path, helper: Path, config: Any) -> None:
    write(helper, f'[ "$1 $(cat)" = "get {HOST}" ]', """echo '{"Username": "user", "Secret": "pa:ss"}'""")
    assert find(docker_config, config) == USER


def test_a_helper_of_another_registry_is_not_asked(docker_config: Path) -> None:
    assert find(docker_config, {"credHelpers": {"other.example": "absent"}}) is None


def test_a_helper_may_keep_an_identity_token(docker_config: Path, helper: Path) -> None:
    write(helper, """echo '{"Username": "<token>", "Secret": "t"}'""")
    assert find(docker_config, {"credsStore": "tests"}) == Credentials(identity_token="t")


def test_a_helper_that_knows_nothing_leaves_us_anonymous(docker_config: Path, helper: Path) -> None:
    write(helper, "echo credentials not found in native keychain", "exit 1")
    assert find(docker_config, {"credsStore": "tests"}) is None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo the keyring is locked", "exit 1"], "the keyring is locked"),
        (["exit 3"], "exit 3"),
        (["echo '{}'"], "something else than Username and Secret"),
    ],
)
def test_a_helper_that_fails_is_told_of(
    docker_config: Path, helper: Path, lines: list[str], said: str
) -> None:
    write(helper, *lines)
    with pytest.raises(EnvironmentLack, match="docker-credential-tests has no answer") as refused:
        find(docker_config, {"credsStore": "tests"})
    assert refused.value.fact("found") == said


def test_a_helper_that_is_not_here_is_told_of(docker_config: Path) -> None:
    with pytest.raises(EnvironmentLack, match="docker-credential-absent cannot be run") as refused:
        find(docker_config, {"credsStore": "absent"})
    assert refused.value.fact("named in") == str(docker_config / "config.json")


@pytest.mark.parametrize("config", ["{", "[]", {"auths": {HOST: {"auth": "%%%"}}}])
def test_a_malformed_config_is_told_of(docker_config: Path, config: Any) -> None:
    with pytest.raises(EnvironmentLack, match=r"config\.json cannot be read"):
        find(docker_config, config)


def test_secrets_are_not_shown() -> None:
    assert "ss" not in repr(USER).replace("Credentials(user)", "")
    assert "t0ken" not in repr(Credentials(identity_token="t0ken"))
