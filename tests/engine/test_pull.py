"""What an Engine says of a pull, as Docker 20.10 words it, and what a person reads of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import docker.errors
import pytest

from trtforge.engine.engine import Engine
from trtforge.errors import BuildError, EnvironmentLack, ForgeError, RequestError
from trtforge.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.progress import Advance

DIGEST = "sha256:" + "403" + "a" * 61
REFERENCE = f"registry.example:5000/team/tensorrt@{DIGEST}"


class Api:
    """As much of the docker SDK as a pull needs; it answers with `events`, or raises `error`."""

    def __init__(self, *events: dict[str, Any], error: str = "", digest: str = DIGEST) -> None:
        self.events, self.error, self.digest = events, error, digest
        self.tagged: list[tuple[str, ...]] = []

    def pull(self, _reference: str, **_options: object) -> list[dict[str, Any]]:
        if self.error:
            raise docker.errors.APIError("500 Server Error", explanation=self.error)
        return list(self.events)

    def inspect_image(self, _reference: str) -> dict[str, Any]:
        return {"Id": "sha256:1", "RepoDigests": [f"registry.example:5000/team/tensorrt@{self.digest}"]}

    def tag(self, *names: str) -> None:
        self.tagged.append(names)


class Counted(Silent):
    """Keeps the bytes it was told of."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        yield self.steps.append


TOLD = [
    (f"manifest for {REFERENCE} not found: manifest unknown: manifest unknown", RequestError, "has no image"),
    ("name unknown: repository name not known to registry", RequestError, "has no image"),
    ('Get "https://r/v2/": unauthorized: authentication required', EnvironmentLack, "does not let"),
    ('Head "https://r/v2/x/manifests/1": no basic auth credentials', EnvironmentLack, "does not let"),
    (
        "pull access denied for x, repository does not exist or may require 'docker login': denied: ...",
        EnvironmentLack,
        "does not let",
    ),
    (
        'Get "https://r/v2/": http: server gave HTTP response to HTTPS client',
        EnvironmentLack,
        "speaks plain HTTP",
    ),
    (
        'Get "https://r/v2/": x509: certificate signed by unknown authority',
        EnvironmentLack,
        "does not trust the certificate",
    ),
    ('Get "https://r/v2/": dial tcp: lookup r: no such host', EnvironmentLack, "does not give"),
    ("received unexpected HTTP status: 500 Internal Server Error", EnvironmentLack, "does not give"),
    ("toomanyrequests: slow down", EnvironmentLack, "does not give"),
    (f"filesystem layer verification failed for digest {DIGEST}", BuildError, "gave other bytes"),
    (f"manifest verification failed for digest {DIGEST}", BuildError, "gave other bytes"),
    ("unexpected EOF", BuildError, "gave other bytes"),
    ("failed to register layer: write /x: no space left on device", EnvironmentLack, "disk is full"),
    (f"something new about {DIGEST}", BuildError, "the Docker Engine could not pull"),
]


@pytest.mark.parametrize(("says", "kind", "problem"), TOLD)
@pytest.mark.parametrize("early", [True, False])
def test_trouble_is_told_apart(says: str, kind: type[ForgeError], problem: str, early: bool) -> None:
    api = Api(error=says) if early else Api({"status": "Pulling"}, {"error": says})
    with pytest.raises(kind, match=problem) as error:
        Engine(api, "unix:///x").pull(REFERENCE, Silent())
    assert says in (error.value.fact("engine") or "")
    if problem == "speaks plain HTTP":
        assert '"insecure-registries": ["registry.example:5000"]' in (error.value.fact("next") or "")


def test_the_bytes_of_all_layers_are_counted_once() -> None:
    def step(layer: str, current: int) -> dict[str, Any]:
        return {"status": "Downloading", "id": layer, "progressDetail": {"current": current, "total": 50}}

    progress = Counted()
    api = Api(
        {"status": "Pulling fs layer", "id": "a", "progressDetail": {}},
        *(step("a", 10), step("b", 5), step("a", 30), step("b", 50)),
        {"status": "Extracting", "id": "a", "progressDetail": {"current": 7, "total": 30}},
    )
    assert Engine(api, "unix:///x").pull(REFERENCE, progress) == "sha256:1"
    assert sum(progress.steps) == 80


def test_an_engine_that_ends_up_with_another_image_is_found_out() -> None:
    with pytest.raises(BuildError, match="another image"):
        Engine(Api(digest="sha256:" + "b" * 64), "unix:///x").pull(REFERENCE, Silent())


def test_a_tag_may_have_a_registry_with_a_port() -> None:
    api = Api()
    Engine(api, "unix:///x").tag(REFERENCE, "localhost:5000/team/tensorrt:cu12.1-ampere")
    assert api.tagged == [(REFERENCE, "localhost:5000/team/tensorrt", "cu12.1-ampere")]
