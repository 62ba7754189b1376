"""What is in a model file: `onnx_inspection` (before and after fusion), `engine_inspection`, `drawing`.

Each is imported by itself: an image that only runs engines has what the second needs, and no more.
"""
