"""trtforge: tested, locked, small Docker images with TensorRT on a PyTorch-CUDA base."""

__version__ = "0.1.0"
