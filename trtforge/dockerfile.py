"""A rendered Dockerfile, read back: the instructions in order, each with its line.

Source: Dockerfile reference. Reading is done by dockerfile-parse; this module only names what it found.
"""

from __future__ import annotations

import io
import json
import shlex
from collections import defaultdict
from dataclasses import dataclass
from string import Template
from typing import IO, TYPE_CHECKING, cast

from dockerfile_parse import DockerfileParser

from trtforge.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, what follows it, and its line, from 1."""

    line: int
    name: str
    value: str

    def words(self) -> list[str]:
        """The value as words, as a shell splits them.

        Raises:
            RequestError: a quote is not closed.
        """
        try:
            return shlex.split(self.value)
        except ValueError as error:
            raise self.refused(f"cannot be read: {error}") from error

    def pairs(self, env: Mapping[str, str]) -> dict[str, str]:
        """The value as KEY=VALUE pairs (ENV, LABEL), with `$NAME` replaced from `env` as Docker does."""
        pairs = {}
        for word in self.words():
            key, equals, value = word.partition("=")
            if not equals:
                raise self.refused("is not of the form KEY=VALUE")
            pairs[key] = Template(value).substitute(defaultdict(str, env))
        return pairs

    def argv(self) -> list[str]:
        """The value as a command in its exec form, a JSON list (ENTRYPOINT, CMD)."""
        try:
            argv = json.loads(self.value)
        except ValueError:
            argv = None
        if not (isinstance(argv, list) and all(isinstance(word, str) for word in argv)):
            raise self.refused('is not in exec form: ["command", "argument"]')
        return argv

    def refused(self, reason: str) -> RequestError:
        """An error about this instruction."""
        return RequestError(
            f"Dockerfile line {self.line}: {self.name} {reason}",
            ("line", f"{self.name} {self.value}"),
            ("next", "change the template in images/, or build with --builder docker"),
        )


def read_dockerfile(text: str) -> list[Instruction]:
    """The instructions of `text`, comments left out."""
    # The stubs ask for text; the parser reads bytes.
    parser = DockerfileParser(fileobj=cast("IO[str]", io.BytesIO(text.encode())))
    return [
        Instruction(found["startline"] + 1, found["instruction"], found["value"])
        for found in parser.structure
        if found["instruction"] != "COMMENT"
    ]
