"""Whether engines can run here: TensorRT can be imported and, where there is a GPU, a runtime be made."""

from __future__ import annotations

from trtkit.devices import gpus
from trtkit.flavour import find_tensorrt

found = find_tensorrt()
if gpus():
    logger = found.module.Logger(found.module.Logger.ERROR)
    assert found.module.Runtime(logger), f"{found} makes no runtime"
print(found)
