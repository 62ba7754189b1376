from __future__ import annotations

import pickle

import pytest

from trtforge.errors import (
    BuildError,
    CompatibilityError,
    DamagedFile,
    EnvironmentLack,
    ForgeError,
    HashMismatch,
    IndexUnreachable,
    Interrupted,
    ResolutionError,
    UnfitBase,
    UnsafeWheel,
    as_forge_error,
)


@pytest.mark.parametrize(
    "error",
    [
        BuildError("no", ("next", "yes")),
        UnsafeWheel("a.whl", "member", "why"),
        HashMismatch("a", "1", "2"),
        DamagedFile("a", "1", "2"),
        CompatibilityError("no", "rule"),
        UnfitBase("base", {"rule": "why"}),
        IndexUnreachable("default", ("a",), "silence"),
        ResolutionError("missing", ("a",), "uv", "advice"),
        Interrupted(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: ForgeError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert (str(there), vars(there)) == (str(error), vars(error))


def test_what_the_machine_says_is_told_with_the_file() -> None:
    with pytest.raises(OSError, match="not") as raised:
        open("/not/there")  # noqa: PTH123, SIM115
    told = as_forge_error(raised.value)
    assert isinstance(told, EnvironmentLack)
    assert told.fact("at") == "/not/there"


def test_an_error_of_ours_stays_as_it_is() -> None:
    error = BuildError("no")
    assert as_forge_error(error) is error
