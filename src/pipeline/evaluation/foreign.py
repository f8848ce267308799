"""Whether the model notices that an image is nothing it knows: out-of-distribution detection.

Test images are compared with foreign ones by two scores: the largest probability (Hendrycks &
Gimpel, A baseline for detecting misclassified and out-of-distribution examples, 2017,
arXiv:1610.02136) and the energy, the logarithm of the summed exponentials of the logits (Liu et
al., Energy-based out-of-distribution detection, 2020, arXiv:2010.03759). The AUROC says how often a
test image looks more familiar than a foreign one. A capsule network has a third score, how well it
draws the image, and an alarm by it (`reconstruction`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.pack import Packed
from pipeline.errors import ConfigurationError
from pipeline.evaluation.bootstrap import Interval, bootstrap
from pipeline.evaluation.reconstruction import FALSE_ALARMS
from pipeline.evaluation.robustness.corruption import Randomness
from pipeline.evaluation.section import Evaluated, Found
from pipeline.evaluation.verdict import Point
from pipeline.evaluation.wording import percent
from pipeline.vision.batches import to_float
from pipeline.vision.metrics import METRICS, Sample

WHERE = "params.yaml: evaluate.foreign.folder"


def max_softmax(logits: Tensor) -> Tensor:
    """(N, K) -> (N,): the largest probability."""
    return logits.double().softmax(dim=1).amax(dim=1)


def energy(logits: Tensor) -> Tensor:
    """(N, K) -> (N,): the negative energy at temperature 1; higher is more familiar."""
    return logits.double().logsumexp(dim=1)


SCORES = {"max_softmax": ("Largest probability", max_softmax), "energy": ("Energy", energy)}
"""A new score is a function above and an entry here."""


def noise_like(images: Tensor, randomness: Randomness) -> Tensor:
    """Noise with each image's mean and spread of every channel, and its amount of detail.

    The phases of the Fourier transform are those of white noise: what is left of an image is how
    strong each frequency is (as in Theiler et al., Testing for nonlinearity in time series: the
    method of surrogate data, 1992).

    Args:
        images: (N, C, H, W) in [0, 1].
        randomness: of these images.

    Returns:
        Like ``images``.
    """
    white = randomness.normal(1, *images.shape[2:]).expand_as(images)
    strength = torch.fft.rfft2(images).abs()
    direction = torch.fft.rfft2(white)
    direction = direction / direction.abs().clamp(min=1e-12)
    changed = torch.fft.irfft2(strength * direction, s=images.shape[2:])
    centre, spread = _moments(images)
    own_centre, own_spread = _moments(changed)
    return ((changed - own_centre) / own_spread.clamp(min=1e-6) * spread + centre).clamp(0.0, 1.0)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True)


def find(evaluated: Evaluated) -> Found:
    """The AUROC of each score, test images against foreign ones."""
    settings = evaluated.params.evaluate.foreign
    positions = evaluated.some_test_images(settings.images)
    known = evaluated.images(positions)
    if settings.folder is None:
        randomness = Randomness(
            evaluated.keys(positions), evaluated.params.evaluate.seed, 0, "foreign"
        )
        foreign, source = noise_like(known, randomness), "noise with the statistics of these images"
    else:
        foreign, source = _packed_images(evaluated, settings.folder, settings.images)
    logits = [evaluated.logits(images) for images in (known, foreign)]
    measured = {
        name: _auroc([score(each) for each in logits], evaluated)
        for name, (_, score) in SCORES.items()
        if name != "energy" or not _are_log_probabilities(logits)
    }
    titles = {name: title for name, (title, _) in SCORES.items()}
    alarm = None
    if detector := evaluated.detector:
        distances = [detector.distances(evaluated.resized(each)) for each in (known, foreign)]
        measured["reconstruction"] = _auroc([-each for each in distances], evaluated)
        titles["reconstruction"] = "Reconstruction"
        alarm = _alarm(detector.threshold, *distances)
    text = _told(measured, titles, source)
    if alarm:
        text += (
            f" By how badly it draws them it flags {percent(alarm['foreign'])} of them, and"
            f" {percent(alarm['known'])} of the test images."
        )
    return Found(
        values={
            "scores": {titles[name]: interval for name, interval in measured.items()},
            "source": source,
            "known": len(known),
            "foreign": len(foreign),
            "alarm": alarm,
        },
        numbers={
            "images": {"known": len(known), "foreign": len(foreign)},
            "auroc": {name: interval.as_json() for name, interval in measured.items()},
            "alarm": alarm,
        },
        points=(Point("Foreign images", text),),
    )


def _are_log_probabilities(logits: list[Tensor]) -> bool:
    """Whether they are a mean's, of several views or an ensemble: their energy is always 0."""
    return all(energy(each).abs().max().item() < 1e-3 for each in logits)


def _told(measured: dict[str, Interval], titles: dict[str, str], source: str) -> str:
    """What the best score makes of the foreign images."""
    best = max(measured, key=lambda name: measured[name].value or 0.0)
    value = measured[best].value
    told = "an undefined share" if value is None else f"{value:.3f}"
    return (
        f"By its {titles[best].lower()} it ranks a test image above {source} with an AUROC of"
        f" {told}; 0.5 is guessing."
    )


def _alarm(threshold: float, known: Tensor, foreign: Tensor) -> dict[str, float]:
    """The threshold and the share of either kind of image that lies beyond it."""
    shares = ((each > threshold).double().mean().item() for each in (known, foreign))
    return {"false_alarms": FALSE_ALARMS, "threshold": threshold} | dict(
        zip(("known", "foreign"), shares, strict=True)
    )


def _auroc(scores: list[Tensor], evaluated: Evaluated) -> Interval:
    known, foreign = (each.double().cpu().numpy() for each in scores)
    joint = np.concatenate([foreign, known])
    targets = np.repeat([0, 1], [len(foreign), len(known)])
    # Any rising function of the score has the same AUROC; a column of probabilities is expected.
    sample = Sample.of(targets, np.stack([-joint, joint], axis=1))
    return bootstrap(sample, {"auroc": METRICS["auroc"]}, evaluated.resampling)["auroc"]


def _packed_images(evaluated: Evaluated, folder: str, limit: int) -> tuple[Tensor, str]:
    """Images of another packed folder, in the form of this one."""
    path = Path(folder)
    if not (path / "packed.json").is_file():
        raise ConfigurationError(
            f"{WHERE}: {folder} holds no packed images; name a folder that the stage 'augment'"
            " wrote, or null for noise"
        )
    other, card = Packed.load(path), evaluated.card
    if (other.image_size, other.channels) != (card.stored_size, card.channels):
        raise ConfigurationError(
            f"{WHERE}: {folder} holds images of {other.image_size} pixels and {other.channels}"
            f" channels, expected {card.stored_size} and {card.channels}; pack them with the same"
            " augment.image_size and augment.channels"
        )
    order = np.argsort(other.keys(), kind="stable")
    stored = np.ascontiguousarray(other.images[np.sort(order[:limit])])
    images = to_float(torch.from_numpy(stored).to(evaluated.device)).contiguous()
    return images, f"images of {folder}"
