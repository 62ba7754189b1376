"""What matrix.yaml says of publishing: where to, what a nightly may change by itself, what is kept.

None of it decides what an image holds, so none of it makes a lock stale.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Step = Literal["none", "patch", "minor", "any"]
"""How far a nightly may raise a version: not at all, within x.y, within x, or to whatever is newest."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RegistryPolicy(_Model):
    """Where images go.

    default: the namespace of verbs without --registry, "registry.example/team"; "": they need one.
    public: namespaces that anyone can pull from; a push there needs `redistribution: acknowledged`.
    """

    default: str = ""
    public: list[str] = Field(default_factory=list)
    redistribution: Literal["not acknowledged", "acknowledged"] = "not acknowledged"


class RefreshPolicy(_Model):
    """What a nightly may raise. torch and TensorRT are never raised: the axes name their versions.

    packages: the step for a package; default: for every other one.
    system: whether the distribution's updates are taken.
    bases: whether `name:tag@sha256:...` follows its tag.
    """

    default: Step = "minor"
    packages: dict[str, Step] = Field(default_factory=dict)
    system: bool = True
    bases: bool = True


class NightlyPolicy(_Model):
    """How a nightly behaves.

    keep: dated images that stay for each cell. hold_after: failing nights until a cell is left alone.
    release_notes: package -> address of its release notes; {version} stands for the new version.
    """

    refresh: RefreshPolicy = RefreshPolicy()
    keep: Annotated[int, Field(ge=1)] = 7
    hold_after: Annotated[int, Field(ge=1)] = 3
    release_notes: dict[str, str] = Field(default_factory=dict)
