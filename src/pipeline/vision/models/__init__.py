"""The networks a variant can name: own ones (`MODELS`), torchvision's and timm's (`ORIGINS`).

``small_cnn`` is one of ours, ``torchvision:resnet18`` and ``timm:regnetx_002`` are theirs. Their
libraries take seconds to import, so that happens only for a name with their prefix.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigurationError, did_you_mean
from pipeline.vision.models import ensemble as ensembles
from pipeline.vision.models import timm_models, torchvision_models
from pipeline.vision.models.classifier import Classifier, Normalise
from pipeline.vision.models.front import FRONT, build_front
from pipeline.vision.models.table import MODELS
from pipeline.vision.models.undrawn import undrawn

__all__ = [
    "MODELS",
    "ORIGINS",
    "Classifier",
    "build",
    "build_net",
    "check_architecture",
    "check_model",
    "code_files",
    "libraries",
    "list_models",
    "module_file",
    "try_out",
]

_COMMON_ARGUMENTS = {"channels", "num_classes", "image_size"}
_NOT_ARCHITECTURE = {
    *_COMMON_ARGUMENTS,
    *("pretrained", "weights", "weights_backbone", "progress", "in_chans"),
    *("checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "features_only"),
}
"""What the pipeline sets itself, what would load weights, and what gives no logits."""

_FOLDER = Path(__file__).parent


def check_model(name: str, *, where: str) -> None:
    """Check that there is a network ``name``.

    Args:
        name: as a variant's ``model`` names it.
        where: the key in ``params.yaml``, for the message.

    Raises:
        ConfigurationError: there is none; the message has the nearest match.
    """
    origin, colon, rest = name.partition(":")
    if not colon:
        known: Sequence[str] = list(MODELS)
        end = f"own networks: {', '.join(MODELS)}; others are written " + " or ".join(
            f"{prefix}:NAME" for prefix in ORIGINS
        )
    elif origin in ORIGINS:
        known = [f"{origin}:{theirs}" for theirs in ORIGINS[origin].names()]
        end = "'python -m pipeline models' lists all"
    else:
        known = [f"{prefix}:{rest}" for prefix in ORIGINS]
        end = f"prefixes: {', '.join(ORIGINS)}"
    if name not in known or (colon and origin not in ORIGINS):
        hint = did_you_mean(name, known) or ";"
        raise ConfigurationError(f"params.yaml: {where}: '{name}' is not a model{hint} {end}")


def check_architecture(
    name: str, *, image_size: int, architecture: dict[str, Any], where: str
) -> None:
    """Check that one of our own networks can be built so, and take images of such a size.

    No weight is drawn. A library's network shows only when it is built what it can take, so it
    passes. Classes and channels are those of the data, which `build` knows.

    Args:
        name: as a variant's ``model`` names it.
        image_size: side of the images in pixels.
        architecture: arguments of the network itself.
        where: the section of ``params.yaml``, for the message.

    Raises:
        ConfigurationError: it cannot; the message says why.
    """
    check_model(name, where=f"{where}.model")
    if libraries(name, architecture):
        return
    with undrawn(), torch.random.fork_rng(devices=[]):
        build(
            name,
            channels=1,
            num_classes=2,
            image_size=image_size,
            architecture=architecture,
            mean=[0.5],
            std=[0.5],
            where=where,
        )


def list_models(grep: str = "") -> list[str]:
    """All names a variant can give as its ``model`` that contain ``grep``, our own first."""
    names = list(MODELS)
    for prefix, library in ORIGINS.items():
        names += [f"{prefix}:{name}" for name in library.names()]
    return [name for name in names if grep in name]


def module_file(model: str) -> Path:
    """The file of code that `build` gets the network ``model`` from."""
    origin, colon, _ = model.partition(":")
    source: Any = ORIGINS[origin] if colon else MODELS[model]
    return Path(inspect.getfile(source))


def code_files(model: str, architecture: dict[str, Any]) -> list[Path]:
    """The files of this folder that the network ``model`` is made by.

    They are `module_file`, that of its front if ``architecture`` asks for one, those of an
    ensemble's members, and those of this folder that these import, and so on. Other networks' are
    not among them.
    """
    waiting, found = [module_file(each) for each in _networks(model, architecture)], set[Path]()
    if any(key in FRONT for key in architecture):
        waiting.append(_FOLDER / "front.py")
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _imported(file)
    return sorted(found)


def libraries(model: str, architecture: dict[str, Any]) -> list[str]:
    """The keys of `ORIGINS` whose networks the network ``model`` is made of; none of our own."""
    names = (name.partition(":") for name in _networks(model, architecture))
    return [origin for origin, colon, _ in names if colon]


def _networks(model: str, architecture: dict[str, Any]) -> list[str]:
    """The network itself, and that of an ensemble's members."""
    if MODELS.get(model) is not ensembles.ensemble:
        return [model]
    return [model, str(architecture.get("of", ensembles.OF))]


def _imported(file: Path) -> list[Path]:
    """The files of this folder that ``file`` imports anything from."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    start = f"{__name__}."
    inside = (name.removeprefix(start).split(".") for name in names if name.startswith(start))
    paths = (_FOLDER.joinpath(*parts).with_suffix(".py") for parts in inside)
    return [path for path in paths if path.is_file()]


def build(
    model: str,
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    architecture: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    where: str = "model",
) -> Classifier:
    """An untrained network, its weights drawn from torch's global generator.

    Args:
        model: a name that passes `check_model`.
        channels: of the images, 1 or 3.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        architecture: arguments of the network itself, and of what stands before it (`FRONT`).
        mean: per channel, of pixels in [0, 1].
        std: likewise.
        where: what is built, for messages: for example ``variants.resnet18``.

    Raises:
        ConfigurationError: no such network, or it cannot be built so, or not for such images.
    """
    check_model(model, where=where)
    what = f"params.yaml: {where}: '{model}'"
    if architecture:
        what += f" with the architecture {architecture}"
    own = {key: value for key, value in architecture.items() if key not in FRONT}
    _check_keys(model, own, where, also=FRONT)
    for member in _networks(model, own)[1:]:
        inside = f"{where}.architecture"
        check_model(member, where=f"{inside}.of")
        _check_keys(member, own.get("arguments") or {}, f"{inside}.arguments")
    try:
        front, seen = build_front(architecture, channels=channels, image_size=image_size)
        sizes = {"channels": seen, "num_classes": num_classes, "image_size": image_size}
        net = build_net(model, sizes, own)
    except ConfigurationError as error:
        raise ConfigurationError(f"params.yaml: {where}: {error}") from None
    except Exception as error:  # a library's own words on arguments that only it knows
        raise ConfigurationError(
            f"{what} cannot be built for images of {image_size} px: {_one_line(error)}"
        ) from error
    classifier = Classifier(
        Normalise(mean, std), net, channels=channels, num_classes=num_classes, front=front
    )
    try_out(classifier, image_size, what)
    return classifier


def _check_keys(model: str, architecture: object, where: str, *, also: Iterable[str] = ()) -> None:
    """Refuse what is the pipeline's to set, and what is no argument of one of our own networks; a
    library knows its own."""
    if not isinstance(architecture, dict):
        raise ConfigurationError(
            f"params.yaml: {where} is {architecture!r}, expected the arguments of '{model}'"
        )
    for key in architecture:
        if key in _NOT_ARCHITECTURE:
            raise ConfigurationError(
                f"params.yaml: {where}: architecture.{key} is not for '{model}' to choose; "
                "the pipeline sets it, or has no use for it"
            )
    if model not in MODELS:
        return
    arguments = inspect.signature(MODELS[model]).parameters
    known = [*(key for key in arguments if key not in _COMMON_ARGUMENTS), *also]
    for key in architecture:
        if key not in known:
            hint = did_you_mean(key, known) or ";"
            raise ConfigurationError(
                f"params.yaml: {where}: architecture.{key} is not an argument of "
                f"'{model}'{hint} allowed: {', '.join(known)}"
            )


def build_net(model: str, sizes: dict[str, int], architecture: dict[str, Any]) -> nn.Module:
    """The network alone, without what `build` puts around and checks.

    Args:
        model: a name that passes `check_model`.
        sizes: ``channels``, ``num_classes`` and ``image_size``.
        architecture: arguments of the network itself.

    Raises:
        ConfigurationError: one of our own networks cannot be built so; a library raises its own.
    """
    origin, colon, name = model.partition(":")
    if colon:
        net: nn.Module = ORIGINS[origin].build(name, **sizes, architecture=architecture)
        return net
    return MODELS[model](**sizes, **architecture)


def try_out(classifier: Classifier, image_size: int, what: str) -> None:
    """Send one image through, so that what cannot work is refused before anything is trained.

    Raises:
        ConfigurationError: the network fails on such an image, or does not give logits.
    """
    image = torch.zeros(1, classifier.channels, image_size, image_size)
    classifier.eval()
    try:
        with torch.no_grad():
            logits: object = classifier(image)
    except Exception as error:  # layers of any library; whatever they raise is about the image
        raise ConfigurationError(
            f"{what} cannot take {image_size} px images of {classifier.channels} channels: "
            f"{_one_line(error)}"
        ) from error
    finally:
        classifier.train()
    expected = (1, classifier.num_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigurationError(
            f"{what} returns {shape} for one image, expected logits of shape {expected}"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


ORIGINS: dict[str, ModuleType] = {
    "torchvision": torchvision_models,
    "timm": timm_models,
}
"""Libraries of networks: a module with ``names()`` and ``build(name, …)``."""
