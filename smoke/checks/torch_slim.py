"""The libraries of a slim torch hold code for the cell's GPUs, and for no others.

What torch says of itself (`torch_archs`) is what it was compiled for, and does not change with them.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

from smoke.arch import runs_on
from smoke.fatbin import architectures

NEEDS = ("slim",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    root, sms = Path(sysconfig.get_path("purelib")), expected["slim"]["sm"]
    files = [file for glob in expected["slim"]["libraries"] for file in sorted(root.glob(glob))]
    assert files, "there is none of {}".format(", ".join(expected["slim"]["libraries"]))
    return {file.name: held(file, sms) for file in files}


def held(library: Path, sms: list[str]) -> dict[str, int]:
    """The code in `library`, which must be what GPUs of `sms` run."""
    found = architectures(str(library))
    missing = [sm for sm in sms if runs_on(sm, list(found)) is None]
    assert not missing, "{} has no code for SM {}, only {}".format(
        library.name, ", ".join(missing), ", ".join(found)
    )
    other = [one for one in found if not any(runs_on(sm, [one]) for sm in sms)]
    assert not other, "{} still has code for other GPUs: {}".format(library.name, ", ".join(other))
    return found
