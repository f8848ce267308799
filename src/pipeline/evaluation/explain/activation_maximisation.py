"""Activation maximisation: images that excite a unit, or speak for a class, as much as they can.

Olah, Mordvintsev and Schubert, Feature Visualization, Distill, 2017 (10.23915/distill.00007): an
image is described by its Fourier coefficients, each scaled to its share of natural images, so that
a step changes all frequencies alike, and by colours as independent as in photographs. It is moved
at random by a few pixels at each step, so that what is left does not hang on single pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.evaluation.explain.gradient import evaluating
from pipeline.evaluation.explain.layers import channel_axis

STEPS = 96
RATE = 0.05
BETAS = (0.9, 0.999)
JITTER = 4  # pixels
START = 0.01
"""Standard deviation of the first coefficients."""
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""The square root of the covariance of red, green and blue in ImageNet's photographs, by its
singular value decomposition; the values that Olah et al. publish with their code (Apache-2.0)."""


@dataclass(frozen=True)
class Objective:
    """What image i of a batch should make large: entry ``units[i]`` of it, (N,)."""

    units: Sequence[int]
    layer: str | None = None
    """The module whose feature maps' means count, by its name; None: the logits."""


def maximise(
    model: nn.Module,
    objective: Objective,
    *,
    channels: int,
    image_size: int,
    steps: int = STEPS,
    seed: int = 0,
) -> Tensor:
    """An image for each unit, all at once: (U, channels, image_size, image_size) in [0, 1].

    A unit's image follows from ``seed`` and the unit, not from which others are asked for.

    Args:
        model: takes images in [0, 1], on the device of its parameters.
        objective: the units, or with no layer the classes.
        channels: 1 or 3 of the images.
        image_size: side of the images in pixels.
        steps: of the optimiser; 0 gives the beginnings.
        seed: of beginnings and movements.
    """
    device = next(model.parameters()).device
    side = image_size + 2 * JITTER
    spectrum = _beginnings(objective.units, channels, side, seed).to(device).requires_grad_()
    picture = partial(_picture, spectrum, _scale(side).to(device))
    moves = torch.randint(
        2 * JITTER + 1, (steps, 2), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    ascent = _Adam(spectrum)
    images = torch.zeros(1, channels, image_size, image_size, device=device)
    watched = _Watched(model, objective, images)
    with torch.enable_grad(), evaluating(model), watched as excitement:
        for top, left in moves:
            moved = picture()[..., top : top + image_size, left : left + image_size]
            excited = excitement(model(moved))
            ascent.step(*torch.autograd.grad(excited.sum(), spectrum))
    with torch.no_grad():
        return picture()[..., JITTER : JITTER + image_size, JITTER : JITTER + image_size]


def _beginnings(units: Sequence[int], channels: int, side: int, seed: int) -> Tensor:
    """(U, channels, side, side // 2 + 1, 2): real and imaginary parts."""
    shape = (channels, side, side // 2 + 1, 2)
    return START * torch.stack(
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + unit))
            for unit in units
        ]
    )


def _scale(side: int) -> Tensor:
    """(side, side // 2 + 1): one over the frequency, as the amplitudes of photographs are."""
    rows, columns = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    frequencies = torch.hypot(rows[:, None], columns[None])
    return side / (4 * frequencies.clamp(min=1 / side))


def _picture(spectrum: Tensor, scale: Tensor) -> Tensor:
    """Coefficients to images in [0, 1]."""
    side = spectrum.shape[2]
    planes = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(side, side))
    if spectrum.shape[1] == 3:
        colours = torch.tensor(COLOURS).to(planes)
        colours = colours / colours.norm(dim=0).max()
        planes = torch.einsum("rc,uchw->urhw", colours, planes)
    return planes.sigmoid()


class _Adam:
    """Adam (Kingma and Ba, 2014, arXiv:1412.6980), upwards.

    torch's own would first import its compiler, which takes seconds.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self._steps = values, 0
        self._mean, self._square = torch.zeros_like(values), torch.zeros_like(values)

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        self._steps += 1
        self._mean.lerp_(gradient, 1 - BETAS[0])
        self._square.lerp_(gradient * gradient, 1 - BETAS[1])
        mean = self._mean / (1 - BETAS[0] ** self._steps)
        square = self._square / (1 - BETAS[1] ** self._steps)
        self._values.add_(RATE * mean / (square.sqrt() + 1e-8))


class _Watched:
    """From the logits of a pass to what each image's unit did in it."""

    def __init__(self, model: nn.Module, objective: Objective, image: Tensor) -> None:
        self._model, self._objective = model, objective
        layer = objective.layer
        self._axis = 1 if layer is None else channel_axis(model, image, layer)
        self._means: Tensor | None = None
        self._hook: Any = None

    def __enter__(self) -> Callable[[Tensor], Tensor]:
        if self._objective.layer is not None:
            layer = self._model.get_submodule(self._objective.layer)
            self._hook = layer.register_forward_hook(self._keep)
        return self._excitement

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _keep(self, _module: nn.Module, _inputs: Any, maps: Tensor) -> None:
        maps = maps.movedim(self._axis, 1)
        self._means = maps.mean(dim=(2, 3))  # now: what comes next may work in place

    def _excitement(self, logits: Tensor) -> Tensor:
        entries = logits if self._means is None else self._means  # (U, K)
        units = torch.tensor(self._objective.units, device=entries.device)
        return entries.gather(1, units[:, None])[:, 0]
