"""`python` is the environment's, of the right version."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

NEEDS = ("python",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    version = ".".join(map(str, sys.version_info[:2]))
    assert version == expected["python"], "Python is {}, not {}".format(version, expected["python"])
    if "packages" in expected:
        prefix = expected.get("prefix", "/opt/venv")
        first = os.environ.get("PATH", "").split(os.pathsep)[0]
        assert first == prefix + "/bin", f"PATH starts with {first!r}, not {prefix}/bin"
        assert sys.prefix == prefix, f"sys.prefix is {sys.prefix}, not {prefix}"
        assert shutil.which("python") == prefix + "/bin/python", "`python` is {}".format(
            shutil.which("python")
        )
    return {"python": sys.version.split()[0]}
