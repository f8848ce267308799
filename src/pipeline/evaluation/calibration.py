"""How honest probabilities are, before and after temperature scaling (`vision.temperature`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.vision.metrics import (
    METRICS,
    Drawn,
    Floats,
    Metric,
    Sample,
    expected_calibration_error,
    ratio,
)
from pipeline.vision.temperature import fit_temperature, log_probabilities, rescale


def maximum_calibration_error(drawn: Drawn) -> Floats:
    """The largest distance of confidence and accuracy in a bin with images (Guo et al. 2017)."""
    images = drawn.total(drawn.sample.bin_columns)
    gaps = np.abs(drawn.total(drawn.sample.calibration_gaps))
    means = ratio(gaps, images)
    highest = np.where(images > 0, means, -1.0).max(axis=-1)
    return np.where(highest >= 0, highest, np.nan)


def brier(drawn: Drawn) -> Floats:
    """Mean squared distance of the probabilities (N, K) from the truth, summed over the classes.

    From 0 to 2 (Brier, Verification of forecasts expressed in terms of probability, 1950); for two
    classes twice what is also called so.
    """
    sample = drawn.sample
    truth = np.arange(sample.num_classes) == sample.targets[:, None]
    distance = ((sample.probabilities - truth) ** 2).sum(axis=1)
    return ratio(drawn.total(distance), drawn.size)


def fit(validation: Sample) -> float:
    """The temperature that the validation images ask for."""
    return fit_temperature(log_probabilities(validation.probabilities), validation.targets)


def calibrated(sample: Sample, temperature: float) -> Sample:
    """``sample`` as the network says it at ``temperature``."""
    return replace(sample, probabilities=rescale(sample.probabilities, temperature))


CALIBRATION: dict[str, Metric] = {
    "ece": Metric("Expected calibration error", expected_calibration_error, higher_is_better=False),
    "mce": Metric("Maximum calibration error", maximum_calibration_error, higher_is_better=False),
    "brier": Metric("Brier score", brier, higher_is_better=False, in_percent=False),
    "log_loss": METRICS["log_loss"],
}
"""By what calibration is judged. A new measure is a function above and a line here."""
