"""The image's user is not root, and may install packages into the environment."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

NEEDS = ("user",)


def check(expected: dict[str, Any]) -> dict[str, Any]:
    uid = os.getuid()
    assert uid != 0, "the image runs as root"
    name = pwd.getpwuid(uid).pw_name
    assert name == expected["user"], "the user is {}, not {}".format(name, expected["user"])
    if "packages" in expected:
        _owns(expected.get("prefix", "/opt/venv"), uid)
    return {"user": name, "uid": uid}


def _owns(folder: str, uid: int) -> None:
    # The mode tells, not access(2): the smoke tests run with the image mounted read-only.
    status = Path(folder).stat()
    assert status.st_uid == uid, f"{folder} belongs to user {status.st_uid}, not {uid}"
    assert status.st_mode & 0o300 == 0o300, f"{folder} is not writable for its owner"
