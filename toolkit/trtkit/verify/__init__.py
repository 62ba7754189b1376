"""Engines and ONNX files against the model they came from: `verify`."""

from trtkit.verify.bisect import BadLayer, Bisection
from trtkit.verify.options import VerifyOptions
from trtkit.verify.report import Check, Row, SubjectReport, VerifyReport
from trtkit.verify.tolerance import TOLERANCES, Tolerance
from trtkit.verify.verification import verify

__all__ = [
    "TOLERANCES",
    "BadLayer",
    "Bisection",
    "Check",
    "Row",
    "SubjectReport",
    "Tolerance",
    "VerifyOptions",
    "VerifyReport",
    "verify",
]
