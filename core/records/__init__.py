"""The typed records that everything else passes around, and what a long task reports to.

Pydantic models, frozen, each with a schema version where it is stored; one module an area, all names here.
Knows nothing of how they are stored, shown or computed.
"""

from core.records.base import (
    ENDED_STATES,
    LIVE_STATES,
    SPLITS,
    JobState,
    Method,
    Overflow,
    Quantisation,
    Record,
    Split,
    Stored,
    Task,
    new_id,
    now,
)
from core.records.data import Dataset, Step, Version
from core.records.evaluation import Arm, Evaluation, EvaluationSpec, Passages
from core.records.jobs import Conversation, Job, Progress, Reporter, SilentReporter, Spent, Turn
from core.records.measurements import CodeSpec, JudgeSpec, Measurement, TextSpec
from core.records.models import GenerationSettings, ModelRef, NamedEndpoint, Template
from core.records.training import DatasetUse, Run, TrainSpec

__all__ = [
    "ENDED_STATES",
    "LIVE_STATES",
    "SPLITS",
    "Arm",
    "CodeSpec",
    "Conversation",
    "Dataset",
    "DatasetUse",
    "Evaluation",
    "EvaluationSpec",
    "GenerationSettings",
    "Job",
    "JobState",
    "JudgeSpec",
    "Measurement",
    "Method",
    "ModelRef",
    "NamedEndpoint",
    "Overflow",
    "Passages",
    "Progress",
    "Quantisation",
    "Record",
    "Reporter",
    "Run",
    "SilentReporter",
    "Spent",
    "Split",
    "Step",
    "Stored",
    "Task",
    "Template",
    "TextSpec",
    "TrainSpec",
    "Turn",
    "Version",
    "new_id",
    "now",
]
