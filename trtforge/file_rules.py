"""File rules: which files of which wheels an image does without, as matrix.yaml says; and what that makes of
the wheels of a cell.

A wheel's files are left out whole, never changed: NVIDIA's terms allow no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trtforge.errors import MatrixError
from trtforge.layers.cut import Cut, LeftOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trtforge.index.pins import Held


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} is no version specifier (PEP 440)") from error
    return text


Glob = Annotated[str, Field(min_length=1, description="fnmatch's, over a path in the wheel; * matches / too")]
Dropped = Annotated[str, Field(pattern=r"^[^{}]+$")]
Wheels = Annotated[str, Field(pattern=r"^[a-z0-9-]+(\{cuda_major\}[a-z0-9-]*)?$")]


class FileRule(BaseModel):
    """Which files of which wheels are left out of images, and why.

    packages: names of wheels; {cuda_major} stands for that of the cell. versions: those that the rule fits.
    drop: globs of files that go; each must match one. keep: globs of files that stay although `drop` names
        them; {sm} stands for each compute capability of the cell, and for the one whose files that uses.
    gives_back: the variants that have the files all the same.
    saves: what goes with it, of a wheel and on a disk, as measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    packages: list[Wheels] = Field(min_length=1)
    versions: Annotated[str, AfterValidator(_specifier)] = ""
    drop: list[Annotated[Dropped, Glob]] = Field(min_length=1)
    keep: list[Glob] = Field(default_factory=list)
    gives_back: list[str] = Field(default_factory=list)
    because: str
    source: str
    saves: str

    def fits(self, pin: Held, cuda_major: str) -> bool:
        """Whether the rule is about the wheel `pin` of a cell whose CUDA has this major."""
        names = {name.format(cuda_major=cuda_major) for name in self.packages}
        return pin.name in names and SpecifierSet(self.versions).contains(pin.version, prereleases=True)

    def left_out(self, sms: Sequence[str], family: Mapping[str, str]) -> LeftOut:
        """What the rule leaves out where the GPUs are `sms`, some of which use files of another of their
        `family`.

        Raises:
            MatrixError: it keeps files by compute capability, and the image is for no certain ones.
        """
        if not sms and any("{sm}" in glob for glob in self.keep):
            raise MatrixError(
                f"files: {self.id}: an image for every architecture cannot keep files by {{sm}}",
                ("wheels", ", ".join(self.packages)),
                (
                    "next",
                    "let the rule name wheels of the images with TensorRT, which are for one architecture",
                ),
            )
        numbers = list(dict.fromkeys(one for sm in sms for one in (sm, family.get(sm, sm))))
        keep = [text for glob in self.keep for text in _expanded(glob, numbers)]
        return LeftOut(self.id, tuple(self.drop), tuple(dict.fromkeys(keep)))


def cuts(
    rules: Iterable[FileRule],
    pins: Iterable[Held],
    cuda_major: str,
    sms: Sequence[str] = (),
    family: Mapping[str, str] | None = None,
) -> dict[str, Cut]:
    """What the rules leave out of the wheels `pins`, by their name; a wheel that stays whole is not named.

    Args:
        sms: the compute capabilities that the image is for; none: it is for all.
        family: compute capability -> the one whose files it uses, where that is another.

    Raises:
        MatrixError: see `FileRule.left_out`.
    """
    return {
        name: Cut(tuple(rule.left_out(sms, family or {}) for rule in fitting))
        for name, fitting in _fitting(rules, pins, cuda_major)
    }


def given_back(
    rules: Iterable[FileRule],
    pins: Iterable[Held],
    variant: str,
    cuda_major: str,
    sms: Sequence[str] = (),
    family: Mapping[str, str] | None = None,
) -> dict[str, Cut]:
    """What layers of the variant add to wheels in the images below it, by their name: what rules left out
    that give it back to `variant`. For the arguments and errors see `cuts`."""
    found = {}
    for name, fitting in _fitting(rules, pins, cuda_major):
        made = [(rule, rule.left_out(sms, family or {})) for rule in fitting]
        back = tuple(left_out for rule, left_out in made if variant in rule.gives_back)
        if back:
            still = tuple(left_out for rule, left_out in made if variant not in rule.gives_back)
            found[name] = Cut(still, back)
    return found


def _fitting(
    rules: Iterable[FileRule], pins: Iterable[Held], cuda_major: str
) -> Iterator[tuple[str, list[FileRule]]]:
    rules = list(rules)
    for pin in pins:
        if fitting := [rule for rule in rules if rule.fits(pin, cuda_major)]:
            yield pin.name, fitting


def _expanded(glob: str, sms: Sequence[str]) -> list[str]:
    return [glob.replace("{sm}", sm) for sm in sms] if "{sm}" in glob else [glob]
