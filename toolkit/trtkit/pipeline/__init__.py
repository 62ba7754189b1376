"""export -> calibrate -> build -> verify -> bench as one job that can be broken off and gone on with.

A YAML file says what is wanted (`spec`). Each step knows what decides its result (`steps`); one whose inputs
are what they were, and whose files are still there, is not done again (`state`). At the end the budgets of
the file are held against what was measured (`budgets`).
"""

from trtkit.pipeline.report import BudgetResult, PipelineReport, StepResult
from trtkit.pipeline.run import run_pipeline
from trtkit.pipeline.spec import PipelineSpec, read_spec

__all__ = ["BudgetResult", "PipelineReport", "PipelineSpec", "StepResult", "read_spec", "run_pipeline"]
