"""torch computes the same on the GPU as on the CPU."""

from __future__ import annotations

from typing import Any

from smoke.gpu import torch_on_gpu

NEEDS = ("torch",)


def check(_expected: dict[str, Any]) -> dict[str, Any]:
    torch = torch_on_gpu()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    a, b = torch.randn(256, 256), torch.randn(256, 256)
    image, weight = torch.randn(2, 8, 32, 32), torch.randn(16, 8, 3, 3)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close((a.cuda() @ b.cuda()).cpu(), a @ b, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        conv(image.cuda(), weight.cuda()).cpu(), conv(image, weight), rtol=1e-3, atol=1e-3
    )
    return {"gpu": torch.cuda.get_device_name(0), "cudnn": torch.backends.cudnn.version()}
