"""Folders that are held by the process which uses them, so that what a killed process left can be told apart.

The hold is an advisory lock on the folder itself (flock(2)): it ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path


def make_held(parent: Path) -> tuple[Path, int]:
    """A new folder below `parent`, and the descriptor whose closing lets go of it.

    Between the two it looks like a dead process's: let nobody look meanwhile.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    return folder, held


def is_held(folder: Path) -> bool:
    """Whether a living process uses `folder`."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # just now removed by who used it
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)
