"""A stand-in for the driver's library: as much of NVML as is asked, for a machine that a test describes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trtforge.machine import Gpu

NOT_LOADED = 9
"""NVML_ERROR_DRIVER_NOT_LOADED."""

_LIBRARY = r"""
#include <stdio.h>
#include <stddef.h>
static const char *names[] = {%(names)s 0};
static const int capabilities[] = {%(sms)s 0};
int nvmlInitWithFlags(unsigned flags) { return %(init)d; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "Driver Not Loaded"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { snprintf(to, size, "%%s", "%(driver)s"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = %(count)d; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetName(void *handle, char *to, unsigned size) {
    snprintf(to, size, "%%s", names[(size_t)handle - 1]);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = capabilities[(size_t)handle - 1] / 10;
    *minor = capabilities[(size_t)handle - 1] %% 10;
    return 0;
}
"""


def stub_nvml(folder: Path, driver: str, gpus: Sequence[Gpu], init: int = 0) -> dict[str, str]:
    """Compile libnvidia-ml.so.1 in `folder`; the environment in which a process finds it.

    Args:
        init: what nvmlInit answers: an error of NVML.
    """
    folder.mkdir(exist_ok=True)
    facts = {
        "names": "".join(f'"{gpu.name}", ' for gpu in gpus),
        "sms": "".join(f"{gpu.sm}, " for gpu in gpus),
        "count": len(gpus),
        "driver": driver,
        "init": init,
    }
    (folder / "nvml.c").write_text(_LIBRARY % facts)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
