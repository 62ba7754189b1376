"""Where wheels go inside an image, and for which Python."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class InstallTarget:
    """A Python environment inside an image; with a wheel's bytes it decides the wheel's layer completely.

    python: the image's Python, "X.Y".
    prefix: absolute path of the environment.
    site_packages: absolute path that purelib and platlib files go to.
    interpreter: absolute path for the first line of scripts.
    uid, gid: owner of every file, so that the image's user can `pip install` beside them.
    directories: those that the image has already with a mode or owner of their own, as (path, mode, uid,
        gid), sorted. A layer has to name the directories above its files, and so would change these.
    """

    python: str
    prefix: str = "/opt/venv"
    site_packages: str = ""
    interpreter: str = ""
    uid: int = 1000
    gid: int = 1000
    directories: tuple[tuple[str, int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.site_packages:
            object.__setattr__(self, "site_packages", f"{self.prefix}/lib/python{self.python}/site-packages")
        if not self.interpreter:
            object.__setattr__(self, "interpreter", f"{self.prefix}/bin/python")

    def facts(self) -> dict[str, Any]:
        """What decides a layer, for its key."""
        return {name: value for name, value in asdict(self).items() if value != ()}
