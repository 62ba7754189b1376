"""Manifests and indexes as registries give them.

Sources: OCI image-spec 1.1 (descriptor.md, image-index.md, manifest.md); Docker's image manifest version 2,
schema 2.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from trtforge.oci import INDEX, MANIFEST, Digest

MANIFEST_TYPES = (
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

DigestText = Annotated[Digest, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


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
    artifact_type: str = Field(default="", alias="artifactType")
    annotations: dict[str, str] = Field(default_factory=dict)


class Manifest(BaseModel):
    """The manifest of an image or an artifact, with `config`, or an index of several, with `manifests`.

    subject: what it is attached to.
    """

    schema_version: Literal[2] = Field(alias="schemaVersion")
    artifact_type: str = Field(default="", alias="artifactType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    annotations: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Manifest:
        if (self.config is None) == (not self.manifests):
            raise ValueError("neither an image manifest nor an index")
        return self


class Index(BaseModel):
    """An index of whatever is attached to a manifest; it may be empty."""

    manifests: tuple[Descriptor, ...] = ()


def why_malformed(error: ValidationError) -> str:
    """The first thing that is wrong with a manifest."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
