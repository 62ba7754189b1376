"""The guard is there, knows what the image is for, and lets a command through where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    for mode, ends_with, code, lines in (
        ("", 0, 0, 1),
        ("", 1, 1, 1),
        ("off", 1, 1, 0),
        ("strict", 0, 64, 2),
    ):
        # Whatever GPUs there are, none of them is seen.
        environment = dict(os.environ, TRTFORGE_GUARD=mode, CUDA_VISIBLE_DEVICES="")
        command = [*start, sys.executable, "-c", f"raise SystemExit({ends_with})"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seen = (done.returncode, done.stdout, len(done.stderr.splitlines()))
        assert seen == (code, "", lines), f"TRTFORGE_GUARD={mode}: {seen}: {done.stderr}"
    return str(facts["ref"])
