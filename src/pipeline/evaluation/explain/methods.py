"""The table of attribution methods. A new one is a file with its function, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.evaluation.explain.deconvnet import deconvnet
from pipeline.evaluation.explain.grad_cam import grad_cam
from pipeline.evaluation.explain.guided_backprop import guided_backprop
from pipeline.evaluation.explain.integrated_gradients import integrated_gradients
from pipeline.evaluation.explain.occlusion import occlusion
from pipeline.evaluation.explain.saliency import saliency

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images (N, C, H, W), targets (N,)) -> maps (N, 1, H, W)."""


@dataclass(frozen=True)
class Method:
    title: str
    explain: Explain
    reading: str
    """What bright means."""
    signed: bool = False
    """Whether negative values speak against the class."""


METHODS: dict[str, Method] = {
    "saliency": Method("Saliency", saliency, "a small change of the pixel changes the logit much"),
    "integrated_gradients": Method(
        "Integrated gradients",
        integrated_gradients,
        "the pixel, against the image's mean colour, adds to the logit",
        signed=True,
    ),
    "guided_backprop": Method(
        "Guided backpropagation",
        guided_backprop,
        "an edge that the network sees, whether it decides by it or not",
    ),
    "deconvnet": Method(
        "Deconvnet", deconvnet, "the signal of the class, sent back, ends in the pixel"
    ),
    "occlusion": Method(
        "Occlusion", occlusion, "the logit falls when the place is covered", signed=True
    ),
    "grad_cam": Method("Grad-CAM", grad_cam, "the last feature maps speak for the class there"),
}
"""By the name that ``evaluate.explain.methods`` uses."""
