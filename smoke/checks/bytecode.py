"""Importing torch compiles nothing: each module it pulls in has bytecode in the image, made from its source.

Such files are not compared with their source by Python ("unchecked hash", PEP 552), so it is done here, once.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

NEEDS = ("torch", "bytecode")


def check(expected: dict[str, Any]) -> str:
    sys.dont_write_bytecode = True  # or the import would make what is to be looked for
    importlib.import_module("torch")
    prefix = expected.get("prefix", "/opt/venv") + "/"
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    sources = sorted({s.origin for s in specs if s and s.has_location and str(s.origin).startswith(prefix)})
    wrong = [text for text in map(_wrong, [s for s in sources if s.endswith(".py")]) if text]
    assert sources, "no module came from " + prefix
    assert not wrong, f"{len(wrong)} of {len(sources)} modules: " + "; ".join(wrong[:5])
    return f"{len(sources)} modules"


def _wrong(source: str) -> str | None:
    """What is wrong with the bytecode of `source`; its header: magic, flags, hash of the source (PEP 552)."""
    try:
        with Path(importlib.util.cache_from_source(source)).open("rb") as cached:
            header = cached.read(16)
    except OSError:
        return source + " has no bytecode"
    if header[:4] != importlib.util.MAGIC_NUMBER:
        return source + " has another Python's bytecode"
    if int.from_bytes(header[4:8], "little") != 0b01:
        return source + " has bytecode that Python checks against the source's time or text"
    if header[8:] != importlib.util.source_hash(Path(source).read_bytes()):
        return source + " has bytecode of another source"
    return None
