"""What can go wrong, as types with fields; `trtkit.cli` and `trtkit.serve` turn them into text and JSON.

Exit codes: 1 the work failed (an export, a build, a check, a budget), 2 the request is wrong, 3 this machine
lacks something.
"""

from __future__ import annotations

from typing import ClassVar


class TrtkitError(Exception):
    """An error a person can act on.

    Args:
        problem: one sentence: what was asked and what is wrong with it.
        facts: labelled lines for the reader, in order: ("node", "..."), ("because", "..."), ("next", "...").
            The label "next" says what to do now; every error should have one, unless the problem says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *facts: tuple[str, str]) -> None:
        super().__init__(problem)
        self.problem = problem
        self.facts = facts

    def fact(self, label: str) -> str | None:
        """The first line that carries `label`."""
        return next((text for name, text in self.facts if name == label), None)

    def text(self) -> str:
        """The error as the terminal shows it, without the exit code."""
        return "\n".join([f"error: {self.problem}", *(f"  {name:<9} {text}" for name, text in self.facts)])


class RequestError(TrtkitError):
    """What was asked for cannot be: a wrong option, shape, file or model name."""

    exit_code = 2


class EnvironmentLack(TrtkitError):
    """This machine lacks something: a GPU, a package, TensorRT, room."""

    exit_code = 3


class WorkFailed(TrtkitError):
    """The request is right and everything is here, but the work did not succeed."""
