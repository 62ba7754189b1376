"""How an Engine hands GPUs to containers: the Container Device Interface, or NVIDIA's runtime.

Sources: Docker API 1.50 (`GET /info`: DiscoveredDevices), `docker run --gpus`, NVIDIA Container Toolkit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.types import DeviceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""What a machine with a usable NVIDIA GPU has (the second: inside WSL)."""


def gpu_request(info: Mapping[str, Any], device_seen: bool) -> DeviceRequest | None:
    """What to ask the Engine for so that a container gets every GPU; None if it has none to give.

    Args:
        info: the Engine's answer to `GET /info`.
        device_seen: is there a GPU on the Engine's machine, as far as one can tell? CDI lists devices itself.
    """
    # Docker 28.3 and newer list what CDI found; older ones have it switched off unless asked for.
    discovered = info.get("DiscoveredDevices") or []
    if any(device.get("ID", "").startswith("nvidia.com/gpu=") for device in discovered):
        return DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
    if device_seen and "nvidia" in (info.get("Runtimes") or {}):
        return DeviceRequest(count=-1, capabilities=[["gpu"]])
    return None


def device_seen(address: str) -> bool:
    """Is there a GPU beside the Engine at `address`? A distant one is taken at its runtime's word."""
    return not address.startswith("unix:") or any(device.exists() for device in DEVICES)
