"""Which GPU code runs on which GPU ("CUDA Binary Compatibility", CUDA C++ Programming Guide).

Machine code (sm_XY) runs on its own compute capability and on later minors of the same major; with a suffix
(sm_90a) on that one alone. PTX (compute_XY) is compiled by the driver for anything from X.Y on.
"""

from __future__ import annotations


def runs_on(sm: str, flags: list[str]) -> str | None:
    """The one of `flags` ("sm_86", "compute_120") whose code the GPU `sm` ("89") would run, or None."""
    # Machine code before PTX, and the closest below.
    return max(
        (flag for flag in flags if _runs(flag, sm)),
        key=lambda f: (f.startswith("sm_"), len(f), f),
        default=None,
    )


def _runs(flag: str, sm: str) -> bool:
    kind, _, number = flag.partition("_")
    if not number.isdigit():
        return kind == "sm" and number.rstrip("af") == sm
    if kind == "compute":
        return int(number) <= int(sm)
    return kind == "sm" and number[:-1] == sm[:-1] and int(number) <= int(sm)
