"""INT8: ranges measured on samples, Q/DQ pairs in the ONNX file, and what that costs in accuracy."""

from trtkit.calibrate.calibration import calibrate
from trtkit.calibrate.options import CalibrateOptions, Method
from trtkit.calibrate.report import AgreementTooLow, CalibrationReport, LayerLoss, OutputAccuracy
from trtkit.calibrate.trt_calibrator import calibrate_in_tensorrt, trt_calibrator

__all__ = [
    "AgreementTooLow",
    "CalibrateOptions",
    "CalibrationReport",
    "LayerLoss",
    "Method",
    "OutputAccuracy",
    "calibrate",
    "calibrate_in_tensorrt",
    "trt_calibrator",
]
