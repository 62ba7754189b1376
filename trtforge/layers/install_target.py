"""Where wheels go inside an image, and for which Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstallTarget:
    """A Python environment inside an image; with a wheel's bytes it decides the wheel's layer completely.

    python: the image's Python, "X.Y".
    prefix: absolute path of the environment.
    site_packages: absolute path that purelib and platlib files go to.
    interpreter: absolute path for the first line of scripts.
    uid, gid: owner of every file, so that the image's user can `pip install` beside them.
    """

    python: str
    prefix: str = "/opt/venv"
    site_packages: str = ""
    interpreter: str = ""
    uid: int = 1000
    gid: int = 1000

    def __post_init__(self) -> None:
        if not self.site_packages:
            object.__setattr__(self, "site_packages", f"{self.prefix}/lib/python{self.python}/site-packages")
        if not self.interpreter:
            object.__setattr__(self, "interpreter", f"{self.prefix}/bin/python")
