"""Objects in place of TensorRT's native ones, with the attributes of the real class and no others.

The bindings without their libraries give classes and enumerations, but no builder. What our code and
polygraphy do with a builder and its configuration is done to these: it fails where the real class of that
version lacks the attribute, and is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from tests.bindings.api import describe

_described = cache(describe)


class StandIn:
    """Of the class `name` of `module`.

    values: of properties, as "ITensor.name"; the others are 0. done: what was called or set on it and on what
    it gave, in order: ("set_flag", BuilderFlag.TF32).
    """

    def __init__(
        self,
        module: ModuleType,
        name: str,
        values: Mapping[str, Any] | None = None,
        done: list[tuple[Any, ...]] | None = None,
    ) -> None:
        vars(self).update(_module=module, _name=name, values=values or {}, done=[] if done is None else done)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        real = getattr(getattr(self._module, self._name), attribute)  # AttributeError where there is none
        its = _described(self._module)[self._name][attribute]
        if isinstance(real, property):
            return self.values.get(f"{self._name}.{attribute}", 0)

        def call(*arguments: Any, **named: Any) -> Any:
            self.done.append((attribute, *arguments, *named.values()))
            return StandIn(self._module, its, self.values, self.done) if its else True

        return call

    def __getitem__(self, index: int) -> Any:
        """Of a network: its layers."""
        if index >= self.values[f"{self._name}.num_layers"]:
            raise IndexError(index)
        return StandIn(
            self._module, _described(self._module)[self._name]["__getitem__"], self.values, self.done
        )

    def __setattr__(self, attribute: str, value: Any) -> None:
        assert isinstance(getattr(getattr(self._module, self._name), attribute), property)
        self.done.append((attribute, value))
