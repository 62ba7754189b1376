"""torch has code for every GPU of the cell. Needs no GPU, unlike torch.cuda.get_arch_list()."""

from __future__ import annotations

import importlib
from typing import Any

from smoke.arch import runs_on

NEEDS = ("torch", "sm")


def check(expected: dict[str, Any]) -> dict[str, Any]:
    flags = importlib.import_module("torch")._C._cuda_getArchFlags()
    assert flags, "torch has no GPU code at all"
    code = {sm: runs_on(sm, flags.split()) for sm in expected["sm"]}
    missing = [sm for sm in expected["sm"] if code[sm] is None]
    assert not missing, "torch has no code for SM {}, only {}".format(", ".join(missing), flags)
    return code
