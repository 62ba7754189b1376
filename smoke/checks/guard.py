"""The guard is there, knows what the image is for, and lets a command through where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

NEEDS = ("guard",)

GUARD = Path("/opt/trtforge/guard")


def check(expected: dict[str, Any]) -> str:
    status = GUARD.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o755), f"{GUARD} is not root's, or not mode 755"
    facts = json.loads(GUARD.with_name("image.json").read_text(encoding="utf-8"))
    assert facts == expected["guard"], f"image.json says {facts}"
    start = [expected["interpreter"], "-ISB", str(GUARD)] if "interpreter" in expected else [str(GUARD)]
    for mode, command, code in (
        ("", "true", 0),
        ("", "false", 1),
        ("off", "false", 1),
        ("strict", "true", 64),
    ):
        # Whatever GPUs there are, none of them is seen.
        environment = dict(os.environ, TRTFORGE_GUARD=mode, CUDA_VISIBLE_DEVICES="")
        done = subprocess.run([*start, command], env=environment, capture_output=True, text=True)
        what = f"TRTFORGE_GUARD={mode} {command}: exit code {done.returncode}, {done.stdout + done.stderr}"
        assert (done.returncode, done.stdout) == (code, ""), what
        assert len(done.stderr.splitlines()) == {"": 1, "off": 0, "strict": 2}[mode], what
    return str(facts["ref"])
