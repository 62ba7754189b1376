# Rendered by trtforge from images/tensorrt/Dockerfile.j2 for rtx1.7.1.116-pt2.9.1-cu12.1-ampere. Do not edit: change the template.
FROM trtforge/pytorch-cuda:2.9.1-cu12.1-debian12

# tensorrt-rtx-cu12-libs 1.7.1.116, 89 MB, sha256:666666666666
ADD layers/KEY-0.tar.gz /

# bytecode of the large wheels above
ADD layers/KEY-1.tar.gz /

# onnx 1.23.2, 9.0 MB, sha256:999999999999
# without onnx/backend/test/data/*
ADD layers/KEY-2.tar.gz /

# tensorrt-rtx-cu12-bindings 1.7.1.116, 1.0 MB, sha256:777777777777
ADD layers/KEY-3.tar.gz /

# tensorrt-rtx-cu12 1.7.1.116, 0.1 MB, sha256:888888888888
ADD layers/KEY-4.tar.gz /

# where the loader finds the libraries of tensorrt-rtx-cu12-libs
ADD layers/KEY-5.tar.gz /

# trtkit VERSION, SIZE MB, sha256:HASH
ADD layers/KEY-6.tar.gz /

COPY examples/ /opt/trtkit/examples/
COPY opt/ /opt/

ENV TORCH_CUDA_ARCH_LIST="8.0;8.6"
LABEL org.opencontainers.image.title="TensorRT 1.7.1.116 on PyTorch 2.9.1, CUDA 12.1, for ampere" \
      org.opencontainers.image.version="rtx1.7.1.116-pt2.9.1-cu12.1-ampere" \
      io.trtforge.image="tensorrt" \
      io.trtforge.cuda="12.1" \
      io.trtforge.driver="525" \
      io.trtforge.tensorrt="1.7.1.116" \
      io.trtforge.flavour="tensorrt-rtx" \
      io.trtforge.arch="ampere" \
      io.trtforge.sm="80,86" \
      io.trtforge.recipe-key="RECIPE-KEY"
HEALTHCHECK --interval=60s --timeout=10s --retries=3 CMD ["/opt/trtforge/guard", "true"]
