"""The history of runs, in MLflow: the only part below ``release/`` that knows MLflow.

A run is found by what it holds, the hash of its weights (`WEIGHTS`) or, while a training goes on,
the hash of all that shapes its result (`TRAINING_KEY`); no id is ever written into an output.
MLflow is imported inside functions alone: training and evaluation run where it is not installed.
"""

from __future__ import annotations

from pipeline.tracking.flow_run import finish_parent, start_parent
from pipeline.tracking.mirror import Mirror, mirror
from pipeline.tracking.runs import PARENT_RUN, TRAINING_KEY, WEIGHTS
from pipeline.tracking.store import (
    Store,
    StoreAway,
    available,
    client,
    open_store,
    store_uri,
)

__all__ = [
    "PARENT_RUN",
    "TRAINING_KEY",
    "WEIGHTS",
    "Mirror",
    "Store",
    "StoreAway",
    "available",
    "client",
    "finish_parent",
    "mirror",
    "open_store",
    "start_parent",
    "store_uri",
]
