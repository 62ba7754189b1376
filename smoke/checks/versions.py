"""The installed distributions are the locked ones, each in its version, and there are no others."""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib import metadata
from typing import Any

NEEDS = ("packages",)


def check(expected: dict[str, Any]) -> str:
    wanted = {normal(name): version for name, version in expected["packages"].items()}
    found = installed(everywhere="interpreter" in expected)
    wrong = [
        "{} is {}, not {}".format(name, found.get(name, "absent"), version)
        for name, version in sorted(wanted.items())
        if found.get(name) != version
    ]
    wrong += [f"{name} {found[name]} is not in the lock" for name in sorted(set(found) - set(wanted))]
    assert not wrong, "; ".join(wrong)
    return f"{len(found)} distributions"


def installed(everywhere: bool = False) -> dict[str, str]:
    """Name -> version of every distribution in this environment (not in the system's own Python), or of
    every one that can be imported: a base that somebody else made may hold them in several places."""
    paths = sysconfig.get_paths()
    folders = sys.path if everywhere else sorted({paths["purelib"], paths["platlib"]})
    found: dict[str, str] = {}
    for one in metadata.distributions(path=folders):
        if one.metadata["Name"]:
            found.setdefault(normal(one.metadata["Name"]), one.version)  # the first is the one imported
    return found


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
