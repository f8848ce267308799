"""Networks that begin with weights learned elsewhere: by a library's name for them, or from a file.

The first convolution is adapted to the number of channels, and the head stays new where it is for
other classes. Mean and standard deviation stay those of the project's own data, as everywhere: the
first layers meet images scaled like those they were trained on, if not exactly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pipeline.console import logger
from pipeline.errors import ConfigurationError, PipelineError, did_you_mean
from pipeline.vision.models import ORIGINS, Classifier
from pipeline.vision.models.layers import first_layer, head_layers

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which a file of PyTorch's may hold the weights beside other things."""
PREFIXES = ("net.", "module.")
"""What stands before every name in our own weights, and in those saved from a parallel wrapper."""

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Pretrained:
    """Weights by the names that the network's library gives them."""

    source: str
    """What ``params.yaml`` calls them."""
    weights: Mapping[str, Tensor]

    @property
    def digest(self) -> str:
        """SHA-256 over names and values, whatever file they came in."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.weights.items()):
            found.update(json.dumps([name, str(tensor.dtype), *tensor.shape]).encode())
            found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    @torch.no_grad()
    def copy_to(self, classifier: Classifier, *, where: str) -> None:
        """Give ``classifier`` these weights; a head for other classes, or for none, stays new.

        Raises:
            ConfigurationError: they are another network's; the message lists what does not fit.
        """
        state, given = classifier.net.state_dict(), dict(self.weights)
        first = f"{first_layer(classifier.net)}.weight"
        if first in state and first in given:
            given[first] = adapt_channels(given[first], state[first].shape[1])
        heads = tuple(f"{name}." for name in head_layers(classifier.net))
        new = [name for name in state if name.startswith(heads) and not _fits(name, given, state)]
        wanted = [name for name in state if name not in new]
        missing = [f"{name} is missing" for name in wanted if name not in given]
        other = [
            f"{name} is {tuple(given[name].shape)}, expected {tuple(state[name].shape)}"
            for name in wanted
            if name in given and given[name].shape != state[name].shape
        ]
        unknown = [name for name in given if name not in state]
        if missing or other:
            unused = [f"{name} is unknown" for name in unknown]
            raise ConfigurationError(
                f"params.yaml: {where}.pretrained: '{self.source}' are not weights of this"
                f" network: {_first(other)}{_first(missing)}{_first(unused)}give the weights of"
                " the same network, built alike, or pretrained: null"
            )
        for name in wanted:
            state[name].copy_(given[name])
        logger.info(
            "%s: began with %d tensors of '%s'%s%s",
            *(where, len(wanted), self.source),
            f"; new: {', '.join(new)}" if new else "",
            f"; not used: {', '.join(unknown[:5])}" if unknown else "",
        )


def load_pretrained(
    source: str | None,
    model: str,
    *,
    architecture: dict[str, Any],
    image_size: int,
    root: Path,
    where: str,
) -> Pretrained | None:
    """The weights that ``train.pretrained`` names; None for null.

    What a library has to fetch it keeps in its own cache. Nothing that is loaded is unpickled.

    Args:
        source: ``default``, a name of the library's weights, or a file.
        model: the network, a name that passes `check_model`.
        architecture: arguments of the network itself.
        image_size: side of the images, for networks made for one size.
        root: where a relative file path begins.
        where: the section of ``params.yaml``, for messages.

    Raises:
        ConfigurationError: there is no such name or file, or the file holds no weights.
        PipelineError: the library cannot load its weights: no connection, for example.
    """
    if source is None:
        return None
    what = f"params.yaml: {where}.pretrained: '{source}'"
    if source.endswith(SUFFIXES):
        return Pretrained(source, _read(root / source, what))
    return Pretrained(source, _of_library(source, model, image_size, architecture, what))


def _of_library(
    source: str, model: str, image_size: int, architecture: dict[str, Any], what: str
) -> dict[str, Tensor]:
    """The weights that the library of ``model`` calls ``source``; errors begin with ``what``."""
    origin, colon, name = model.partition(":")
    if not colon:
        raise ConfigurationError(
            f"{what}: '{model}' is a network of our own, for which there are no weights by name;"
            f" give a file ({', '.join(SUFFIXES)}), or null"
        )
    library: Any = ORIGINS[origin]
    known: list[str] = library.weights(name)
    if not known:
        raise ConfigurationError(
            f"{what}: {origin} has no weights of '{name}'; give a file, or pretrained: null"
        )
    chosen = "default" if source.lower() == "default" else source
    if chosen not in ("default", *known):
        raise ConfigurationError(
            f"{what} is no file and no name of {origin}'s weights of '{name}'"
            f"{did_you_mean(source, known) or ';'} there are: default, {', '.join(known)}"
        )
    try:
        with torch.random.fork_rng(devices=[]), _nothing_unpickled():
            net = library.build_pretrained(
                name, chosen, image_size=image_size, architecture=architecture
            )
    except Exception as error:  # of the network, the file or the library: it has the words for it
        raise PipelineError(
            f"{what} cannot be loaded: {' '.join(str(error).split())[:300]}. Without a connection,"
            " fetch the file elsewhere and give its path"
        ) from error
    weights: dict[str, Tensor] = net.state_dict()
    return weights


@contextlib.contextmanager
def _nothing_unpickled() -> Iterator[None]:
    """Have `torch.load` read tensors alone, also where a library asks for more."""
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        del os.environ[_WEIGHTS_ONLY]
        if before is not None:
            os.environ[_WEIGHTS_ONLY] = before


def _read(path: Path, what: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigurationError(f"{what}: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, and one with code in it too
        raise ConfigurationError(
            f"{what}: {path} cannot be read as weights: {' '.join(str(error).split())[:200]}"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )
    if not tensors or not content:
        raise ConfigurationError(
            f"{what}: {path} holds no weights by name; it must be a state_dict, as torch.save or"
            " safetensors writes it"
        )
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return dict(content)


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weight (O, I, h, w) -> (O, ``channels``, h, w).

    One channel gets the sum over the colours, as an image of equal colours would; more get them in
    turn, scaled to the same sum. As timm does (Wightman, PyTorch Image Models).
    """
    given = weight.shape[1] if weight.ndim == 4 else channels
    if channels == given:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = math.ceil(channels / given)
    return weight.repeat(1, repeats, 1, 1)[:, :channels] * (given / channels)


def _fits(name: str, given: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    return name in given and given[name].shape == state[name].shape


def _first(problems: list[str]) -> str:
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more + "; " if problems else ""
