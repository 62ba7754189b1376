"""A wheel's libraries slimmed, as NVIDIA's cuobjdump sees them; it needs no GPU.

    python bench/slim_wheel.py WHEEL --cuobjdump FILE --library MEMBER --sm 80,86 --out FILE

slims the libraries, has cuobjdump list and extract their code before and after, and compares: nothing may be
left but the code of these GPUs, and each cubin must be what it was, byte for byte. readelf must object to
nothing new. cuobjdump comes with CUDA, and as the wheel nvidia-cuda-cuobjdump. The exit code is 1 if anything
differs.

Sources: cuobjdump --help; STO_CUDA_ENTRY marks kernels in a cubin's symbol table (cuda-gdb's elf headers).
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trtforge.slim.elf import Source, read_elf  # noqa: E402
from trtforge.slim.fatbin import read_containers  # noqa: E402
from trtforge.slim.library import slim_library  # noqa: E402

SHT_SYMTAB = 2
STO_CUDA_ENTRY = 0x10


def code_of(library: Path, cuobjdump: Path, sms: list[str]) -> tuple[list[str], list[list[bytes]]]:
    """What cuobjdump lists of a library, as architectures; of each of its containers the cubins for `sms`."""
    with library.open("rb") as file:
        elf = read_elf(Source(file, library.name))
        section = elf.section(".nv_fatbin")
        assert section is not None
        containers = read_containers(elf.source, section)
    with tempfile.TemporaryDirectory(dir=library.parent) as work:
        listing = _run(cuobjdump, "--list-elf", str(library), cwd=Path(work))
        listed = re.findall(r"\.(\d+)\.(sm_\w+)\.cubin", listing)
        wanted = {f"sm_{sm}{suffix}" for sm in sms for suffix in ("", "a", "f")}
        for architecture in {name for _, name in listed} & wanted:
            _run(cuobjdump, "--extract-elf", f".{architecture}.", str(library), cwd=Path(work))
        numbers = iter(listed)
        cubins: list[list[bytes]] = []
        for container in containers:
            cubins.append([])
            for entry in container.entries:
                if entry.kind == "sm":
                    number, architecture = next(numbers)
                    assert architecture == entry.architecture, "cuobjdump and we read another order"
                    if architecture in wanted:
                        (cubin,) = Path(work).glob(f"*.{number}.{architecture}.cubin")
                        cubins[-1].append(cubin.read_bytes())
        assert not list(numbers), "cuobjdump finds more than we do"
    return [architecture for _, architecture in listed], cubins


def _run(program: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def objections(library: Path) -> set[str]:
    """What readelf warns of."""
    text = _run(Path("/usr/bin/readelf"), "--wide", "--all", str(library), cwd=library.parent)
    return {line for line in text.splitlines() if line.startswith("readelf:")}


def kernels_of(cubin: bytes) -> set[str]:
    """The names of a cubin's kernels, from its symbol table (ELF64, little-endian)."""
    (sections_at,) = struct.unpack_from("<Q", cubin, 40)
    size, count = struct.unpack_from("<HH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", cubin, sections_at + size * n) for n in range(count)]
    names = set()
    for _, kind, _, _, offset, length, link, *_ in sections:
        for at in range(offset, offset + length, 24) if kind == SHT_SYMTAB else ():
            name, _, other = struct.unpack_from("<IBB", cubin, at)
            if other & STO_CUDA_ENTRY:
                begin = sections[link][4] + name
                names.add(cubin[begin : cubin.index(b"\0", begin)].decode())
    return names


def compare(wheel: Path, member: str, cuobjdump: Path, sms: list[str]) -> dict[str, Any]:
    """What cuobjdump says of a library of `wheel`, before and after."""
    with tempfile.TemporaryDirectory() as work, zipfile.ZipFile(wheel) as archive:
        whole, slim = Path(archive.extract(member, work)), Path(work, "slim", Path(member).name)
        slim.parent.mkdir()
        slimmed = slim_library(whole, slim, sms)
        listed, before = code_of(whole, cuobjdump, sms)
        left, after = code_of(slim, cuobjdump, sms)
        objects = objections(slim) - objections(whole)
    pairs = list(zip(before, after, strict=True))
    return {
        "library": Path(member).name,
        "bytes before": slimmed.before,
        "bytes after": slimmed.after,
        "containers": len(pairs),
        "listed before": {one: listed.count(one) for one in sorted(set(listed))},
        "listed after": {one: left.count(one) for one in sorted(set(left))},
        "cubins that are the same": sum(len(now) for was, now in pairs if was == now),
        "kernels": sum(len(set().union(*map(kernels_of, cubins))) for cubins in after),
        "containers that differ": [number for number, (was, now) in enumerate(pairs) if was != now],
        "readelf objects": sorted(objects),
    }


def main() -> int:
    """Compare; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--library", action="append", required=True, help="its path in the wheel; again")
    parser.add_argument("--cuobjdump", type=Path, required=True)
    parser.add_argument("--sm", default="90", help="90, or several: 80,86")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    given = parser.parse_args()
    sms, cuobjdump = given.sm.split(","), given.cuobjdump.resolve()
    found = [compare(given.wheel, library, cuobjdump, sms) for library in given.library]
    told = {"wheel": given.wheel.name, "sm": sms, "libraries": found}
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(given.out.read_text(encoding="utf-8"), end="")
    return 1 if any(one["containers that differ"] or one["readelf objects"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
