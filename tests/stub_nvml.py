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
#include <stdlib.h>
#include <unistd.h>
static const char *names[] = {%(names)s 0};
static const int capabilities[] = {%(sms)s 0};
int nvmlInit_v2(void) { %(first)s; return %(init)d; }
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "Driver Not Loaded"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { snprintf(to, size, "%%s", "%(driver)s"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = %(count)d; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetUUID(void *handle, char *to, unsigned size) {
    size_t gpu = (size_t)handle - 1, mig = gpu / 1000;
    snprintf(to, size, mig ? "MIG-%%zu%%zu0-feed" : "GPU-%%zu000-beef", gpu %% 1000, mig);
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
    *mig = (void *)((size_t)handle + 1000 * (index + 1));
    return index < %(migs)d ? 0 : 6;
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


def stub_nvml(
    folder: Path, driver: str, gpus: Sequence[Gpu], init: int = 0, migs: int = 0, first: str = ""
) -> dict[str, str]:
    """Compile libnvidia-ml.so.1 in `folder`; the environment in which a process finds it.

    The UUID of GPU 1 is GPU-1000-beef, and of its second MIG device MIG-120-feed.

    Args:
        init: what nvmlInit answers: an error of NVML. first: what it does before, in C.
        migs: how many MIG devices each GPU has.
    """
    folder.mkdir(exist_ok=True)
    facts = {
        "names": "".join(f'"{gpu.name}", ' for gpu in gpus),
        "sms": "".join(f"{gpu.sm}, " for gpu in gpus),
        "count": len(gpus),
        "driver": driver,
        "init": init,
        "migs": migs,
        "first": first,
    }
    (folder / "nvml.c").write_text(_LIBRARY % facts)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
