"""What of a wheel's files a layer holds: all, all but some, or only those that a layer below left out.

A wheel's files are taken whole or not at all. Only its own libraries may be slimmed (`sm`), and only where
its licence lets them be changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from trtforge.errors import StaleFileRule
from trtforge.slim.library import FORMAT as SLIM_FORMAT

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class LeftOut:
    """What one file rule leaves out of a wheel.

    Globs are fnmatch's, over the path in the archive: `*` matches slashes too.

    rule: its id. drop: globs of what goes; each must match. keep: globs of what stays although `drop` names
        it; if there are any, one must match.
    """

    rule: str
    drop: tuple[str, ...]
    keep: tuple[str, ...] = ()

    def names(self, member: str) -> bool:
        """Whether the rule is about `member`."""
        return _any(self.drop, member) and not _any(self.keep, member)

    def check(self, wheel: str, members: Collection[str]) -> None:
        """See that the rule still fits the wheel named `wheel`.

        Raises:
            StaleFileRule: a glob of what goes matches nothing, or none of what stays does.
        """
        for glob in self.drop:
            if not any(fnmatchcase(member, glob) for member in members):
                raise StaleFileRule(self.rule, wheel, glob, f"drop: {glob} matches no file in it")
        if self.keep and not any(_any(self.keep, member) for member in members):
            globs = ", ".join(self.keep)
            raise StaleFileRule(self.rule, wheel, globs, f"keep: {globs} matches no file in it")

    def facts(self) -> list[list[str]]:
        """What decides a layer, for its key; the rule's name does not."""
        return [list(self.drop), list(self.keep)]


@dataclass(frozen=True)
class Cut:
    """What of a wheel's files a layer holds; by default all, as they are.

    left_out: what an image with this layer lacks.
    gives_back: what a layer below left out and this one holds; it holds nothing else then, but for a RECORD
        that names all that is there now.
    libraries: globs of the wheel's own libraries that are slimmed; each must match.
    sm: the compute capabilities whose machine code these keep.
    """

    left_out: tuple[LeftOut, ...] = ()
    gives_back: tuple[LeftOut, ...] = ()
    libraries: tuple[str, ...] = ()
    sm: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything of the wheel is not as it is."""
        return self != WHOLE

    def installs(self, member: str) -> bool:
        """Whether `member` is in an image with this layer, here or in a layer below."""
        return not any(rule.names(member) for rule in self.left_out)

    def holds(self, member: str) -> bool:
        """Whether `member`, which is in the image, is in this layer."""
        return not self.gives_back or any(rule.names(member) for rule in self.gives_back)

    def check(self, wheel: str, members: Collection[str]) -> None:
        """See that all rules still fit the wheel named `wheel`.

        Raises:
            StaleFileRule: one does not.
        """
        for rule in (*self.left_out, *self.gives_back):
            rule.check(wheel, members)
        for glob in self.libraries:
            if not any(fnmatchcase(member, glob) for member in members):
                raise StaleFileRule("slim", wheel, glob, f"{glob} matches no file in it")

    def slims(self, member: str) -> bool:
        """Whether `member` is one of the libraries that are slimmed."""
        return _any(self.libraries, member)

    def files(self) -> Cut:
        """The cut without what it changes inside of files."""
        return replace(self, libraries=(), sm=())

    def facts(self) -> dict[str, Any]:
        """What decides a layer, for its key: nothing where the wheel is whole."""
        told: dict[str, Any] = {
            "left_out": [rule.facts() for rule in self.left_out],
            "gives_back": [rule.facts() for rule in self.gives_back],
            "libraries": list(self.libraries),
            "sm": list(self.sm),
        }
        told |= {"slim": SLIM_FORMAT} if self.sm else {}
        return {name: value for name, value in told.items() if value}


WHOLE = Cut()
"""The wheel as it is."""


def _any(globs: tuple[str, ...], member: str) -> bool:
    return any(fnmatchcase(member, glob) for glob in globs)
