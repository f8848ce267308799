"""A trained model as a folder: ``weights.safetensors``, ``model.json``, ``history.csv``."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.artifacts import read_json, replacing_folder, require, write_json
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.vision.models import Classifier, build

FORMAT = 2
WEIGHTS = "weights.safetensors"
CARD = "model.json"
HISTORY = "history.csv"


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to build the network again and to know where it comes from."""

    variant: str
    model: str
    architecture: dict[str, Any]
    classes: tuple[str, ...]
    channels: int
    image_size: int
    """Side of what the network sees."""
    stored_size: int
    """Side that images are packed in, ``Packed.image_size``: `decode_for_model` makes such."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data_digest: str
    training_key: str
    seed: int
    parameters: int
    plan: dict[str, Any]
    """How it is computed: at least ``precision`` (float32, bfloat16,
    float16) and ``memory_format``
    (channels_last, contiguous_format)."""
    test_time_augmentation: str = "none"
    """A name of `vision.views.VIEWS`: what a prediction is the mean over."""
    pretrained: str | None = None
    """The digest of the weights that training began with."""
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """The card in ``folder``.

        Raises:
            PipelineError: it is missing, or of a later format than this version writes.
        """
        path = folder / CARD
        try:
            values = read_json(path)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise PipelineError(f"{path}: damaged ({error}); train the variant anew") from error
        if isinstance(values, dict) and values.get("format") == 1:
            values |= {"test_time_augmentation": "none", "pretrained": None, "format": FORMAT}
        expected = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise PipelineError(
                f"{path}: not a model card of format {FORMAT} or older, which this version reads"
            )
        if set(values) != expected:
            raise PipelineError(
                f"{path}: expected the keys {', '.join(sorted(expected))}; these differ: "
                f"{', '.join(sorted(expected ^ set(values)))}"
            )
        for name in ("classes", "mean", "std"):
            values[name] = tuple(values[name])
        return cls(**values)


def save_model(
    folder: Path,
    classifier: Classifier,
    card: ModelCard,
    history: Sequence[Mapping[str, float]],
    *,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write the model to ``folder``, which is replaced whole. Equal models give equal bytes.

    Args:
        folder: of the variant.
        classifier: the trained network, on any device and in any memory format.
        card: its card.
        history: a row per epoch, all with the same keys.
        more: further files, by their paths inside.
    """
    state = classifier.state_dict()
    weights = {name: state[name].detach().cpu().contiguous().clone() for name in _names(classifier)}
    with replacing_folder(folder) as temporary:
        save_file(weights, temporary / WEIGHTS)
        write_json(temporary / CARD, asdict(card))
        with (temporary / HISTORY).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]) if history else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        for name, content in (more or {}).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)


def load_classifier(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[Classifier, ModelCard]:
    """The model in ``folder``, on ``device`` and ready to predict (``eval``).

    torch's global generator is left as it was.

    Raises:
        PipelineError: a file is missing or damaged, or the weights are not the card's network's.
    """
    card = ModelCard.read(folder)
    try:
        with torch.random.fork_rng(devices=[]):
            classifier = build(
                card.model,
                channels=card.channels,
                num_classes=len(card.classes),
                image_size=card.image_size,
                architecture=card.architecture,
                mean=card.mean,
                std=card.std,
            )
    except ConfigurationError as error:
        reason = str(error).removeprefix("params.yaml: ")
        raise PipelineError(f"{folder / CARD}: the network cannot be rebuilt: {reason}") from error
    _load_weights(classifier, require(folder / WEIGHTS))
    classifier.views = card.test_time_augmentation
    classifier.eval().to(device).to(memory_format=getattr(torch, card.plan["memory_format"]))
    return classifier, card


def _load_weights(classifier: Classifier, path: Path) -> None:
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PipelineError(
            f"{path}: damaged or cut short ({error}); run 'dvc checkout' or train the variant anew"
        ) from error
    state, expected = classifier.state_dict(), _names(classifier)
    wrong = [f"{name} is missing" for name in expected if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in expected]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(state[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != state[name].shape
    ]
    if wrong:
        raise PipelineError(
            f"{path}: not the weights of the network in {CARD}: {'; '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        )
    for name in expected:
        state[name].copy_(weights[name])


def _names(net: nn.Module) -> list[str]:
    """The state's names, a tensor that has several under its first: it is stored once."""
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in net.state_dict().items():
        seen.setdefault(_identity(name, tensor), name)
    return sorted(seen.values())


def _identity(name: str, tensor: Tensor) -> tuple[Any, ...]:
    if tensor.numel() == 0:
        return (name,)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
