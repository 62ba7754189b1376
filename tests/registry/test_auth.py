"""A registry is told who asks, nobody else is, and every token is used for what it was given for."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.unruly_registry import UnrulyRegistry, repository_in, unruly_registry
from trtforge.errors import EnvironmentLack
from trtforge.registry import auth
from trtforge.registry.auth import Login
from trtforge.registry.docker_config import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTRY = httpx.URL("https://registry.example/v2/")
BEARER = 'Bearer realm="https://auth.example/token?a=1",service="s",scope="repository:a:pull"'

Answer = httpx.Response


def test_a_token_is_only_for_its_repository_and_action() -> None:
    with unruly_registry(token_lasts=99) as registry:
        with repository_in(registry, "a") as first:
            first.put_blob(b"x")
            first.put_blob(b"y")
        with repository_in(registry, "b") as second:
            second.put_blob(b"x")
        scopes = [asked.query["scope"] for asked in registry.requests("GET", "/token")]
        assert scopes == [f"repository:{n}:{a}" for n in "ab" for a in ("pull", "pull,push")]


def test_an_expired_token_is_replaced_once() -> None:
    with unruly_registry(token_lasts=2) as registry, repository_in(registry, "a") as repository:
        for _ in range(4):
            repository.find_digest("1")
        assert len(registry.requests("GET", "/token")) == 2


def test_a_token_that_does_not_help_is_not_asked_for_again_and_again(registry: UnrulyRegistry) -> None:
    with repository_in(registry, "a") as repository, pytest.raises(EnvironmentLack, match="does not let us"):
        repository.find_digest("1")
    assert len(registry.requests("GET", "/token")) == 1


@pytest.fixture
def registry() -> Any:
    with unruly_registry(token_lasts=1) as registry:
        registry.tokens = _Useless()
        yield registry


class _Useless(dict[str, tuple[set[str], int]]):
    """Tokens that are forgotten at once."""

    def __setitem__(self, _key: str, _value: tuple[set[str], int]) -> None:
        pass


def client(
    serve: Callable[[httpx.Request], Answer],
    monkeypatch: pytest.MonkeyPatch,
    known: Credentials | None = None,
    address: httpx.URL = REGISTRY,
    plain_http: bool = False,
) -> httpx.Client:
    monkeypatch.setattr(auth, "find_credentials", lambda *_: known)
    login = Login(address.host, address, plain_http)
    transport = httpx.MockTransport(serve)
    return httpx.Client(
        transport=transport, auth=login.for_scopes("repository:a:pull"), follow_redirects=True
    )


def test_an_identity_token_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = []

    def serve(request: httpx.Request) -> Answer:
        if request.url.host == "auth.example":
            forms.append((request.method, dict(httpx.QueryParams(request.read().decode()))))
            assert "Authorization" not in request.headers
            return Answer(200, json={"access_token": "T"})
        known = request.headers.get("Authorization") == "Bearer T"
        return Answer(200 if known else 401, headers={"WWW-Authenticate": BEARER})

    with client(serve, monkeypatch, Credentials(identity_token="secret")) as web:
        assert web.get(REGISTRY).is_success
    form = {"grant_type": "refresh_token", "refresh_token": "secret", "service": "s"}
    assert forms == [("POST", form | {"client_id": "trtforge", "scope": "repository:a:pull"})]


def test_credentials_do_not_follow_a_redirect_nor_answer_its_challenge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = []

    def serve(request: httpx.Request) -> Answer:
        if request.url.host == "registry.example":
            if "Authorization" not in request.headers:
                return Answer(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
            return Answer(307, headers={"Location": "https://storage.example/blob"})
        elsewhere.append(request)
        return Answer(401, headers={"WWW-Authenticate": 'Basic realm="gimme"'})

    with client(serve, monkeypatch, Credentials("user", "pass")) as web:
        assert web.get(REGISTRY).status_code == 401
    assert [request.url.host for request in elsewhere] == ["storage.example"]
    assert "Authorization" not in elsewhere[0].headers


def test_an_upload_session_elsewhere_is_not_told_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def serve(request: httpx.Request) -> Answer:
        seen.append(request.headers.get("Authorization"))
        return Answer(202)

    with client(serve, monkeypatch, Credentials("user", "pass")) as web:
        web.patch("https://storage.example/upload", content=b"x")
    assert seen == [None]


def test_a_malformed_realm_is_no_token_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(_request: httpx.Request) -> Answer:
        return Answer(401, headers={"WWW-Authenticate": 'Bearer realm="http://[::1/"'})

    with client(serve, monkeypatch) as web:
        assert web.get(REGISTRY).status_code == 401


@pytest.mark.parametrize(("plain_http", "told"), [(False, False), (True, True)])
def test_a_token_server_without_tls_is_told_nothing_unless_allowed(
    monkeypatch: pytest.MonkeyPatch, plain_http: bool, told: bool
) -> None:
    asked = []

    def serve(request: httpx.Request) -> Answer:
        if request.url.host == "auth.example":
            asked.append(request)
        return Answer(401, headers={"WWW-Authenticate": BEARER.replace("https", "http")})

    with client(serve, monkeypatch, Credentials("user", "pass"), plain_http=plain_http) as web:
        web.get(REGISTRY)
    assert bool(asked) is told


def test_of_two_challenges_one_that_can_be_answered_is(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "Basic " + base64.b64encode(b"user:pass").decode()

    def serve(request: httpx.Request) -> Answer:
        known = request.headers.get("Authorization") == expected
        challenges = [("WWW-Authenticate", 'Negotiate x="y"'), ("WWW-Authenticate", 'Basic realm="r"')]
        return Answer(200 if known else 401, headers=challenges)

    with client(serve, monkeypatch, Credentials("user", "pass")) as web:
        assert web.get(REGISTRY).is_success


def test_a_token_servers_nonsense_is_trouble_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(request: httpx.Request) -> Answer:
        if request.url.host == "auth.example":
            return Answer(200, content=json.dumps(["no token"]).encode())
        return Answer(401, headers={"WWW-Authenticate": BEARER})

    with client(serve, monkeypatch) as web, pytest.raises(httpx.DecodingError, match=r"auth\.example"):
        web.get(REGISTRY)


def test_a_token_that_another_request_got_and_that_is_over_too_is_replaced() -> None:
    login = Login("localhost", httpx.URL("http://localhost/v2/"))
    flow = login.for_scopes("repository:a:pull").sync_auth_flow(
        httpx.Request("GET", "http://localhost/v2/a/manifests/1")
    )
    asked = next(flow)

    def refused() -> httpx.Response:
        challenge = {"WWW-Authenticate": 'Bearer realm="http://localhost/token",service="s"'}
        return httpx.Response(401, headers=challenge, request=asked)

    login.headers[frozenset({"repository:a:pull"})] = "Bearer another"
    assert flow.send(refused()).headers["Authorization"] == "Bearer another"
    assert flow.send(refused()).url.path == "/token"
    assert flow.send(httpx.Response(200, json={"token": "new"})).headers["Authorization"] == "Bearer new"
    with pytest.raises(StopIteration):  # our own new token does not help either: no more is asked for
        flow.send(refused())
