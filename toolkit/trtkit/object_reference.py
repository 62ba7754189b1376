"""Python code that a person names: "package.module:name", or "FILE.py:name".

Source: "object reference" in the entry points specification (packaging.python.org).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from trtkit.errors import RequestError

FORM = "package.module:name, or FILE.py:name"


def is_reference(text: str) -> bool:
    """Whether `text` has the form of one; not whether it leads anywhere."""
    return bool(re.fullmatch(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*", text))


def named_object(text: str) -> Any:
    """What `text` stands for. Modules are looked for in the current folder too.

    Raises:
        RequestError: there is no such thing, or its module does not import.
    """
    head, _, name = text.rpartition(":")
    module = _import(head)
    if not hasattr(module, name):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise RequestError(f"{head} has no {name!r}", *nearest(name, names))
    return getattr(module, name)


def nearest(name: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Facts of an error: the `names` that are most like `name`."""
    near = difflib.get_close_matches(name, list(names), n=4, cutoff=0.5)
    return [("next", f"did you mean {', '.join(near)}")] if near else []


def because(error: BaseException) -> list[tuple[str, str]]:
    """Facts of an error that a person's own code brought: what it says, and where."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    frames = traceback.extract_tb(error.__traceback__)
    where = [("at", f"{frames[-1].filename}:{frames[-1].lineno}")] if len(frames) > 1 else []
    return [("because", f"{type(error).__name__}: {first}".rstrip(": ")), *where]


def _import(head: str) -> ModuleType:
    file = Path(head) if head.endswith(".py") else None
    if file and not file.is_file():
        raise RequestError(f"there is no file {head}", ("next", f"give {FORM}"))
    try:
        if file:
            return _import_file(file)
        sys.path.insert(0, "")
        try:
            return importlib.import_module(head)
        finally:
            sys.path.remove("")
    except ModuleNotFoundError as error:
        missing = error.name or head
        own = head == missing or head.startswith(f"{missing}.")
        what = (
            f"there is no module {missing}"
            if own
            else f"{head} needs the module {missing}, which is not here"
        )
        raise RequestError(what, ("next", f"install it, or give {FORM}")) from error
    except Exception as error:  # whatever a person's code raises
        raise RequestError(f"{head} cannot be imported", *because(error)) from error


def _import_file(path: Path) -> ModuleType:
    """The module in `path`, which runs once in a process, however often it is named.

    Run twice, a file that defines a PyTorch operator would define it anew and free the first definition,
    which its models still call: a segmentation fault.
    """
    # Named after the whole path, it hides no other module, as random.py would.
    name = re.sub(r"\W", "_", str(path.resolve()))
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a name that ends in .py
    assert spec.loader is not None  # always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # half of it is none
        raise
    return module
