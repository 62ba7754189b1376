"""`python` is the environment's, of the right version."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import Any

NEEDS = ("python",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    version = ".".join(map(str, sys.version_info[:2]))
    assert version == expected["python"], "Python is {}, not {}".format(version, expected["python"])
    if "interpreter" in expected:  # of a base that somebody else made: what it was examined with
        found = {"interpreter": sys.executable, "prefix": os.path.realpath(sysconfig.get_path("data"))}
        for what, value in found.items():
            assert value == expected[what], f"the {what} is {value}, not {expected[what]}"
    elif "packages" in expected:
        prefix = expected.get("prefix", "/opt/venv")
        first = os.environ.get("PATH", "").split(os.pathsep)[0]
        assert first == prefix + "/bin", f"PATH starts with {first!r}, not {prefix}/bin"
        assert sys.prefix == prefix, f"sys.prefix is {sys.prefix}, not {prefix}"
        assert shutil.which("python") == prefix + "/bin/python", "`python` is {}".format(
            shutil.which("python")
        )
    return {"python": sys.version.split()[0]}
