"""A stand-in for the driver's library: as much of NVML as `trtkit.devices` asks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from trtkit.devices import Gpu

_LIBRARY = r"""
#include <stdio.h>
#include <string.h>
#include <stddef.h>
static const char *uuids[] = {%(uuids)s 0};
static const char *names[] = {%(names)s 0};
static const int capabilities[] = {%(sms)s 0};
static const unsigned long long memories[] = {%(memories)s 0};
int nvmlInitWithFlags(unsigned flags) { return %(init)d; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "an error of the stub"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { snprintf(to, size, "570.1"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = %(count)d; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (size_t index = 0; uuids[index]; index++)
        if (!strcmp(uuid, uuids[index])) { *handle = (void *)(index + 1); return 0; }
    return 6;
}
int nvmlDeviceGetUUID(void *handle, char *to, unsigned size) {
    snprintf(to, size, "%%s", uuids[(size_t)handle - 1]);
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
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *total_free_used) {
    total_free_used[0] = memories[(size_t)handle - 1];
    total_free_used[2] = total_free_used[0] / 4;
    total_free_used[1] = total_free_used[0] - total_free_used[2];
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *gpu_memory) {
    gpu_memory[0] = 87;
    gpu_memory[1] = 12;
    return %(usage)d;
}
"""


def stub_nvml(folder: Path, gpus: Sequence[Gpu], *, init: int = 0, usage: int = 0) -> dict[str, str]:
    """Compile libnvidia-ml.so.1 in `folder`; the environment in which a process finds it.

    Args:
        init: what nvmlInit answers; usage: what nvmlDeviceGetUtilizationRates does: errors of NVML, or 0.
    """
    facts = {
        "uuids": "".join(f'"{gpu.uuid}", ' for gpu in gpus),
        "names": "".join(f'"{gpu.name}", ' for gpu in gpus),
        "sms": "".join(f"{gpu.sm}, " for gpu in gpus),
        "memories": "".join(f"{gpu.memory}ull, " for gpu in gpus),
        "count": len(gpus),
        "init": init,
        "usage": usage,
    }
    (folder / "nvml.c").write_text(_LIBRARY % facts)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return {"LD_LIBRARY_PATH": str(folder)}
