"""What a library can do on a GPU, as its own symbols tell: PyTorch's operators, or else its kernels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trtforge.slim.elf import SHT_DYNSYM, SHT_SYMTAB, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trtforge.slim.elf import Elf

_OPERATOR = re.compile(rb"_ZN2at4cuda(\d+)(\w+)")
"""PyTorch declares what CUDA does of each operator as a function `at::cuda::<operator>` of tensors."""
_TENSOR = b"6Tensor"
_STUB = re.compile(rb"__device_stub__Z(\w+)")
"""What nvcc calls the host's side of a kernel; then follows the kernel's mangled name."""
_PART = re.compile(rb"L?(\d+)")


def operators(elf: Elf) -> list[str]:
    """Names, sorted; empty where the library's symbols do not tell.

    Raises:
        NotUnderstood: a symbol table is malformed.
    """
    names = set(_defined(elf))
    found = {name for mangled in names if (name := _operator(mangled))}
    return sorted(found or {_kernel(stub[1]) for mangled in names if (stub := _STUB.search(mangled))})


def _defined(elf: Elf) -> Iterator[bytes]:
    for table in elf.sections:
        if table.type in (SHT_SYMTAB, SHT_DYNSYM):
            strings = elf.names(table)
            yield from (text_at(strings, one.name) for one in elf.symbols(table) if one.section)


def _operator(mangled: bytes) -> str | None:
    match = _OPERATOR.match(mangled)
    if match is None:
        return None
    name, rest = match[2][: int(match[1])], match[2][int(match[1]) :]
    return name.decode("ascii", "replace") if rest.startswith(b"E") and _TENSOR in rest else None


def _kernel(mangled: bytes) -> str:
    """The last part of a mangled, possibly nested name (Itanium C++ ABI, 5.1.2)."""
    rest, found = mangled.removeprefix(b"N"), mangled
    while match := _PART.match(rest):
        start = match.end()
        found, rest = rest[start : start + int(match[1])], rest[start + int(match[1]) :]
    return found.decode("ascii", "replace")
