"""What else a base image holds, as JSON on the last line of stdout. Runs in the image, with its `python`.

Only its standard library is there for certain, in Python 3.8 or newer. `survey.py` reads the answer.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
from pathlib import Path

CUDA = re.compile(
    r"lib(cublas|cublasLt|cudart|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt|nccl|nvJitLink|"
    r"nvjpeg|nvrtc|nvshmem|npp)[a-zA-Z_0-9]*(-[0-9a-f]+)?\.(so|a)\b"
)
"""A file of a CUDA library; its family. torch's own wheels before 2.0 have a hash in the name."""

TENSORRT = re.compile(r"lib(nvinfer|tensorrt_rtx)[a-z_0-9]*\.so\b")
DRIVER = re.compile(r"lib(cuda|nvidia-ml|nvidia-ptxjitcompiler)\.so\.")

SYSTEM = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib")
"""Where the system's packages and installers put libraries, besides /usr/local/cuda*."""


def main() -> None:
    paths = {name: Path(path).resolve() for name, path in sysconfig.get_paths().items()}
    wheels = [paths["purelib"] / "torch" / "lib", *paths["purelib"].glob("nvidia/**/lib*")]
    trees = [path for path in Path("/usr/local").glob("cuda*") if path.is_dir()]
    folders = [*map(Path, SYSTEM), *paths["data"].glob("lib"), *paths["data"].glob("targets/*/lib")]
    folders += [Path(folder) for tree in trees for folder, _, _ in os.walk(str(tree))]
    marker = paths["stdlib"] / "EXTERNALLY-MANAGED"
    marked = sys.prefix == sys.base_prefix and marker.exists()  # pip leaves the system alone, not a venv
    system, own = files(folders), files(wheels)
    names = {Path(path).name for path in files(wheels, links=True)}
    answer = {
        "system": families(system),
        "wheels": families(own),
        "static": sum(size for path, size in system.items() if path.endswith(".a")),
        "tensorrt": sorted(path for path in {**system, **own} if TENSORRT.match(Path(path).name)),
        "driver": sorted(path for path in system if is_driver(path)),
        "shadowing": shadowing(names, wheels),
        "externally_managed": str(marker) if marked else "",
        "loaded": loaded(names, wheels),
    }
    print(json.dumps(answer, sort_keys=True))


def files(folders: list[Path], links: bool = False) -> dict[str, int]:
    """Path -> bytes of the libraries that lie right in these folders, each file once."""
    found = {}
    seen = set()
    for folder in sorted({folder.resolve() for folder in folders if folder.is_dir()}):
        for entry in os.scandir(str(folder)):
            status = entry.stat(follow_symlinks=False)
            if links or (entry.is_file(follow_symlinks=False) and status.st_ino not in seen):
                found[entry.path] = status.st_size
                seen.add(status.st_ino)
    return found


def families(found: dict[str, int]) -> dict[str, int]:
    """CUDA library -> bytes of its files."""
    sizes: dict[str, int] = {}
    for path, size in found.items():
        match = CUDA.match(Path(path).name)
        if match:
            sizes[match.group(1)] = sizes.get(match.group(1), 0) + size
    return sizes


def is_driver(path: str) -> bool:
    """A library of the driver itself, which the host's replaces; stubs and compat are no such."""
    return bool(DRIVER.match(Path(path).name)) and not {"stubs", "compat"} & set(path.split("/"))


def shadowing(own: set[str], wheels: list[Path]) -> dict[str, list[str]]:
    """Folder of LD_LIBRARY_PATH -> the libraries in it that torch has too."""
    named = [Path(name) for name in os.environ.get("LD_LIBRARY_PATH", "").split(":") if name]
    others = [
        path for path in dict.fromkeys(named) if path.is_dir() and path.resolve() not in resolved(wheels)
    ]
    both = {str(path): sorted(own & {entry.name for entry in path.iterdir()}) for path in others}
    return {path: names for path, names in both.items() if names}


def loaded(own: set[str], wheels: list[Path]) -> list[str]:
    """Libraries that torch has, and that were loaded from elsewhere when it was imported."""
    try:
        __import__("torch")
    except Exception:
        return []  # why is told by `base_probe.py`
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    paths = {Path(line.split(None, 5)[5]) for line in maps.splitlines() if "/lib" in line}
    return sorted(
        str(path) for path in paths if path.name in own and path.parent.resolve() not in resolved(wheels)
    )


def resolved(folders: list[Path]) -> set[Path]:
    return {folder.resolve() for folder in folders}


main()
