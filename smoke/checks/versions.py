"""The installed distributions are the locked ones, each in its version, and there are no others."""

from __future__ import annotations

import re
import sysconfig
from importlib import metadata
from typing import Any

NEEDS = ("packages",)


def check(expected: dict[str, Any]) -> str:
    wanted = {normal(name): version for name, version in expected["packages"].items()}
    found = installed()
    wrong = [
        "{} is {}, not {}".format(name, found.get(name, "absent"), version)
        for name, version in sorted(wanted.items())
        if found.get(name) != version
    ]
    wrong += [f"{name} {found[name]} is not in the lock" for name in sorted(set(found) - set(wanted))]
    assert not wrong, "; ".join(wrong)
    return f"{len(found)} distributions"


def installed() -> dict[str, str]:
    """Name -> version of every distribution in this environment (not in the system's own Python)."""
    paths = sysconfig.get_paths()
    folders = sorted({paths["purelib"], paths["platlib"]})
    return {normal(d.metadata["Name"]): d.version for d in metadata.distributions(path=folders)}


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
