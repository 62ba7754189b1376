"""A library that a real compiler and linker made, slimmed, is loaded by the real loader and works on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.slim.library_factory import code, container
from trtforge.slim.library import slim_library

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = r"""
#include <execinfo.h>
#include <stdint.h>
#include <string.h>

struct wrapper { int magic, version; const unsigned char *code; void *more; };
__asm__(".pushsection .nv_fatbin,\"a\"\n.balign 8\n"
        "fatbinData0: .incbin \"0.fatbin\"\nfatbinData1: .incbin \"1.fatbin\"\n.popsection\n");
extern const unsigned char fatbinData0[] __attribute__((visibility("hidden")));
extern const unsigned char fatbinData1[] __attribute__((visibility("hidden")));
__attribute__((section(".nvFatBinSegment"), used))
static struct wrapper wrappers[2] = {{0x466243b1, 1, fatbinData0, 0}, {0x466243b1, 1, fatbinData1, 0}};

static const char *const words[] = {"behind", "the", "code"};
static int writable[4] = {1, 2, 3, 4};
static int started;
__attribute__((constructor)) static void start(void) { started = 41; }

const unsigned char *code_of(int which) { return wrappers[which].code; }
const char *word(int which) { return words[which]; }
int add(int which, int more) { return writable[which] += more; }
int was_started(void) { return started + 1; }
__attribute__((noinline)) int depth(void) { void *frames[64]; return backtrace(frames, 64); }
__attribute__((noinline)) int deeper(int by) { return by ? deeper(by - 1) + 0 * depth() : depth(); }
"""

PROBE = r"""
import ctypes, hashlib, json, struct, sys
library = ctypes.CDLL(sys.argv[1])
library.code_of.restype, library.word.restype = ctypes.c_void_p, ctypes.c_char_p
def entries(which):
    start = library.code_of(which)
    magic, version, header, size = struct.unpack("<IHHQ", ctypes.string_at(start, 16))
    assert (hex(magic), version) == ("0xba55ed50", 1)
    at, found = start + header, []
    while at < start + header + size:
        _, _, head, payload = struct.unpack("<HHIQ", ctypes.string_at(at, 16))
        (capability,) = struct.unpack("<I", ctypes.string_at(at + 28, 4))
        found.append([capability, hashlib.sha256(ctypes.string_at(at + head, payload)).hexdigest()])
        at += head + payload
    return found
print(json.dumps({
    "code": [entries(0), entries(1)],
    "words": [library.word(i).decode() for i in range(3)],
    "data": [library.add(2, 5), library.add(2, 5)],
    "started": library.was_started(),
    "frames": library.deeper(7) - library.depth(),
}))
"""

LINKED = {
    "pages": [],
    "one-segment": ["-Wl,-z,noseparate-code"],
    "2-MiB-pages": ["-Wl,-z,max-page-size=0x200000"],
    "no-relro": ["-Wl,-z,norelro"],
    "old-hash": ["-Wl,--hash-style=sysv"],
}


def build(folder: Path, options: list[str]) -> Path:
    """A library with two containers, of 6 MB."""
    for which in range(2):
        codes = [code(sm, 1 << 20, str(which)) for sm in ("sm_80", "sm_90", "sm_100")]
        (folder / f"{which}.fatbin").write_bytes(container(*codes))
    (folder / "source.c").write_text(SOURCE)
    command = ["gcc", "-O1", "-fPIC", "-shared", "-funwind-tables", *options, "source.c", "-o", "library.so"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "library.so"


def probe(library: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(library)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("options", LINKED.values(), ids=LINKED)
def test_a_slimmed_library_loads_and_works_as_before(options: list[str], tmp_path: Path) -> None:
    library = build(tmp_path, options)
    done = slim_library(library, tmp_path / "slim.so", ["90"])
    before, after = probe(library), probe(tmp_path / "slim.so")
    assert [[capability for capability, _ in one] for one in before["code"]] == [[80, 90, 100]] * 2
    assert after["code"] == [[entry for entry in one if entry[0] == 90] for one in before["code"]]
    assert {**before, "code": 0} == {**after, "code": 0}
    assert after["frames"] >= 7
    # Two thirds go, but for what lies on pages with something else.
    assert done.saved > (2 << 20 if "2-MiB-pages" not in LINKED or not options else 1 << 20)


def test_binutils_read_it_as_they_read_the_original(tmp_path: Path) -> None:
    library = build(tmp_path, [])
    slim_library(library, tmp_path / "slim.so", ["90"])
    for tool in (["readelf", "-aW"], ["objdump", "-x"], ["nm", "-a"], ["ldd"]):
        done = subprocess.run([*tool, str(tmp_path / "slim.so")], capture_output=True, text=True, check=True)
        assert "arning" not in done.stderr, done.stderr
        assert "rror" not in done.stderr, done.stderr
    disassembly = [
        subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(file)], capture_output=True, text=True, check=True
        ).stdout.split("\n", 3)[3]
        for file in (library, tmp_path / "slim.so")
    ]
    assert disassembly[0] == disassembly[1]
