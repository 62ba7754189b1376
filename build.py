#!/usr/bin/env python3
"""The command people type: `python build.py --cuda 12.1 --arch ampere`.

Runs on any Python 3.11 or newer. Where trtforge's dependencies are missing it makes `.venv` beside itself,
installs exactly what requirements.lock names, and continues there. Everything else is in trtforge/.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
REQUIREMENTS = HERE / "requirements.lock"
STAMP = VENV / "requirements.sha256"
"""Written last, so an interrupted installation is finished by the next run."""


def main() -> None:
    if sys.version_info < (3, 11):
        lacks(
            f"trtforge needs Python 3.11 or newer; this is {sys.version.split()[0]}",
            "python3.11 build.py ...",
        )
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not STAMP.exists() or STAMP.read_text(encoding="ascii") != wanted:
        install(wanted)
    if Path(sys.prefix).resolve() != VENV.resolve():
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, str(HERE / "build.py"), *sys.argv[1:]])
    from trtforge.cli import main as trtforge

    trtforge()


def install(wanted: str) -> None:
    """Make `.venv` hold what requirements.lock names; `wanted` is that file's hash."""
    print("trtforge: first run here, installing its requirements into .venv", file=sys.stderr)
    if (
        not (VENV / "bin" / "pip").exists()
        and subprocess.run([sys.executable, "-m", "venv", VENV]).returncode
    ):
        lacks(
            "this Python cannot make virtual environments",
            "apt-get install --no-install-recommends python3-venv",
        )
    python, locked = str(VENV / "bin" / "python"), ["--require-hashes", "-r", str(REQUIREMENTS)]
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *locked]
    if subprocess.run(pip).returncode:
        lacks(
            "the requirements could not be installed",
            "see pip's message above; then run the same command again",
        )
    STAMP.write_text(wanted, encoding="ascii")


def lacks(problem: str, remedy: str) -> None:
    """End as every error of trtforge that the environment causes does."""
    print(f"error: {problem}\n  next      {remedy}\nexit 3", file=sys.stderr)
    sys.exit(3)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("error: interrupted\n  next      run the same command again\nexit 130", file=sys.stderr)
        sys.exit(130)
