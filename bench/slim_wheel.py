"""A wheel's libraries slimmed, as NVIDIA's own programs see them: `python bench/slim_wheel.py`.

`bench/slim_gpu.py` compares the PyTorch that is installed beside a GPU with a slimmed one. This is about any
other wheel, in two steps:

    python bench/slim_wheel.py compare WHEEL --cuobjdump FILE --library torch/lib/libtorch_cuda.so --out DIR

slims the libraries, has cuobjdump list and extract their code before and after, and compares: nothing may be
left but the code of these GPUs, and each cubin must be what it was, byte for byte. It needs no GPU. DIR gets
compared.json, and zip files of at most --limit MB with the code as it is left, and beside it the names of the
kernels in the original.

    python bench/slim_wheel.py load DIR/*.zip --out OUT

gives each fatbin container to a GPU's driver and compares the kernels that it finds with these names. Of as
many of the smallest containers as fit into one zip file it loads the original too, and compares each kernel's
registers, shared, local and constant memory. OUT gets loaded.json. The exit code is 1 if anything differs.

Sources: cuobjdump's --help; CUDA Driver API, modules "Library Management" and "Execution Control"; in the
symbol table of a cubin, STO_CUDA_ENTRY marks kernels (CUDA Binary Utilities; cuda-gdb's elf headers).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trtforge.slim.elf import Source, read_elf  # noqa: E402
from trtforge.slim.fatbin import read_containers  # noqa: E402
from trtforge.slim.library import slim_library  # noqa: E402

KERNEL = 0x10
"""STO_CUDA_ENTRY, in a symbol's st_other."""
ATTRIBUTES = {"shared": 1, "constants": 2, "local": 3, "registers": 4, "binary": 6}
"""CUfunction_attribute: what is asked of each kernel."""


@dataclass(frozen=True)
class Code:
    """A fatbin container: its bytes, and its machine code as cuobjdump extracts it."""

    data: bytes
    cubins: tuple[bytes, ...]


def code_of(library: Path, cuobjdump: Path, sms: list[str], work: Path) -> tuple[list[str], list[Code]]:
    """What cuobjdump lists of a library, as architectures; and its containers with the code for `sms`."""
    with library.open("rb") as file:
        elf = read_elf(Source(file, library.name))
        section = elf.section(".nv_fatbin")
        assert section is not None
        found = read_containers(elf.source, section)
        data = [_read(file, one.offset, one.size) for one in found]
    listed = re.findall(r"\.(\d+)\.(sm_\w+)\.cubin", _run(cuobjdump, "--list-elf", str(library), cwd=work))
    numbers = iter(listed)
    wanted = {f"sm_{sm}{suffix}" for sm in sms for suffix in ("", "a", "f")}
    for architecture in {name for _, name in listed} & wanted:
        _run(cuobjdump, "--extract-elf", f".{architecture}.", str(library), cwd=work)
    codes = []
    for one, content in zip(found, data, strict=True):
        cubins = []
        for entry in one.entries:
            if entry.kind == "sm":
                number, architecture = next(numbers)
                assert architecture == entry.architecture, "cuobjdump and we read another order"
                if architecture in wanted:
                    cubins.append(next(work.glob(f"*.{number}.{architecture}.cubin")).read_bytes())
        codes.append(Code(content, tuple(cubins)))
    assert not list(numbers), "cuobjdump finds more than we do"
    return [architecture for _, architecture in listed], codes


def _read(file: Any, offset: int, size: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(size)
    return data


def _run(program: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


def kernels_of(cubin: bytes) -> list[str]:
    """The names of a cubin's kernels, from its symbol table (ELF64, little-endian)."""
    shoff, = struct.unpack_from("<Q", cubin, 40)  # fmt: skip
    size, count = struct.unpack_from("<HH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, shoff + size * n) for n in range(count)]
    names = []
    for section in sections:
        if section[1] == 2:  # SHT_SYMTAB
            strings = sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], 24):
                name, _, other = struct.unpack_from("<IBB", cubin, at)
                if other & KERNEL:
                    begin = strings + name
                    names.append(cubin[begin : cubin.index(b"\0", begin)].decode())
    return sorted(names)


def compare(
    wheel: Path, libraries: list[str], cuobjdump: Path, sms: list[str], limit: int, out: Path
) -> dict[str, Any]:
    """What cuobjdump says before and after; writes the zip files."""
    told: dict[str, Any] = {"wheel": wheel.name, "sm": sms, "libraries": {}, "differ": []}
    pairs: list[tuple[str, Code, Code]] = []
    for member in libraries:
        name = Path(member).name
        with tempfile.TemporaryDirectory(dir=out) as work, zipfile.ZipFile(wheel) as archive:
            whole, slim = Path(archive.extract(member, work)), Path(work, name)
            slimmed = slim_library(whole, slim, sms)
            before_folder, after_folder = Path(work, "before"), Path(work, "after")
            before_folder.mkdir()
            after_folder.mkdir()
            listed, before = code_of(whole, cuobjdump, sms, before_folder)
            left, after = code_of(slim, cuobjdump, sms, after_folder)
            readelf = _run(Path("/usr/bin/readelf"), "--wide", "--segments", "--sections", str(slim), cwd=out)
        assert "Warning" not in readelf
        same = [b.cubins == a.cubins and bool(a.cubins) for b, a in zip(before, after, strict=True)]
        told["differ"] += [f"{name}/{n}" for n, each in enumerate(same) if not each]
        told["libraries"][name] = {
            "bytes before": slimmed.before,
            "bytes after": slimmed.after,
            "containers": len(before),
            "listed before": {one: listed.count(one) for one in sorted(set(listed))},
            "listed after": {one: left.count(one) for one in sorted(set(left))},
            "cubins that are the same": sum(
                len(code.cubins) for code, each in zip(after, same, strict=True) if each
            ),
            "kernels": sum(len(set().union(*map(kernels_of, code.cubins))) for code in after),
        }
        pairs += [(f"{name}/{n:04}", b, a) for n, (b, a) in enumerate(zip(before, after, strict=True))]
    _pack(pairs, limit, out)
    return told


def _pack(pairs: list[tuple[str, Code, Code]], limit: int, out: Path) -> None:
    files: list[list[tuple[str, bytes]]] = [[]]
    room = limit
    for name, before, after in pairs:
        if room < len(after.data):
            files.append([])
            room = limit
        room -= len(after.data)
        names = json.dumps([kernels_of(cubin) for cubin in before.cubins]).encode()
        files[-1] += [(f"after/{name}", after.data), (f"kernels/{name}", names)]
    room, both = limit, []
    for name, before, after in sorted(pairs, key=lambda pair: len(pair[1].data)):
        room -= len(before.data) + len(after.data)
        if room < 0:
            break
        both += [(f"before/{name}", before.data), (f"after/{name}", after.data)]
    for file, items in {"pairs": both, **{f"slim-{n}": one for n, one in enumerate(files)}}.items():
        with zipfile.ZipFile(out / f"{file}.zip", "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in items:
                made.writestr(name, data)


class Driver:
    """A GPU's driver, with a context on its first device."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", 0)
        self._device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def name(self) -> str:
        """What the GPU is called."""
        text = ctypes.create_string_buffer(100)
        self._call("cuDeviceGetName", text, 100, self._device)
        return text.value.decode()

    def kernels(self, image: bytes) -> dict[str, dict[str, int]]:
        """The kernels that the driver finds in a fatbin container, and what it says of each."""
        library, count = ctypes.c_void_p(), ctypes.c_uint()
        self._call("cuLibraryLoadData", ctypes.byref(library), image, None, None, 0, None, None, 0)
        try:
            self._call("cuLibraryGetKernelCount", ctypes.byref(count), library)
            kernels = (ctypes.c_void_p * count.value)()
            self._call("cuLibraryEnumerateKernels", kernels, count, library)
            return dict(self._told(ctypes.c_void_p(kernel)) for kernel in kernels)
        finally:
            self._call("cuLibraryUnload", library)

    def _told(self, kernel: ctypes.c_void_p) -> tuple[str, dict[str, int]]:
        name, value = ctypes.c_char_p(), ctypes.c_int()
        self._call("cuKernelGetName", ctypes.byref(name), kernel)
        told = {}
        for label, attribute in ATTRIBUTES.items():
            self._call("cuKernelGetAttribute", ctypes.byref(value), attribute, kernel, self._device)
            told[label] = value.value
        assert name.value is not None
        return name.value.decode(), told

    def _call(self, function: str, *arguments: object) -> None:
        if code := getattr(self._cuda, function)(*arguments):
            raise OSError(f"{function} answered {code}")


def load(files: list[Path]) -> dict[str, Any]:
    """What the driver found, and where that is not what it should."""
    driver = Driver()
    told: dict[str, Any] = {
        "gpu": driver.name(),
        "containers": 0,
        "kernels": 0,
        "pairs": 0,
        "kernels in pairs": 0,
    }
    differ: dict[str, str] = {}
    for file in files:
        with zipfile.ZipFile(file) as archive:
            for after in [name for name in archive.namelist() if name.startswith("after/")]:
                name = after.removeprefix("after/")
                try:
                    found = driver.kernels(archive.read(after))
                    if f"before/{name}" in archive.namelist():
                        same = found == driver.kernels(archive.read(f"before/{name}"))
                        told["pairs"] += 1
                        told["kernels in pairs"] += len(found)
                    else:
                        same = sorted(found) in json.loads(archive.read(f"kernels/{name}"))
                        told["containers"] += 1
                        told["kernels"] += len(found)
                    if not same:
                        differ[name] = "other kernels than in the original"
                except OSError as error:
                    differ[name] = str(error)
    return told | {"differ": differ}


def main() -> int:
    """Compare, or load; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("wheel", type=Path)
    comparing.add_argument("--library", action="append", required=True, help="its path in the wheel; again")
    comparing.add_argument("--cuobjdump", type=Path, required=True)
    comparing.add_argument("--sm", default="90", help="90, or several: 80,86")
    comparing.add_argument("--limit", type=int, default=45, help="MB of one zip file")
    loading = verbs.add_parser("load")
    loading.add_argument("files", type=Path, nargs="+")
    for each in (comparing, loading):
        each.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.verb == "compare":
        limit, sms = given.limit * 10**6, given.sm.split(",")
        told = compare(given.wheel, given.library, given.cuobjdump.resolve(), sms, limit, given.out)
    else:
        told = load(given.files)
    text = json.dumps(told, indent=1) + "\n"
    (given.out / ("compared.json" if given.verb == "compare" else "loaded.json")).write_text(
        text, encoding="utf-8"
    )
    print(text, end="")
    return 1 if told["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
