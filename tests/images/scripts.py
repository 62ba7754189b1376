"""The scripts that images start with, imported from where they lie in images/."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from tests.conftest import PROJECT

if TYPE_CHECKING:
    from types import ModuleType


def script(image: str, name: str) -> ModuleType:
    """images/IMAGE/opt/trtforge/IMAGE/NAME.py, which may import its neighbours as it does in the image."""
    folder = PROJECT / "images" / image / "opt" / "trtforge" / image
    spec = importlib.util.spec_from_file_location(f"{image}_{name}", folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module
