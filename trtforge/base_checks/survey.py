"""A look around in an image: libraries that are there twice or hide others, and how containers start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from trtforge.errors import BuildError

if TYPE_CHECKING:
    from trtforge.engine.engine import Engine


class Survey(BaseModel):
    """What was found. Sizes in bytes.

    system, wheels: CUDA library ("cublas") -> size of its files, of the system's or of Python packages.
    static: size of the system's static libraries. tensorrt: files of TensorRT. driver: files of a driver.
    shadowing: folder of LD_LIBRARY_PATH -> libraries in it that torch has too.
    loaded: libraries of torch's that were loaded from elsewhere. externally_managed: PEP 668's marker, or "".
    hands_over: whether its ENTRYPOINT runs the command that is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: dict[str, int] = {}
    wheels: dict[str, int] = {}
    static: int = 0
    tensorrt: tuple[str, ...] = ()
    driver: tuple[str, ...] = ()
    shadowing: dict[str, tuple[str, ...]] = {}
    loaded: tuple[str, ...] = ()
    externally_managed: str = ""
    hands_over: bool = True


def survey_image(engine: Engine, name: str) -> Survey:
    """Look around in the image `name`, whose `python` starts: in containers without network.

    Raises:
        BuildError: Python in it gave no answer.
    """
    probe = Path(__file__).with_name("survey_probe.py").read_text(encoding="utf-8")
    run = engine.run(name, ["-c", probe], entrypoint=["python"])
    try:
        found = Survey.model_validate(json.loads(run.stdout.strip().rpartition("\n")[2]))
    except ValueError as error:  # pydantic's are, too
        raise BuildError(
            f"{name} could not be examined: Python in it gave no answer",
            ("exit code", str(run.exit_code)),
            *(("output", line) for line in run.stderr.splitlines()[-10:]),
        ) from error
    return found.model_copy(update={"hands_over": _hands_over(engine, name)})


def python3_of(engine: Engine, name: str) -> str:
    """The version that `python3` says of itself, in an image without `python`; "" if that is not there."""
    try:
        run = engine.run(name, ["-c", "import sys; print(sys.version.split()[0])"], entrypoint=["python3"])
    except BuildError:
        return ""
    return run.stdout.strip() if run.exit_code == 0 else ""


def _hands_over(engine: Engine, name: str) -> bool:
    said = "handed over"
    try:
        return said in engine.run(name, ["python", "-c", f"print({said!r})"], timeout_s=60).stdout
    except BuildError:
        return False
