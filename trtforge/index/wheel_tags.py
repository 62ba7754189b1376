"""Which wheels fit an image, and which fits best: by the image's Python and platform, never the host's.

Source: https://packaging.python.org/specifications/platform-compatibility-tags (PEP 425, PEP 600).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from trtforge.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

# PEP 600's table of the names that older manylinux platforms had, by glibc's minor version.
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}


def image_tags(python: str, platform: str) -> dict[Tag, int]:
    """The tags of wheels that fit, each with its rank: 0 fits best.

    Args:
        python: "3.11".
        platform: as uv spells it, "x86_64-manylinux_2_28".

    Raises:
        RequestError: `python` or `platform` is not of that form.
    """
    spelled = re.fullmatch(r"(x86_64|aarch64)-manylinux_2_(\d+)", platform)
    if not spelled or not re.fullmatch(r"3\.\d+", python):
        raise RequestError(
            f"no image is made for Python {python} on {platform}",
            ("next", "write them like 3.11 and x86_64-manylinux_2_28 (or aarch64-...)"),
        )
    machine, glibc = spelled[1], int(spelled[2])
    minor = int(python.partition(".")[2])
    platforms = list(_platforms(machine, glibc))
    interpreter = f"cp3{minor}"
    ordered = [
        *cpython_tags((3, minor), abis=[interpreter], platforms=platforms),
        *compatible_tags((3, minor), interpreter=interpreter, platforms=platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(ordered)))}


def _platforms(machine: str, glibc: int) -> Iterator[str]:
    for minor in range(glibc, _OLDEST_GLIBC[machine] - 1, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _OLD_NAMES:
            yield f"{_OLD_NAMES[minor]}_{machine}"
    yield f"linux_{machine}"


def rank(wheel: str, tags: dict[Tag, int]) -> tuple[int, int] | None:
    """How well the wheel of this file name fits: the lower the better; None if it does not fit at all.

    Among equal tags the higher build number comes first (binary distribution format, "build tag").
    """
    try:
        _, _, build, offered = parse_wheel_filename(wheel)
    except InvalidWheelFilename:
        return None
    fitting = [tags[tag] for tag in offered if tag in tags]
    return (min(fitting), -build[0] if build else 0) if fitting else None
