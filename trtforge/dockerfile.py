"""A rendered Dockerfile, read back: the instructions in order, each with its line.

Source: Dockerfile reference. Reading is done by dockerfile-parse; this module only names what it found.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections import defaultdict
from dataclasses import dataclass, replace
from string import Template
from typing import IO, TYPE_CHECKING, Any, cast

from dockerfile_parse import DockerfileParser

from trtforge.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping


_PORT = re.compile(r"[1-9][0-9]{0,4}(/(tcp|udp|sctp))?")

_NUMBER = "([1-9][0-9]*)"

_HEALTH_OPTIONS = {
    "--interval": ("Interval", f"{_NUMBER}s", 10**9),
    "--timeout": ("Timeout", f"{_NUMBER}s", 10**9),
    "--start-period": ("StartPeriod", f"{_NUMBER}s", 10**9),
    "--retries": ("Retries", _NUMBER, 1),
}
"""Option of HEALTHCHECK -> its name in a configuration, how its value is written, and its unit there."""


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

    def ports(self) -> list[str]:
        """The value as ports, each with its protocol (EXPOSE)."""
        ports = self.words()
        if not ports or not all(_PORT.fullmatch(port) for port in ports):
            raise self.refused("is not of the form 8000 or 8000/udp")
        return [port if "/" in port else f"{port}/tcp" for port in ports]

    def health_check(self) -> dict[str, Any]:
        """The value as a health check, `--interval=30s CMD ["command"]`, as an image configuration holds it:
        durations in nanoseconds (Docker image specification 1.2)."""
        options, command, argv = self.value.partition("CMD")
        settings: dict[str, Any] = {}
        for option in options.split():
            name, _, value = option.partition("=")
            key, form, unit = _HEALTH_OPTIONS.get(name, ("", "", 0))
            if not key:
                raise self.refused(f"has an option that is not known: {option}")
            if key in settings or not (found := re.fullmatch(form, value)):
                raise self.refused(f"has {option}, which is not {name}={form.replace(_NUMBER, '30')}, once")
            settings[key] = int(found[1]) * unit
        test = replace(self, value=argv.strip()).argv() if command else []
        if not test:
            raise self.refused("is not of the form --interval=30s --retries=3 CMD [...]")
        return settings | {"Test": ["CMD", *test]}

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
