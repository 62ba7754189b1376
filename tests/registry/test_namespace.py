"""Where a project's images live, and how that is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unruly_registry import HASTE, unruly_registry
from trtforge.commands.registry_options import open_namespace
from trtforge.errors import EnvironmentLack, RequestError
from trtforge.policy import RegistryPolicy
from trtforge.project import Project
from trtforge.registry.access import Access
from trtforge.registry.namespace import Namespace


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("localhost:5000/trtforge", "localhost:5000", "trtforge"),
        ("registry.example/a/b", "registry.example", "a/b"),
        ("team", "docker.io", "team"),
    ],
)
def test_a_namespace_is_a_registry_and_a_path(text: str, host: str, path: str) -> None:
    with Namespace.open(text) as namespace:
        assert (namespace.host, namespace.path) == (host, path)
        assert namespace.name("tensorrt") == f"{host}/{path}/tensorrt"
        assert namespace.repository("tensorrt").name == f"{path}/tensorrt"


@pytest.mark.parametrize(
    "text", ["", "localhost:5000", "localhost:5000/", "h.o/UP", "h.o/a:tag", "http://h.o/a"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not a registry's namespace"):
        Namespace.open(text)


def test_the_time_is_the_registrys() -> None:
    with unruly_registry() as registry, Namespace.open(f"{registry.host}/a", HASTE) as namespace:
        assert abs(namespace.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_registry_that_is_not_there_is_an_environment_lack() -> None:
    with unruly_registry() as registry:
        host = registry.host
    with Namespace.open(f"{host}/a", HASTE) as namespace, pytest.raises(EnvironmentLack, match=host):
        namespace.now()


@pytest.mark.parametrize(
    ("host", "access", "address"),
    [
        ("example.org", Access(), "https://example.org/v2/"),
        ("example.org", Access(plain_http=True), "http://example.org/v2/"),
        ("localhost:5000", Access(), "http://localhost:5000/v2/"),
        ("localhost:5000", Access(ca=Path("ca.pem")), "https://localhost:5000/v2/"),
    ],
)
def test_tls_is_left_out_on_loopback_or_when_told(host: str, access: Access, address: str) -> None:
    assert str(access.address(host)) == address


def test_a_ca_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, content in (("empty.pem", ""), ("text.pem", "hello")):
        (tmp_path / name).write_text(content)
        with pytest.raises(RequestError, match="holds no certificates"):
            Namespace.open("localhost:5000/a", Access(ca=tmp_path / name))


class _Configured(Project):
    """A project whose matrix.yaml names a registry, or none."""

    @property
    def matrix(self) -> object:  # type: ignore[override]
        return type("Matrix", (), {"registry": RegistryPolicy(default=str(self.wheelhouse or ""))})


def test_the_option_goes_before_the_matrix(tmp_path: Path) -> None:
    configured = _Configured(tmp_path, Path("registry.example/configured"))
    with open_namespace(configured, None, None, False) as namespace:
        assert str(namespace) == "registry.example/configured"
    with open_namespace(configured, "localhost:5000/given", None, False) as namespace:
        assert str(namespace) == "localhost:5000/given"


def test_plain_http_has_no_certificates(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="exclude each other"):
        open_namespace(_Configured(tmp_path), "h.o/a", tmp_path / "ca.pem", True)


def test_without_a_registry_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no registry is named"):
        open_namespace(_Configured(tmp_path), None, None, False)
