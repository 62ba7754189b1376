"""TensorRT's Python API as data: what it has, and of what type each thing is.

The types come from the signatures that pybind11 writes at the head of every docstring. Only the standard
library is used: this runs where nothing but the bindings can be imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

Api = Mapping[str, Mapping[str, str]]
"""A class's name -> its members -> the class of what a member is, or returns; "" where it is none of these.
The module itself is the class "module"; a class in it is of the type "type NAME"."""

_RETURNS = re.compile(
    r"\) -> (?:Optional\[|typing\.Optional\[)?tensorrt\w*\.tensorrt\w*\.(\w+)(?: \| None|\])?$", re.MULTILINE
)


def describe(module: ModuleType) -> Api:
    """All that `module` has."""
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    api = {"module": {name: _type_of(value, classes) for name, value in vars(module).items()}}
    for name, one in classes.items():
        api[name] = {member: _type_of(getattr(one, member, None), classes) for member in dir(one)}
    return api


def union(apis: Iterable[Api]) -> Api:
    """What any of `apis` has."""
    whole: dict[str, dict[str, str]] = {}
    for api in apis:
        for name, members in api.items():
            known = whole.setdefault(name, {})
            for member, kind in members.items():
                known[member] = known.get(member) or kind
    return whole


def _type_of(value: Any, classes: Mapping[str, type]) -> str:
    if inspect.isclass(value):
        return f"type {value.__name__}" if value.__name__ in classes else ""
    if type(value).__name__ in classes:  # a member of an enumeration
        return type(value).__name__
    signed = value.fget if isinstance(value, property) else value
    returned = _RETURNS.search(getattr(signed, "__doc__", None) or "")
    return returned[1] if returned and returned[1] in classes else ""
