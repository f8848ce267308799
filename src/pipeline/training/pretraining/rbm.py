"""The method ``rbm``: restricted Boltzmann machines, one on top of the other, become an `mlp`.

Hinton, Osindero and Teh, A fast learning algorithm for deep belief nets, 2006; Hinton and
Salakhutdinov, Reducing the dimensionality of data with neural networks, 2006 (for Gaussian units).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from pipeline.params import RBMParams, VariantParams
from pipeline.training.pretraining.unlabelled import Learn, UnlabelledTask, without_labels
from pipeline.training.task import Task, untrained_network
from pipeline.vision.models import Classifier
from pipeline.vision.models.classifier import Normalise
from pipeline.vision.models.layers import matrix_layers
from pipeline.vision.models.rbm import RBM, StackedRBM


def pretrain(start: Task, own: RBMParams, learn: Learn) -> dict[str, Tensor]:
    """The weights of all layers but the last, by the names that the network of ``start`` has.

    Each layer is learned on top of those before it, which stay as they are. Gaussian visible units
    see the normalised images, as the network does. Binary ones see pixels in [0, 1], as what they
    are: probabilities; the normalisation is then worked into the first layer, see `unfold`.
    """
    packed, settings = start.packed, _settings(start.settings, own)
    gaussian = own.visible == "gaussian"
    with torch.device("meta"):
        layers = matrix_layers(untrained_network(start).net)
    machines = list[RBM]()
    *hidden, _ = layers.items()
    for number, (_, layer) in enumerate(hidden, start=1):
        outputs, inputs = layer.weight.shape
        make = partial(
            _stacked,
            machines=list(machines),
            sizes=(inputs, outputs),
            gaussian=gaussian and number == 1,
            steps=own.gibbs_steps,
            normalise=(packed.mean, packed.std) if gaussian else None,
            channels=packed.channels,
        )
        phase = f"RBM {number} of {len(hidden)}"
        network = learn(
            UnlabelledTask(
                f"{start.variant}, {phase}",
                settings,
                start.policy,
                packed,
                start.device,
                phase=phase,
                section=f"{start.where}.pretraining.rbm",
                make=make,
            )
        )
        machines.append(cast(RBM, network.net.get_submodule("rbm")))
    moments = None if gaussian else (packed.mean, packed.std)
    return unfold(machines, [name for name, _ in hidden], moments)


def _settings(variant: VariantParams, own: RBMParams) -> VariantParams:
    """The settings of each machine's training: those of ``own``, and plain steps."""
    return without_labels(
        variant,
        **own.model_dump(exclude={"visible", "gibbs_steps"}),
        optimizer="sgd",
        schedule="constant",
        warmup=0.0,
        gradient_clip=None,
        gradient_accumulation=1,
        ema=None,
        precision="float32",
        memory_format="contiguous",
        execution="eager",
    )


def _stacked(
    *,
    machines: Sequence[RBM],
    sizes: tuple[int, int],
    gaussian: bool,
    steps: int,
    normalise: tuple[Sequence[float], Sequence[float]] | None,
    channels: int,
) -> Classifier:
    mean, std = normalise or ([0.0] * channels, [1.0] * channels)
    net = StackedRBM(machines, RBM(*sizes, gaussian=gaussian), steps=steps)
    return Classifier(Normalise(mean, std), net, channels=channels, num_classes=0)


def unfold(
    machines: Sequence[RBM],
    names: Sequence[str],
    moments: tuple[Sequence[float], Sequence[float]] | None,
) -> dict[str, Tensor]:
    """Dense layers whose activations are the hidden units' probabilities.

    Args:
        machines: from the images on.
        names: of the layers.
        moments: mean and standard deviation of each channel, where the first machine saw pixels
            that the network sees normalised; its weights and biases are then not the machine's to
            the bit, while what they compute is the same.
    """
    weights = dict[str, Tensor]()
    for name, machine in zip(names, machines, strict=True):
        weights[f"{name}.weight"] = machine.weight.detach().cpu()
        weights[f"{name}.bias"] = machine.hidden_bias.detach().cpu()
    if moments is not None:
        weight, bias = f"{names[0]}.weight", f"{names[0]}.bias"
        mean, std = (torch.tensor(each).view(1, -1, 1) for each in moments)
        by_channel = weights[weight].view(len(weights[bias]), mean.numel(), -1)  # (H, C, pixels)
        weights[bias] = weights[bias] + (by_channel * mean).sum(dim=(1, 2))
        weights[weight] = (by_channel * std).flatten(1)
    return weights
