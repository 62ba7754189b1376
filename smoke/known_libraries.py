"""What is known of libraries beyond their ELF headers: what comes from elsewhere, what is opened by name.

Globs are fnmatch's, over paths below site-packages.
"""

from __future__ import annotations

DRIVER = {
    "libcuda.so.1": "the driver, which the NVIDIA Container Toolkit mounts",
    "libnvidia-ml.so.1": "likewise",
    "libnvcuvid.so.1": "likewise",
}
"""Libraries of no image -> why."""

ELSEWHERE = [
    (
        "nvidia/nvshmem/lib/nvshmem_*",
        ["libmpi.so.*", "liboshmem.so.*", "libpmix.so.*", "libuc[ps].so.*", "libfabric.so.*", "libmlx5.so.*"],
        "NVSHMEM's plugins for one launcher or network each; opened only where a site has that",
    ),
    (
        "nvidia/cufile/lib/libcufile_rdma.so.*",
        ["libmlx5.so.*", "librdmacm.so.*", "libibverbs.so.*"],
        "cuFile's plugin for storage over RDMA; opened only where a site has that",
    ),
]
"""Files, what they need that no image has, and why that is right."""

BEFORE = [
    ("torchvision/*", ["torch/lib/libtorch_python.so"], "torchvision/__init__.py imports torch"),
    ("functorch/*", ["torch/lib/libtorch_python.so"], "functorch/__init__.py imports torch"),
    ("tensorrt_bindings/*", ["tensorrt_libs/*.so*"], "tensorrt_bindings/__init__.py imports tensorrt_libs"),
    (
        "tensorrt_rtx_bindings/*",
        ["tensorrt_rtx_libs/*.so*"],
        "tensorrt_rtx_bindings/__init__.py imports tensorrt_rtx_libs",
    ),
]
"""Files, what is loaded before them, and by whom."""

OPENED = [
    ("nvidia/cudnn/lib/libcudnn.so.*", "libcudnn_ops.so.*", "cuDNN's sublibraries"),
    ("nvidia/cudnn/lib/libcudnn.so.*", "libcudnn_cnn.so.*", "cuDNN's sublibraries"),
    ("nvidia/cudnn/lib/libcudnn.so.*", "libcudnn_adv.so.*", "cuDNN's sublibraries"),
    ("nvidia/cudnn/lib/libcudnn.so.*", "libcudnn_graph.so.*", "cuDNN's sublibraries"),
    ("nvidia/cudnn/lib/libcudnn_graph.so.*", "libcudnn_heuristic.so.*", "cuDNN's sublibraries"),
    ("nvidia/cudnn/lib/libcudnn_graph.so.*", "libcudnn_engines_precompiled.so.*", "cuDNN's sublibraries"),
    (
        "nvidia/cudnn/lib/libcudnn_graph.so.*",
        "libcudnn_engines_runtime_compiled.so.*",
        "cuDNN's sublibraries",
    ),
    ("nvidia/cuda_nvrtc/lib/libnvrtc.so.*", "libnvrtc-builtins.so.*", "NVRTC's own headers and built-ins"),
    ("nvidia/cu13/lib/libnvrtc.so.*", "libnvrtc-builtins.so.*", "NVRTC's own headers and built-ins"),
    (
        "nvidia/nvshmem/lib/libnvshmem_host.so.*",
        "nvshmem_bootstrap_uid.so*",
        "torch starts NVSHMEM by unique ID",
    ),
    ("nvidia/cufile/lib/libcufile.so.*", "libcufile_rdma.so.*", "cuFile over RDMA"),
    ("torch/lib/libtorch_cuda.so", "libtorch_cuda_linalg.so", "torch's linear algebra on GPUs"),
    ("torch/lib/libtorch_cuda.so", "libcaffe2_nvrtc.so", "torch's kernels that are compiled when they run"),
    ("triton/_C/libproton.so", "../backends/nvidia/lib/cupti/libcupti.so", "triton/profiler/profile.py"),
]
"""Files, what they open by name with dlopen(3), found by their own paths, and what for. Sources: the strings
of these libraries; for cuDNN its developer guide, "Sublibraries"."""
