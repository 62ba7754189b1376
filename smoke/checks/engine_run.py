"""An engine built by this image runs on the GPU and computes what torch computes, at every batch size."""

from __future__ import annotations

from typing import Any

from smoke.gpu import gpu_sm, refused, torch_on_gpu
from smoke.sample_engine import BATCHES, CHANNELS, SIZE, build, tensorrt_and_log, weights

NEEDS = ("tensorrt", "sm", "packages", "torch")
TIMEOUT = 600


def check(expected: dict[str, Any]) -> dict[str, Any]:
    torch = torch_on_gpu()
    trt, log = tensorrt_and_log(expected)
    sm = gpu_sm(torch)
    rtx = expected["tensorrt"]["flavour"] == "rtx"
    furthest = {}
    for precision in ("float32", "float16"):
        try:
            # An engine for SM 80 runs on none but its like; where RTX has no such target, let it choose.
            plan = build(
                trt, log, precision, sm if rtx and hasattr(trt.ComputeCapability, "SM" + sm) else None
            )
        except AssertionError as error:
            raise refused(sm, expected, str(error)) from error
        runtime = trt.Runtime(log)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise refused(sm, expected, "the engine is refused: " + "; ".join(log.errors))
        furthest[precision] = max(_difference(torch, engine, precision, batch) for batch in BATCHES)
    return dict(furthest, gpu=torch.cuda.get_device_name(0), sm=sm)


def _difference(torch: Any, engine: Any, precision: str, batch: int) -> float:
    """The largest difference between the engine's and torch's result."""
    torch.manual_seed(batch)
    kind = getattr(torch, precision)
    x = torch.rand(batch, CHANNELS[0], SIZE, SIZE, dtype=kind, device="cuda")
    y = torch.full((batch, CHANNELS[2], SIZE, SIZE), float("nan"), dtype=kind, device="cuda")
    context = engine.create_execution_context()
    context.set_input_shape("x", tuple(x.shape))
    context.set_tensor_address("x", x.data_ptr())
    context.set_tensor_address("y", y.data_ptr())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    assert context.execute_async_v3(stream.cuda_stream), f"the engine does not start at batch {batch}"
    stream.synchronize()
    conv, kernels = torch.nn.functional.conv2d, [torch.from_numpy(w).cuda() for w in weights(precision)]
    wanted = conv(conv(x, kernels[0], padding=1).relu(), kernels[1], padding=1)
    torch.testing.assert_close(y, wanted, rtol=2e-2, atol=2e-2)  # FP16, and TF32 in FP32 convolutions
    return float((y - wanted).abs().max())
