"""The notebooks run from the first cell to the last."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

NEEDS = ("packages.jupyterlab", "torch")
TIMEOUT = 600

FOLDER = Path("/opt/trtforge/jupyter/notebooks")


def check(_expected: dict[str, Any]) -> dict[str, Any]:
    seconds = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home  # the kernel's files
        nbformat, nbclient = importlib.import_module("nbformat"), importlib.import_module("nbclient")
        for file in sorted(FOLDER.glob("*.ipynb")):
            start = time.monotonic()
            notebook = nbformat.read(file, as_version=4)
            where = {"metadata": {"path": home}}
            nbclient.NotebookClient(
                notebook, timeout=300, resources=where
            ).execute()  # raises where a cell does
            seconds[file.stem] = round(time.monotonic() - start, 1)
    assert seconds, f"there are no notebooks in {FOLDER}"
    return seconds
