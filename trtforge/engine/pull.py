"""Let an Engine pull an image, and say in our words what it or the registry has against that.

An Engine reports most of a registry's trouble as text: in an HTTP status before the stream of events, or in
an event. What is not known here is passed on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker.errors

from trtforge.engine.errors import EngineSays
from trtforge.errors import BuildError, EnvironmentLack, ForgeError, RequestError
from trtforge.registry.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trtforge.progress import Advance, Progress


@dataclass(frozen=True)
class _Trouble:
    """Phrases of an Engine, and what they mean: the problem and what to do, of {host} and {reference}."""

    phrases: tuple[str, ...]
    kind: type[ForgeError]
    problem: str
    advice: str


# In this order: "not found" is part of several. Words of moby's distribution package (pull_v2.go, errors.go),
# of Go's net/http and crypto/x509, and the error codes of OCI distribution-spec 1.1.
_TROUBLE = (
    _Trouble(
        (
            "verification failed",
            "unexpected eof",
            "don't match image config",
            "invalid header",
            "checksum error",
        ),
        BuildError,
        "the registry gave other bytes than {reference} consists of",
        "publish the image anew: what the registry holds of it is damaged, or was cut on its way",
    ),
    _Trouble(
        ("server gave http response to https client",),
        EnvironmentLack,
        "{host} speaks plain HTTP, which the Engine refuses beyond loopback",
        'add "insecure-registries": ["{host}"] to /etc/docker/daemon.json and restart Docker',
    ),
    _Trouble(
        ("x509:", "tls:"),
        EnvironmentLack,
        "the Engine does not trust the certificate of {host}",
        "put the registry's CA into /etc/docker/certs.d/{host}/ca.crt",
    ),
    _Trouble(
        ("credentials store", "docker-credential-"),
        EnvironmentLack,
        "Docker's credential helper for {host} fails",
        "docker login {host}, or correct credHelpers in Docker's config.json",
    ),
    _Trouble(
        ("unauthorized", "authentication required", "no basic auth credentials", "denied", "forbidden"),
        EnvironmentLack,
        "{host} does not let the Engine pull {reference}",
        "check the name, or log in: docker login {host}",
    ),
    _Trouble(
        ("manifest unknown", "name unknown", "not found"),
        RequestError,
        "{host} has no image {reference}",
        "check the name; a tag or a digest may have been removed",
    ),
    _Trouble(
        (
            "toomanyrequests",
            "connection refused",
            "no such host",
            "timeout",
            "no route to host",
            "server error",
        ),
        EnvironmentLack,
        "{host} does not give {reference}",
        "check the network and the registry, then run the same command again",
    ),
)


def pull(api: Any, reference: str, progress: Progress, size: int | None = None) -> str:
    """Pull `reference` through the docker SDK's `api`; see `Engine.pull`.

    Raises:
        ForgeError: what is known of the trouble; else what the SDK raises, or EngineSays.
    """
    parsed = parse_reference(reference)
    try:
        with progress.task(f"pull {reference}", size) as advance:
            # The SDK finds credentials as docker does: config.json, its helpers and stores.
            _follow(api.pull(reference, stream=True, decode=True), advance)
    except (docker.errors.DockerException, EngineSays) as error:
        says = str(getattr(error, "explanation", None) or error)
        if (trouble := _known(says)) is None:
            raise
        raise trouble.kind(
            trouble.problem.format(host=parsed.host, reference=reference),
            ("engine", says),
            ("next", trouble.advice.format(host=parsed.host)),
        ) from error
    found = api.inspect_image(reference)
    if parsed.version.startswith("sha256:") and not any(
        name.endswith(f"@{parsed.version}") for name in found["RepoDigests"] or []
    ):
        raise BuildError(
            f"the Engine has another image than {reference} after pulling it",
            ("found", ", ".join(found["RepoDigests"] or [found["Id"]])),
            ("next", "run the same command again, with an Engine that only this command uses"),
        )
    return str(found["Id"])


def _known(says: str) -> _Trouble | None:
    low = says.lower()
    if "no space left on device" in low:  # that is the Engine's own trouble
        return None
    return next((one for one in _TROUBLE if any(phrase in low for phrase in one.phrases)), None)


def _follow(events: Iterable[dict[str, Any]], advance: Advance) -> None:
    """Tell `advance` the bytes of layers that came; several layers come at a time."""
    done: dict[str, int] = {}
    for event in events:
        if "error" in event:
            raise EngineSays(event["error"])
        if event.get("status") == "Downloading":
            layer, current = str(event.get("id")), (event.get("progressDetail") or {}).get("current") or 0
            advance(current - done.get(layer, 0))
            done[layer] = current
