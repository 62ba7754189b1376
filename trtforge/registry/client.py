"""One repository of a registry, read patiently: manifests and blobs, checked against the digests asked for.

Sources: OCI distribution-spec 1.1 (pull); image-spec 1.1 (descriptor.md, image-index.md, manifest.md);
Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import os
import ssl
import time
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError, model_validator
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from trtforge.errors import EnvironmentLack, HashMismatch, RequestError
from trtforge.index.download import Patience, reason_of, seconds_of, sha256_of
from trtforge.oci import INDEX, MANIFEST, digest_of
from trtforge.registry.auth import RegistryAuth, docker_credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trtforge.progress import Advance
    from trtforge.registry.reference import Reference

T = TypeVar("T")

_TYPES = (
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_SMALL = 8 << 20
"""Bytes: no manifest or configuration is larger (registries refuse manifests above 4 MiB)."""

DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Platform(BaseModel):
    """What an image of an index runs on."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


class Descriptor(BaseModel):
    """What a manifest or an index says of a blob (descriptor.md); size in bytes."""

    media_type: str = Field(alias="mediaType")
    digest: DigestText
    size: int = Field(ge=0)
    platform: Platform | None = None


class Manifest(BaseModel):
    """An image's manifest, with `config`, or an index of several, with `manifests`."""

    schema_version: Literal[2] = Field(alias="schemaVersion")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Manifest:
        if (self.config is None) == (not self.manifests):
            raise ValueError("neither an image manifest nor an index")
        return self


class Registry:
    """One repository, to be used as a context and from many threads; at its end running transfers end too.

    Every method raises:
        RequestError: what is asked for does not exist.
        HashMismatch: it is not what its digest says.
        EnvironmentLack: the registry does not answer or refuses.
    """

    def __init__(self, reference: Reference, patience: Patience) -> None:
        self._reference = reference
        self._patience = patience
        self._client = httpx.Client(
            auth=RegistryAuth(docker_credentials(reference.host, os.environ)),
            verify=ssl.create_default_context(),
            follow_redirects=True,
            timeout=httpx.Timeout(patience.silence_s, connect=min(patience.silence_s, 15.0)),
            headers={"Accept-Encoding": "identity", "User-Agent": "trtforge"},
        )

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.close()

    def manifest(self, version: str) -> tuple[bytes, Manifest]:
        """A manifest or an index, by tag or digest: its bytes and what they say."""
        raw = self._small(f"manifests/{version}", ", ".join(_TYPES))
        if version.startswith("sha256:"):
            self.require(version, digest_of(raw), "manifest")
        try:
            return raw, Manifest.model_validate_json(raw)
        except ValidationError as error:
            raise RequestError(
                f"{self._reference} is not an image that can be a base",
                ("found", error.errors()[0]["msg"]),
                ("next", "name another image in matrix.yaml"),
            ) from error

    def config(self, digest: str) -> bytes:
        """An image's configuration."""
        raw = self._small(f"blobs/{digest}", "*/*")
        self.require(digest, digest_of(raw), "configuration")
        return raw

    def save_blob(self, digest: str, target: Path, advance: Advance) -> None:
        """Write a blob to the new file `target`, going on where a broken connection left off."""
        target.touch()
        self._patiently(lambda: self._continue(digest, target, advance))
        self.require(digest, f"sha256:{sha256_of(target)}", "layer")

    def require(self, expected: str, found: str, part: str) -> None:
        """Raise HashMismatch, naming the `part` of the image, if two digests differ."""
        if expected != found:
            name = f"{self._reference}: its {part}"
            raise HashMismatch(name, expected.removeprefix("sha256:"), found.removeprefix("sha256:"))

    def _small(self, path: str, accept: str) -> bytes:
        return self._patiently(lambda: self._get(path, accept))

    def _get(self, path: str, accept: str) -> bytes:
        url = f"{self._reference.api}/{path}"
        with self._client.stream("GET", url, headers={"Accept": accept}) as answer:
            answer.raise_for_status()
            raw = bytearray()
            for chunk in answer.iter_raw():
                raw += chunk
                if len(raw) > _SMALL:
                    raise httpx.DecodingError(f"{path} has more than {_SMALL >> 20} MiB")
            return bytes(raw)

    def _continue(self, digest: str, target: Path, advance: Advance) -> None:
        """Ask for what is still missing of a blob (RFC 9110, section 14: range requests)."""
        done = target.stat().st_size
        headers = {"Range": f"bytes={done}-"} if done else {}
        url = f"{self._reference.api}/blobs/{digest}"
        with self._client.stream("GET", url, headers=headers) as answer, target.open("ab") as out:
            if done and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                out.truncate(0)
                advance(-done)
            answer.raise_for_status()
            for chunk in answer.iter_raw():
                if self._client.is_closed:
                    raise httpx.DecodingError("another transfer failed")
                out.write(chunk)
                advance(len(chunk))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, asked again while the registry is in trouble."""
        retrying = Retrying(
            stop=stop_after_attempt(self._patience.attempts),
            wait=self._pause,
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(ask)
        except httpx.HTTPError as error:
            raise _gave_up(self._reference, error) from error

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        headers = error.response.headers if isinstance(error, httpx.HTTPStatusError) else {}
        asked = seconds_of(headers.get("Retry-After", ""), time.time())
        return self._patience.pause_s(state.attempt_number, asked)


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 416, 425, 429) or error.response.is_server_error
    return isinstance(error, httpx.TransportError)


def _gave_up(reference: Reference, error: httpx.HTTPError) -> RequestError | EnvironmentLack:
    status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None
    if status == httpx.codes.NOT_FOUND:
        return RequestError(
            f"there is no {reference}",
            ("asked", reference.api),
            ("next", "correct the base image in matrix.yaml; a tag may have been removed"),
        )
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return EnvironmentLack(
            f"{reference.host} does not let us read {reference.name}",
            ("found", reason_of(error)),
            ("next", f"check the name, or log in: docker login {reference.host}"),
        )
    return EnvironmentLack(
        f"{reference.host} does not give {reference}",
        ("found", reason_of(error)),
        ("rules out", "every image on this base"),
        ("next", "check the network, or build on an OS layer made here: see the axis os of matrix.yaml"),
    )
