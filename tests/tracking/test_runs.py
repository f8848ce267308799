"""What a run is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts import write_json
from pipeline.tracking import Store
from pipeline.tracking.runs import evaluation_metrics, log_metrics


def evaluated(folder: Path, recalls: dict[str, float]) -> Path:
    """A ``metrics.json`` in which each class has this recall."""
    found = {
        label: {
            "precision": {"value": 0.5},
            "recall": {"value": value, "low": value - 0.1, "high": value + 0.1},
        }
        for label, value in recalls.items()
    }
    path = folder / "metrics.json"
    write_json(path, {"per_class": {"test": found}})
    return path


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["正常", "缺陷"], ["正常", "缺陷"]),
        (["ängstlich", "not ok!"], ["ängstlich", "not ok_"]),
        (["a/b", "a?b", "a_b"], ["a_b_2", "a_b_3", "a_b"]),
        (["a_b_2", "a/b", "a_b"], ["a_b_2", "a_b_3", "a_b"]),
        (["a", "a_low"], ["a", "a_low_2"]),
    ],
)
def test_every_class_has_metrics_of_its_own(tmp_path, store: Store, labels, names):
    recalls = {label: 0.2 + 0.1 * i for i, label in enumerate(labels)}
    metrics = evaluation_metrics(evaluated(tmp_path, recalls))
    for label, name in zip(labels, names, strict=True):
        assert metrics[f"test_recall_{name}"] == recalls[label]
        assert metrics[f"test_recall_{name}_low"] == pytest.approx(recalls[label] - 0.1)
    assert len(metrics) == 4 * len(labels)

    run_id = store.client.create_run(store.experiment_id).info.run_id
    log_metrics(store, run_id, metrics)
    assert store.client.get_run(run_id).data.metrics == metrics
