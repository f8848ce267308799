"""``params.yaml``, read in one place into frozen models.

Nothing has a default here: every value a user may tune stands in ``params.yaml``. A variant is
written as its model and the keys of ``train`` it sets anew; `load` gives it all of them.
"""

from pipeline.params.augmentation import AugmentParams, Policy, PreviewParams
from pipeline.params.data import (
    IngestParams,
    LabelRule,
    LimitParams,
    Ratios,
    ScanParams,
    SplitParams,
    TableParams,
    ValidationParams,
    WeightRule,
)
from pipeline.params.evaluation import (
    AttackParams,
    CompareParams,
    DecisionParams,
    EvaluateParams,
    ExplainParams,
    ForeignParams,
    LabelsParams,
    RegisterParams,
    SomeImages,
)
from pipeline.params.flow import FlowParams, Ports, Schedules
from pipeline.params.reading import json_schema, load
from pipeline.params.sections import Params
from pipeline.params.training import (
    AutoencoderParams,
    PretrainingParams,
    RBMParams,
    ResizingParams,
    TrainParams,
    VariantParams,
)

__all__ = [
    "AttackParams",
    "AugmentParams",
    "AutoencoderParams",
    "CompareParams",
    "DecisionParams",
    "EvaluateParams",
    "ExplainParams",
    "FlowParams",
    "ForeignParams",
    "IngestParams",
    "LabelRule",
    "LabelsParams",
    "LimitParams",
    "Params",
    "Policy",
    "Ports",
    "PretrainingParams",
    "PreviewParams",
    "RBMParams",
    "Ratios",
    "RegisterParams",
    "ResizingParams",
    "ScanParams",
    "Schedules",
    "SomeImages",
    "SplitParams",
    "TableParams",
    "TrainParams",
    "ValidationParams",
    "VariantParams",
    "WeightRule",
    "json_schema",
    "load",
]
