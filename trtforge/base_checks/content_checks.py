"""The checks of what is in an image: from what was found to what it means for a base. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from trtforge.base_checks.check import Check
from trtforge.base_checks.image_checks import require_cuda
from trtforge.rules import broken_rules
from trtforge.terminal import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.base import Base
    from trtforge.base_checks.candidate import Candidate
    from trtforge.base_checks.carried import Carried
    from trtforge.base_checks.survey import Survey
    from trtforge.matrix import Matrix

_PYTHON = "`python` starts, in a version of the matrix, and installs scripts to `bin` below its prefix"


def python_absent(why: str, python3: str) -> Check:
    """That `python` does not start: all that would have been asked of it is unknown."""
    remedy = "install Python and torch in it, with `python` on PATH"
    if python3:
        why, remedy = (
            f"{why}; `python3` is {python3}",
            'add to its Dockerfile: RUN ln -s "$(command -v python3)" /usr/local/bin/python',
        )
    return Check("base-python", "failed", why, _PYTHON, remedy)


def content_checks(candidate: Candidate, base: Base, survey: Survey, matrix: Matrix) -> Iterator[Check]:
    """What is in it."""
    yield _python(base, matrix)
    yield _marker(survey)
    yield _glibc(base, matrix)
    yield _torch(base, matrix)
    yield _cuda(base, matrix)
    yield require_cuda(candidate, base)
    yield _twice(survey)
    yield _library_path(survey)
    yield _driver_files(survey)
    yield _tensorrt(base, survey)
    yield _headers(base)
    yield _entrypoint(candidate, survey)


def cells_check(carried: Carried) -> Check:
    """Whether any cell could stand on it."""
    rule = "a cell of the matrix can stand on it"
    count, others = len(carried.cells), sum(carried.against.values())
    if count:
        return Check("base-cells", "passed", f"{count} of {count + others} cells", rule)
    remedy = "the rules against them are told below; most begin with what failed above"
    return Check("base-cells", "failed", f"none of {others} cells", rule, remedy)


def _python(base: Base, matrix: Matrix) -> Check:
    found, version = f"{base.python}, {base.interpreter}, packages in {base.purelib}", base.target.python
    if version not in matrix.axes.python:
        remedy = f"take Python {' or '.join(sorted(matrix.axes.python))}, or add {version} to axes: python:"
        return Check("base-python", "failed", found, _PYTHON, remedy)
    if base.scripts != f"{base.prefix}/bin":
        remedy = "put another `python` first on PATH: a venv, or one whose pip installs below its prefix"
        return Check("base-python", "failed", f"{found}, scripts in {base.scripts}", _PYTHON, remedy)
    return Check("base-python", "passed", found, _PYTHON)


def _marker(survey: Survey) -> Check:
    rule = "pip may install in it (no EXTERNALLY-MANAGED marker, PEP 668)"
    if not survey.externally_managed:
        return Check("base-pip", "passed", "no marker", rule)
    remedy = (
        "wheels are added all the same; for RUN pip install on top, use a venv or --break-system-packages"
    )
    return Check("base-pip", "warning", survey.externally_managed, rule, remedy)


def _glibc(base: Base, matrix: Matrix) -> Check:
    rules = [rule for rule in matrix.rules if set(rule.require) == {"glibc"} and not rule.when]
    told = "; ".join(f"glibc {rule.require['glibc']}: {rule.because}" for rule in rules)
    broken = broken_rules(rules, {"glibc": base.glibc or "0"})
    if base.glibc and not broken:
        return Check("base-glibc", "passed", base.glibc, told)
    remedy = "take a newer distribution; of Alpine and other musl systems, one with glibc"
    return Check("base-glibc", "failed", base.glibc or "another C library", told, remedy)


def _torch(base: Base, matrix: Matrix) -> Check:
    releases = " or ".join(matrix.axes.torch)
    rule = f"torch can be imported, in a release of the matrix: {releases}"
    if not base.torch:
        return Check(
            "base-torch", "failed", base.no_torch, rule, f"pip install torch=={next(iter(matrix.axes.torch))}"
        )
    if base.torch.partition("+")[0] in matrix.axes.torch:
        return Check("base-torch", "passed", base.torch, rule)
    remedy = f"take torch {releases}, or add {base.torch.partition('+')[0]} to axes: torch:"
    return Check("base-torch", "failed", base.torch, rule, remedy)


def _cuda(base: Base, matrix: Matrix) -> Check:
    rule = "its torch is built for a CUDA major of the matrix, and drivers of that major run it"
    if not base.torch:
        return Check("base-cuda", "skipped", "no torch", rule)
    if not base.cuda:
        return Check("base-cuda", "failed", "torch for CPUs only", rule, "take a build of torch for CUDA")
    floors = {
        one.driver for name, one in matrix.axes.cuda.items() if name.split(".")[0] == base.cuda.split(".")[0]
    }
    if not floors:
        return Check(
            "base-cuda", "failed", base.cuda, rule, f"the matrix has CUDA {', '.join(matrix.axes.cuda)}"
        )
    return Check("base-cuda", "passed", f"{base.cuda}: driver {min(floors, key=Version)} or newer", rule)


def _twice(survey: Survey) -> Check:
    rule = "CUDA libraries are there once: torch's wheels bring their own"
    both = sorted(survey.system.keys() & survey.wheels.keys())
    system, wheels = sum(survey.system[name] for name in both), sum(survey.wheels[name] for name in both)
    if not both:
        return Check("base-duplicates", "passed", _where(survey), rule)
    found = (
        f"{', '.join(both)}: {megabytes(system)} of the system's and {megabytes(wheels)} in Python packages"
    )
    static = f" (static ones: {megabytes(survey.static)})" if survey.static else ""
    remedy = "begin with a plain distribution instead of nvidia/cuda, or with its `base` flavour"
    return Check("base-duplicates", "warning", found + static, rule, remedy)


def _where(survey: Survey) -> str:
    places = {"the system's": survey.system, "Python packages": survey.wheels}
    found = [f"{megabytes(sum(sizes.values()))} in {where}" for where, sizes in places.items() if sizes]
    return ", ".join(found) or "none"


def _library_path(survey: Survey) -> Check:
    rule = "LD_LIBRARY_PATH hides none of the libraries that torch brings"
    if not survey.shadowing and not survey.loaded:
        return Check("base-library-path", "passed", "nothing hidden", rule)
    parts = [f"{folder} has {_some(names)} too" for folder, names in survey.shadowing.items()]
    if survey.loaded:
        parts.append(f"torch loaded {_some(survey.loaded)} instead of its own")
    return Check(
        "base-library-path", "warning", "; ".join(parts), rule, "take that folder out of LD_LIBRARY_PATH"
    )


def _driver_files(survey: Survey) -> Check:
    rule = "it holds no driver: the host's is mounted into containers"
    if not survey.driver:
        return Check("base-driver", "passed", "none", rule)
    return Check(
        "base-driver",
        "warning",
        _some(survey.driver),
        rule,
        "remove the driver's packages (libcuda, nvidia-compute)",
    )


def _tensorrt(base: Base, survey: Survey) -> Check:
    rule = "it has no TensorRT: that is what is added"
    packages = [f"{name} {version}" for name, version in base.packages.items() if name.startswith("tensorrt")]
    if not packages and not survey.tensorrt:
        return Check("base-tensorrt", "passed", "none", rule)
    remedy = "remove it; cells of the same flavour are refused, others would have two"
    return Check("base-tensorrt", "warning", _some([*packages, *survey.tensorrt]), rule, remedy)


def _headers(base: Base) -> Check:
    rule = "cuda_runtime.h and nvcc are there, for those who compile in the image"
    if base.headers and base.nvcc:
        return Check("base-headers", "passed", f"{base.headers}, {base.nvcc}", rule)
    lacks = [name for name, path in (("cuda_runtime.h", base.headers), ("nvcc", base.nvcc)) if not path]
    return Check(
        "base-headers",
        "warning",
        f"no {', no '.join(lacks)}",
        rule,
        "needed to compile CUDA; else nothing to do",
    )


def _entrypoint(candidate: Candidate, survey: Survey) -> Check:
    rule = "its ENTRYPOINT, which stays, runs the command that it is given"
    told = [
        f"{name} {candidate.settings[name]}" for name in ("Entrypoint", "Cmd") if candidate.settings.get(name)
    ]
    found = ", ".join(told) or "none"
    if survey.hands_over:
        return Check("base-entrypoint", "passed", found, rule)
    return Check(
        "base-entrypoint",
        "warning",
        f"{found}: `python -c ...` did not run",
        rule,
        'end its script with exec "$@"',
    )


def _some(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
