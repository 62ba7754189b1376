"""What matrix.yaml says of publishing: where to, how large an image may be, what a nightly may change by
itself, what is kept.

None of it decides what an image holds, so none of it makes a lock stale.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

Step = Literal["none", "patch", "minor", "any"]
"""How far a nightly may raise a version: not at all, within x.y, within x, or to whatever is newest."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _bytes(value: Any) -> int:
    """A size as people write it, in bytes."""
    try:
        if isinstance(value, str) and value[-1:].isalpha():
            size = TypeAdapter(ByteSize).validate_python(value.strip())
            if size > 0:
                return size
    except ValidationError:
        pass
    raise ValueError(f"{value!r} is not a size: write one above zero, with its unit: 400 MB, 1.2 GB, 3 GiB")


def _alone(value: Any) -> Any:
    """One budget may stand without its list."""
    return [value] if isinstance(value, dict) else value


def _for_all(budgets: list[Budget]) -> list[Budget]:
    if [bool(one.when) for one in budgets] != [True] * (len(budgets) - 1) + [False]:
        raise ValueError("the last budget, and no other, is without `when`: it is that of all other cells")
    return budgets


Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=str)]


class Budget(_Model):
    """The bytes that an image may have, with all images of ours below it.

    when: the cells that it is for, told as rules tell it; the first that holds counts.
    compressed: of what a pull moves. on_disk: of what it is unpacked.
    """

    when: dict[str, str | list[str]] = Field(default_factory=dict)
    compressed: Bytes
    on_disk: Bytes


Budgets = Annotated[
    list[Budget],
    Field(min_length=1),
    BeforeValidator(_alone, json_schema_input_type=Budget | list[Budget]),
    AfterValidator(_for_all),
]
"""The budgets of one image."""


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
