"""All CUDA libraries are of one CUDA major.

The bindings of TensorRT for CUDA 11, 12 and 13 are the same bytes and say the same version; only the name of
the distribution with the libraries tells them apart.
"""

from __future__ import annotations

import re
from typing import Any

from smoke.checks.versions import installed, normal

NEEDS = ("tensorrt",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    major, libs = str(expected["tensorrt"]["cuda_major"]), normal(expected["tensorrt"]["libs"])
    found = installed()
    assert libs in found, f"{libs} is not installed"
    others = [name for name in sorted(found) if _major(name) not in (None, major)]
    assert not others, "for another CUDA major than {}: {}".format(major, ", ".join(others))
    return {"libs": libs, "version": found[libs]}


def _major(name: str) -> str | None:
    suffix = re.search(r"-cu(\d\d)(-|$)", name)
    return suffix.group(1) if suffix else None
