"""What TensorRT says while it builds: kept for errors, and shown to who wants to follow it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trtkit.trt_api import ERRORS, make_logger

KEPT = 40
"""Lines kept for an error."""

LAYERS = "Layers:\n"
"""How the verbose message begins that lists the optimised network (TensorRT-RTX 1.7, TensorRT 10.x)."""

PARSING = re.compile(r"Parsing node: (.*) \[(\w+)\]")
"""The verbose message before a node is parsed (onnx-tensorrt, ModelImporter.cpp)."""


class BuildLog:
    """The messages of one build.

    Args:
        follow: is given every message, as "warning: text".

    errors: messages of severity error and above. tail: the last messages but the verbose ones.
    layers: the message that lists the optimised network's layers, "" until there is one.
    parsing: name and operator of the node that the parser took last.
    """

    def __init__(self, follow: Callable[[str], None] | None = None) -> None:
        self.errors: list[str] = []
        self.tail: deque[str] = deque(maxlen=KEPT)
        self.layers = ""
        self.parsing = ("", "")
        self._follow = follow

    def take(self, severity: str, message: str) -> None:
        """One message; `severity` as trt.ILogger.Severity calls it."""
        if severity in ERRORS:
            self.errors.append(message)
        if severity != "VERBOSE":
            self.tail.append(message)
        elif message.startswith(LAYERS):
            self.layers = message
        elif node := PARSING.fullmatch(message):
            self.parsing = (node[1], node[2])
        if self._follow:
            try:
                self._follow(f"{severity.lower().replace('_', ' ')}: {message}")
            except Exception:  # through TensorRT's code it would end the process
                self._follow = None

    def logger(self, trt: ModuleType) -> Any:
        """A trt.ILogger that fills this log. It has to live as long as what is made with it."""
        return make_logger(trt, self.take)
