"""From a PyTorch model to a served TensorRT engine: export, calibrate, build, verify, bench, serve."""

__version__ = "0.1.0"
