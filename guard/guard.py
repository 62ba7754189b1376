#!/usr/bin/python3 -ISB
"""The guard: every image's entry point. It compares this machine's GPUs and driver with what the image is for
(image.json beside it), says what does not fit, and becomes the command.

TRTFORGE_GUARD: off (nothing is looked at), warn (what does not fit is said, the command runs), strict (no GPU
does not fit either); unset: what does not fit ends the container with exit code 64. More: docs/guard.md.

It runs before every command, so it imports as little as it can: no `signal`, no `re`, and `json` only once
there is a GPU. Syntax and library are Python 3.8's.

Sources: NVML API reference; CUDA Programming Guide, "CUDA Environment Variables" and "Binary Compatibility";
exit codes of commands: POSIX, Shell Command Language, 2.8.2.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would import enum and all that it needs, a third of the guard's time
import errno
import os
import select
import sys

TYPE_CHECKING = False  # as in `typing`, which would be one more import
if TYPE_CHECKING:
    from typing import Any

MISFIT = 64
"""The exit code of a container whose machine the image is not for (EX_USAGE of sysexits.h)."""

LIMIT_S = 20
"""Seconds that NVML may take: the cold drivers of eight GPUs take several, one that hangs takes for ever."""

PIPE = 65536  # bytes that a pipe holds (pipe(7)): a machine's GPUs, many times over

MODES = ("", "off", "warn", "strict")

INVISIBLE = "no GPU is visible here (docker run --gpus all gives one)"


class Gpu:
    """A GPU: NVML's index, compute capability ("86"), name, its UUID and those of its MIG devices."""

    def __init__(self, index: str, sm: str, name: str, uuids: str) -> None:
        self.index, self.sm, self.name, self.uuids = index, sm, name, uuids.split(",")


class NoGpu(Exception):
    """Why there is no GPU to look at."""


def main(command: list[str]) -> None:
    mode = os.environ.get("TRTFORGE_GUARD", "")
    if mode not in MODES:
        end(MISFIT, f"TRTFORGE_GUARD is {mode!r}, not off, warn or strict; unset, the guard works as usual")
    facts = os.path.join(os.path.dirname(os.path.realpath(__file__)), "image.json")
    if mode != "off" and os.path.exists(facts):  # an image that is for no GPU has none
        try:
            fits = guard(facts, strict=mode == "strict")
        except Exception as error:  # whatever it is: the command is worth more than the guard
            say(f"the guard itself failed ({type(error).__name__}: {error})")
            fits = mode != "strict"
        if not fits and mode != "warn":
            say("TRTFORGE_GUARD=warn runs the command all the same")
            os._exit(MISFIT)
    become(command)


def guard(facts: str, strict: bool) -> bool:
    """Look at this machine and say what is to be said; False: the image that `facts` tells of does not fit.

    Args:
        strict: without a GPU it does not.
    """
    try:
        driver, gpus = ask_apart()
        seen = visible(gpus)
    except NoGpu as reason:
        say(f"{reason}, and TRTFORGE_GUARD=strict asks for one" if strict else str(reason))
        return not strict
    import json

    with open(facts, encoding="utf-8") as file:
        image = json.load(file)
    return driver_fits(driver, image) and gpus_fit(seen, image)


def driver_fits(driver: str, image: dict[str, Any]) -> bool:
    """Whether `driver` is as new as the image needs; says what to do if not."""
    if version(driver) >= version(image["driver"]):
        return True
    older = [ref for oldest, ref in image["for_driver"].items() if version(driver) >= version(oldest)]
    needs = f"this image needs NVIDIA driver {image['driver']} or newer (CUDA {image['cuda']})"
    or_else = f", or pull {older[-1]}" if older else ""
    say(f"{needs}; this machine has {driver}: update the driver{or_else}")
    # As the NVIDIA Container Toolkit reads it: who sets it brings a newer libcuda (forward compatibility).
    return os.environ.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "t", "true")


def gpus_fit(gpus: list[Gpu], image: dict[str, Any]) -> bool:
    """Whether one of `gpus` at least runs the image's code; says which do not, or not code of their own."""
    ours = image["sm"]
    fit = [gpu for gpu in gpus if not ours or runs(gpu.sm, ours)]
    for (sm, name), alike in kinds(gpus).items():
        if not ours or sm in ours:
            continue
        theirs = image["for_sm"].get(sm)
        this = f"this image holds SM {', '.join(ours)}; GPU {', '.join(alike)} ({name}) is SM {sm}"
        if runs(sm, ours):
            say(f"{this}, which runs that too" + (f"; made for it: {theirs}" if theirs else ""))
        else:
            say(f"{this}: " + (f"pull {theirs}" if theirs else "the matrix has no image for that"))
    if len(gpus) > len(fit) > 0:
        keep = ",".join(gpu.uuids[0] for gpu in fit)
        say(f"the command runs; CUDA_VISIBLE_DEVICES={keep} keeps it to what fits")
    return bool(fit)


def kinds(gpus: list[Gpu]) -> dict[tuple[str, str], list[str]]:
    """(SM, name) -> the indices of the GPUs that have both."""
    found: dict[tuple[str, str], list[str]] = {}
    for gpu in gpus:
        found.setdefault((gpu.sm, gpu.name), []).append(gpu.index)
    return found


def runs(sm: str, ours: list[str]) -> bool:
    """Whether a GPU runs machine code of one of `ours`: its own, or an earlier minor of its major."""
    return any(one[:-1] == sm[:-1] and int(one) <= int(sm) for one in ours)


def visible(gpus: list[Gpu]) -> list[Gpu]:
    """Those of `gpus` that CUDA will show to the command: CUDA_VISIBLE_DEVICES lists indices and beginnings
    of UUIDs, and ends at the first that is none.

    Unless told, CUDA counts the fastest GPU first, and NVML by their place on the bus. So where GPUs differ,
    an index tells nothing here, and any of them may be meant.

    Raises:
        NoGpu: none.
    """
    if not gpus:
        raise NoGpu(INVISIBLE)
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return gpus
    known = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(kinds(gpus)) == 1
    seen: list[Gpu] = []
    for word in asked.split(","):
        word = word.strip()
        if word.isdigit():
            found = [gpu for gpu in gpus if gpu.index == str(int(word))]
            found = found if known or not found else gpus
        else:
            found = [gpu for gpu in gpus if word and any(uuid.startswith(word) for uuid in gpu.uuids)]
        if not found:
            break
        seen += [gpu for gpu in found if gpu not in seen]
    if not seen:
        raise NoGpu(f"CUDA_VISIBLE_DEVICES={asked} leaves no GPU visible")
    return seen


def ask_apart() -> tuple[str, list[Gpu]]:
    """The driver's version and the GPUs, from a process of its own: a driver's library that crashes or hangs
    takes only that with it.

    Raises:
        NoGpu: it knows of none, or does not answer.
    """
    answer, ours = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(2, 1)  # stdout is the command's
            os.write(ours, ask_nvml().encode(errors="replace")[:PIPE])
        finally:
            os._exit(0)
    os.close(ours)
    answers = bool(select.select([answer], [], [], LIMIT_S)[0])
    if not answers:
        os.kill(child, _signal.SIGKILL)
    if answers or select.select([answer], [], [], 1)[0]:  # what hangs in the kernel does not even die
        os.waitpid(child, 0)
    if not answers:
        raise NoGpu(f"no GPU can be used: the NVIDIA driver has not answered for {LIMIT_S} s")
    return read_answer(os.read(answer, PIPE).decode())


def read_answer(text: str) -> tuple[str, list[Gpu]]:
    """What `ask_nvml` says, read.

    Raises:
        NoGpu: it says so, or it ended half-way.
    """
    lines = text.splitlines()
    if not lines or lines[-1] != "end":
        raise NoGpu("no GPU can be used: the NVIDIA driver's library crashed")
    word, _, rest = lines[0].partition(" ")
    if word == "none":
        raise NoGpu(rest)
    return rest, [Gpu(*line.split("\t")) for line in lines[1:-1]]


def ask_nvml() -> str:
    """A line `driver VERSION` and one for each GPU that answers (index, SM, name, UUIDs), or a line
    `none WHY`; then `end`."""
    from ctypes import CDLL, byref, c_char_p, c_int, c_void_p, create_string_buffer

    CDLL(None).prctl(1, _signal.SIGKILL)  # PR_SET_PDEATHSIG: not longer than the guard
    try:
        nvml = CDLL("libnvidia-ml.so.1")
    except OSError:
        return f"none {INVISIBLE}\nend"

    def text(function: str, *arguments: object) -> str:
        buffer = create_string_buffer(96)  # NVML_DEVICE_NAME_V2_BUFFER_SIZE, and _UUID_V2_
        failed = getattr(nvml, function)(*arguments, buffer, 96)
        return "" if failed else " ".join(buffer.value.decode(errors="replace").split())

    nvml.nvmlErrorString.restype = c_char_p
    count = c_int()
    code = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(byref(count))
    if code:
        why = (nvml.nvmlErrorString(code) or b"?").decode(errors="replace")
        return f"none no GPU can be used: NVML says {why} (error {code})\nend"
    lines = ["driver " + text("nvmlSystemGetDriverVersion")]
    for index in range(count.value):
        gpu, mig, most, major, minor = c_void_p(), c_void_p(), c_int(), c_int(), c_int()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, byref(gpu)):
            continue
        if nvml.nvmlDeviceGetCudaComputeCapability(gpu, byref(major), byref(minor)):
            continue
        uuids = [text("nvmlDeviceGetUUID", gpu)]
        if hasattr(nvml, "nvmlDeviceGetMaxMigDeviceCount"):  # not before driver 450
            nvml.nvmlDeviceGetMaxMigDeviceCount(gpu, byref(most))
        for number in range(most.value):
            if nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number, byref(mig)) == 0:
                uuids.append(text("nvmlDeviceGetUUID", mig))  # noqa: PERF401
        name = text("nvmlDeviceGetName", gpu)
        lines.append(f"{index}\t{major.value}{minor.value}\t{name}\t{','.join(uuids)}")
    return "\n".join([*lines, "end"])


def version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def become(command: list[str]) -> None:
    """Become `command`, found as by execvp(3), in the state the guard began with; or end as a shell does."""
    if "LC_CTYPE" in os.environ:
        with open("/proc/self/environ", "rb") as started_with:
            if b"\0LC_CTYPE=" not in b"\0" + started_with.read():
                del os.environ["LC_CTYPE"]  # Python sets it where the locale is C (PEP 538)
    for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):  # by Python
        _signal.signal(ignored, _signal.SIG_DFL)
    if not command:
        end(127, "there is no command to run")
    name, failure = command[0], None
    path = os.environ.get("PATH", os.defpath).split(":")
    places = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in path if name]
    for place in places:
        try:
            execute(place, command)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failure = failure or error
    if failure:
        end(126, f"{name}: {failure.strerror}")
    end(127, f"{name or repr(name)}: not found")


def execute(place: str, command: list[str]) -> None:
    """Become `command`, whose program is `place`; a text that names no interpreter is the shell's."""
    try:
        os.execv(place, command)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execv("/bin/sh", ["/bin/sh", place, *command[1:]])


def say(text: str) -> None:
    """One line on stderr; nobody may listen."""
    try:
        os.write(2, b"trtforge: " + " ".join(text.splitlines()).encode(errors="surrogateescape") + b"\n")
    except OSError:
        pass


def end(code: int, text: str) -> None:
    say(text)
    os._exit(code)


if __name__ == "__main__":
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    main(sys.argv[1:])
