"""Why a library is not slimmed: each with the library, the place and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED = 12
"""How many names of lost operators a person is told; the rest are counted."""


class NotUnderstood(BuildError):
    """A library's layout is not one that is known byte for byte, so it stays as it is.

    Args:
        library: its file name.
        offset: where in the file, in bytes.
        reason: what is there, or is missing there.
    """

    def __init__(self, library: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{library} cannot be slimmed: {reason}",
            ("at", f"byte {offset} ({offset:#x})"),
            ("rule", "only a library whose layout is understood byte for byte is changed"),
            ("next", "leave it out of `slim` in matrix.yaml, or build without --slim"),
            ("more", "docs/slim.md#what-is-refused"),
        )
        self.library, self.offset, self.reason = library, offset, reason


class NothingRuns(BuildError):
    """A library has GPU code, and none of it runs on a GPU that it is to be slimmed for.

    Args:
        library: its file name.
        offset: where its GPU code begins in the file, in bytes.
        sm: the compute capability that has nothing, as "90".
        has: the architectures whose code it holds, as "sm_80", "compute_90".
        lost: names of the operators, or kernels, that would be gone.
    """

    def __init__(self, library: str, offset: int, sm: str, has: Sequence[str], lost: Sequence[str]) -> None:
        reason = f"none of its GPU code runs on SM {sm}"
        named = ", ".join(lost[:_NAMED]) or "it has no symbols that tell"
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        super().__init__(
            f"{library} cannot be slimmed: {reason}",
            ("it has", ", ".join(has)),
            ("lost would be", named + more),
            ("next", "choose an --arch that this build of the library supports, or build without --slim"),
            ("more", "docs/slim.md#what-is-refused"),
        )
        self.library, self.offset, self.reason = library, offset, reason
        self.sm, self.has, self.lost = sm, tuple(has), tuple(lost)
