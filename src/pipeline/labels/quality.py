"""How far each label is to be trusted: confident learning on out-of-fold probabilities.

Northcutt, Jiang & Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021,
in cleanlab's implementation. An image counts as confidently of a class where its probability
reaches the mean that the images labelled so have. Of the images with label i that are confidently
of any class, the share that is of class j estimates how many with that label truly are of class j.
Of each label as many are flagged as by that are of other classes: those of the lowest probability.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from pipeline.vision.metrics import Floats, Sample, accuracy, balanced_accuracy, finite, log_loss


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """N labels of K classes, judged."""

    sample: Sample
    """The labels given, as targets, and the out-of-fold probabilities."""
    quality: Floats
    """(N,), 0 to 1: the normalised margin, half of 1 + p(label) - p(likeliest other class)."""
    issue: NDArray[np.bool_]
    """(N,): flagged as doubtful; the likeliest class then is not the label."""
    joint: NDArray[np.int64]
    """(K, K): how many images are estimated to have label i and to be of class j. Rows add up to
    the images with that label."""
    thresholds: Floats
    """(K,): from this probability on an image counts as confidently of the class."""

    @property
    def suggested(self) -> NDArray[np.int64]:
        """(N,): the likeliest class, which may be the one given."""
        return self.sample.predicted

    @property
    def p_given(self) -> Floats:
        """(N,): the label's own probability, called self-confidence."""
        probabilities, targets = self.sample.probabilities, self.sample.targets
        return np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]

    @property
    def p_suggested(self) -> Floats:
        return self.sample.confidence

    @property
    def order(self) -> NDArray[np.int64]:
        """(N,): the rows by doubt, flagged ones first, each part by the label's probability."""
        return np.lexsort((np.arange(len(self.quality)), self.quality, self.p_given, ~self.issue))

    @property
    def noise(self) -> float:
        """The share of all labels that is estimated to be wrong."""
        return 1.0 - float(self.joint.trace()) / max(int(self.joint.sum()), 1)

    def pairs(self) -> list[Pair]:
        """The pairs of classes that labels are estimated to be mixed up in, most frequent first."""
        rows = self.joint.sum(axis=1)
        counts = np.argwhere((self.joint > 0) & ~np.eye(len(self.joint), dtype=bool))
        found = [
            Pair(
                given=int(i),
                actual=int(j),
                images=int(self.joint[i, j]),
                share=float(self.joint[i, j] / rows[i]),
                flagged=int(
                    (self.issue & (self.sample.targets == i) & (self.suggested == j)).sum()
                ),
            )
            for i, j in counts
        ]
        return sorted(found, key=lambda pair: (-pair.images, pair.given, pair.actual))

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        drawn = self.sample.drawn()
        return {
            "images": len(self.sample),
            "issues": int(self.issue.sum()),
            "estimated_noise": round(self.noise, 6),
            "out_of_fold": {
                "accuracy": finite(accuracy(drawn)),
                "balanced_accuracy": finite(balanced_accuracy(drawn)),
                "log_loss": finite(log_loss(drawn)),
            },
            "thresholds": {
                name: finite(value) if (self.sample.targets == k).any() else None
                for k, (name, value) in enumerate(zip(classes, self.thresholds, strict=True))
            },
            "joint": {
                name: dict(zip(classes, row, strict=True))
                for name, row in zip(classes, self.joint.tolist(), strict=True)
            },
            "pairs": [
                {
                    "given": classes[pair.given],
                    "actual": classes[pair.actual],
                    "images": pair.images,
                    "share": round(pair.share, 6),
                    "flagged": pair.flagged,
                }
                for pair in self.pairs()
            ],
        }


@dataclass(frozen=True)
class Pair:
    """Images whose label is ``given``, and which are estimated to be of class ``actual``."""

    given: int
    actual: int
    images: int
    share: float
    """Of the images with that label."""
    flagged: int


def measure_quality(targets: NDArray[np.int64], probabilities: Floats) -> LabelQuality:
    """Judge the labels ``targets`` (N,) by out-of-fold ``probabilities`` (N, K)."""
    joint = compute_confident_joint(targets, probabilities, calibrate=True)
    with warnings.catch_warnings():
        # Of classes with one image or none, which cannot be judged.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        # In this process: forking one that has trained may hang.
        issue = find_label_issues(
            targets,
            probabilities,
            confident_joint=joint,
            filter_by="prune_by_class",
            n_jobs=1,
        )
    sample = Sample.of(targets, probabilities)
    return LabelQuality(
        sample=sample,
        quality=get_label_quality_scores(targets, probabilities, method="normalized_margin"),
        issue=np.asarray(issue, dtype=bool) & ~sample.correct,
        joint=np.asarray(joint, dtype=np.int64),
        thresholds=np.asarray(get_confident_thresholds(targets, probabilities), dtype=np.float64),
    )
