"""What can go wrong, as types with fields; `trtforge.cli` turns them into text, tests assert on the fields.

Exit codes: 1 a build or a smoke test failed, 2 the request is wrong, 3 the environment lacks something.
"""

from __future__ import annotations

import traceback
from typing import Any, ClassVar, Literal


class ForgeError(Exception):
    """An error a person can act on.

    Args:
        problem: one sentence: what was asked and what is wrong with it.
        facts: labelled lines for the reader, in order: ("rule", "..."), ("wheel", "..."), ("next", "...").
            The label "next" says what to do now; every error should have one, unless the problem says it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *facts: tuple[str, str]) -> None:
        super().__init__(problem)
        self.problem = problem
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class again, as exceptions are otherwise: subclasses take other arguments.
        return _revived, (type(self), self.args, self.__dict__)

    def fact(self, label: str) -> str | None:
        """The first line that carries `label`."""
        return next((text for name, text in self.facts if name == label), None)


def _revived(kind: type[ForgeError], arguments: tuple[Any, ...], fields: dict[str, Any]) -> ForgeError:
    """An error that comes from another process."""
    error = kind.__new__(kind, *arguments)
    error.__dict__ |= fields
    return error


def as_forge_error(error: Exception) -> ForgeError:
    """`error` as one a person can act on."""
    if isinstance(error, ForgeError):
        return error
    if isinstance(error, OSError):
        told: ForgeError = EnvironmentLack(
            f"this machine says: {error.strerror or error}",
            *([("at", str(error.filename))] if error.filename else []),
            ("next", "correct that, and run the same command again"),
        )
    else:
        line = traceback.extract_tb(error.__traceback__)[-1:]
        told = BuildError(
            f"trtforge itself failed: {type(error).__name__}: {error}",
            *(("at", f"{one.filename}:{one.lineno}, in {one.name}") for one in line),
            ("next", "report it, with the command that was run"),
        )
    told.__cause__ = error
    return told


class BuildError(ForgeError):
    """A build step failed."""


class UnsafeWheel(BuildError):
    """A wheel's member would land outside its prefix, repeats, overlaps another or lies about itself."""

    def __init__(self, wheel: str, member: str, reason: str) -> None:
        super().__init__(f"unsafe wheel: {reason}", ("wheel", wheel), ("member", member))
        self.wheel, self.member, self.reason = wheel, member, reason


class CorruptWheel(BuildError):
    """A CRC, size or hash differs from what the archive, its RECORD or the lock says."""

    def __init__(self, wheel: str, member: str, reason: str) -> None:
        super().__init__(f"corrupt wheel: {reason}", ("wheel", wheel), ("member", member))
        self.wheel, self.member, self.reason = wheel, member, reason


class HashMismatch(BuildError):
    """A downloaded or built file is not the one the lock names."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{name} is not the file that was locked",
            ("expected", f"sha256:{expected}"),
            ("found", f"sha256:{actual}"),
            ("next", "find out why it changed; if the change is wanted: python build.py lock"),
        )
        self.name, self.expected, self.actual = name, expected, actual


class DamagedFile(HashMismatch):
    """A file in the store is not what it was when it came in; it was dropped."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        super().__init__(name, expected, actual)
        self.problem = f"{name} in the store was damaged, and is dropped"
        again = "run the same command again: it is fetched anew, or made anew"
        self.facts = (*self.facts[:2], ("next", again))


class WrongDigest(HashMismatch):
    """What a registry gave, or says it holds, is not what its digest says."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        super().__init__(name, expected, actual)
        self.problem = f"{name} is not what its digest says"
        self.args = (self.problem,)
        again = "try again; if it stays so, the registry, or a proxy before it, damages what it holds"
        self.facts = (*self.facts[:2], ("next", again))


class ForeignTag(BuildError):
    """A tag that is to move leads to an image that is not ours: somebody else has moved it.

    Args:
        tag: "registry.example/team/tensorrt:cu12.1-ampere". digest: what it leads to.
    """

    def __init__(self, tag: str, digest: str) -> None:
        super().__init__(
            f"{tag} was moved by somebody else, and is left as it is",
            ("found", f"{digest}, which has no record of ours"),
            ("rule", "only tags that lead to our own images are moved"),
            ("next", "remove that tag, or put ours back: python build.py rollback ... --to DAY"),
        )
        self.tag, self.digest = tag, digest


class NotTested(BuildError):
    """An image is not good enough to be published: a test failed, or was not done.

    Args:
        image: what it is called. reasons: check -> why it does not count as passed.
    """

    def __init__(self, image: str, problem: str, reasons: dict[str, str]) -> None:
        super().__init__(
            f"{image} is not published: {problem}",
            *(("check", f"{name}: {reason}") for name, reason in reasons.items()),
            ("state", "the public tags lead where they led before"),
        )
        self.image, self.reasons = image, reasons


class OverBudget(BuildError):
    """An image is larger than its budget in matrix.yaml allows.

    Args:
        image: what it is called.
        over: "compressed" or "on disk" -> (its bytes, the bytes it may have); at least one.
        grown: what grew most since the last published image, or what is largest, in words.
    """

    def __init__(
        self, image: str, over: dict[str, tuple[int, int]], grown: tuple[tuple[str, str], ...]
    ) -> None:
        beyond = [f"{(size - most) / 1e6:,.1f} MB {kind}" for kind, (size, most) in over.items()]
        super().__init__(
            f"{image} is over its budget by {' and '.join(beyond)}",
            *(
                ("budget", f"{most / 1e6:,.1f} MB {kind}; it has {size / 1e6:,.1f} MB")
                for kind, (size, most) in over.items()
            ),
            *grown,
            ("state", "the image is kept, and no public tag leads to it"),
            (
                "next",
                "find what grew: python build.py size; or raise `budgets` in matrix.yaml, if it is worth it",
            ),
        )
        self.image, self.over = image, over


class RequestError(ForgeError):
    """What was asked cannot be: an unknown value, a contradiction, a file that is malformed or stale."""

    exit_code = 2


class MatrixError(RequestError):
    """matrix.yaml does not say something valid; `facts` carry file and line."""


class CompatibilityError(RequestError):
    """No cell of the matrix satisfies the request; `rule` names why."""

    def __init__(self, problem: str, rule: str, *facts: tuple[str, str]) -> None:
        super().__init__(problem, *facts)
        self.rule = rule


class UnfitBase(CompatibilityError):
    """A base that was brought is not what matrix.yaml says of it, or not what the cell needs.

    Args:
        base: its reference.
        misfits: rule -> what is wrong by it, and what was found; at least one.
    """

    def __init__(self, base: str, misfits: dict[str, str]) -> None:
        rule, why = next(iter(misfits.items()))
        super().__init__(
            f"{base} cannot be the base: {why}",
            rule,
            *(("rule", f"{name}: {text}") for name, text in misfits.items()),
            ("next", "name another base in matrix.yaml, or ask for the cell that this one fits"),
            ("more", "docs/base.md#what-is-verified"),
        )
        self.base, self.misfits = base, misfits


class LockError(RequestError):
    """matrix.lock is missing, stale, edited or does not hold what was asked."""


class StaleFileRule(RequestError):
    """A file rule of matrix.yaml does not fit the wheel it is for: the wheel has no such file.

    Args:
        rule: its id. wheel: the file. glob: what matches nothing. problem: that in words.
    """

    def __init__(self, rule: str, wheel: str, glob: str, problem: str) -> None:
        super().__init__(
            f"the file rule {rule} is stale",
            ("wheel", wheel),
            ("because", problem),
            ("rule", "a rule that leaves out nothing hides that the wheel has changed"),
            (
                "next",
                f"look into the wheel (unzip -l), and mend the globs or `versions` of {rule} in matrix.yaml",
            ),
            ("more", "docs/files.md"),
        )
        self.rule, self.wheel, self.glob = rule, wheel, glob


class EnvironmentLack(ForgeError):
    """This machine lacks something (an Engine, disk space, an index that answers)."""

    exit_code = 3


class IndexUnreachable(EnvironmentLack):
    """A package index does not answer, or does not let us in.

    Args:
        index: its name ("default", "nvidia", ...).
        supplies: what was wanted of it: requirements or file names.
        reason: what happened instead, without addresses' credentials.
    """

    def __init__(self, index: str, supplies: tuple[str, ...], reason: str) -> None:
        super().__init__(
            f"the package index {index!r} does not answer",
            ("reason", reason),
            ("needed for", ", ".join(supplies)),
            ("next", "check the network and the index's address, or give a wheelhouse that holds the wheels"),
        )
        self.index, self.supplies, self.reason = index, supplies, reason


class ResolutionError(RequestError):
    """No set of packages satisfies what was asked.

    Args:
        kind: "missing": an index answers and has no such package or version for this Python and platform;
            "conflict": the packages exist and contradict each other; "build": a source distribution that
            had to be asked for its metadata does not build.
        packages: the requirements that are at fault; for "conflict", all that were asked.
        explanation: uv's account.
        advice: what to do now.
    """

    def __init__(
        self,
        kind: Literal["missing", "conflict", "build"],
        packages: tuple[str, ...],
        explanation: str,
        advice: str,
    ) -> None:
        problem = {
            "missing": "no index has " + ", ".join(packages),
            "conflict": "the packages asked for contradict each other",
            "build": "a source distribution does not build: " + ", ".join(packages),
        }[kind]
        super().__init__(problem, ("asked", ", ".join(packages)), ("uv says", explanation), ("next", advice))
        self.kind, self.packages, self.explanation = kind, packages, explanation


class Interrupted(ForgeError):
    """A person pressed Ctrl-C."""

    exit_code = 130  # what shells report for SIGINT: 128 + 2

    def __init__(self) -> None:
        super().__init__("interrupted", ("next", "the store is whole; the same command goes on from here"))
