"""Several networks of one kind that vote: the mean of their probabilities decides.

Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation using
deep ensembles, 2016 (arXiv:1612.01474). The members begin with weights of their own and are trained
beside each other on the same batches; most of what sets members apart comes from their first
weights (Fort, Hu and Lakshminarayanan, Deep ensembles: a loss landscape perspective, 2019,
arXiv:1912.02757).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import whole
from pipeline.vision.models.layers import head_layers
from pipeline.vision.models.outputs import Supervision, loss_of

OF = "small_cnn"


def ensemble(
    *,
    channels: int,
    num_classes: int,
    image_size: int,
    of: str = OF,
    members: int = 5,
    arguments: Mapping[str, Any] | None = None,
) -> Ensemble:
    """Build an `Ensemble`.

    Args:
        channels: of the images.
        num_classes: how many logits.
        image_size: side of the images in pixels.
        of: the members' network, as a variant's ``model`` names it.
        members: how many there are.
        arguments: of each member, as a variant's ``architecture`` gives them.

    Raises:
        ConfigurationError: an argument is out of its range, or a member cannot be built so.
    """
    from pipeline.vision.models import build_net  # its table lists this network

    whole("members", members, low=2, high=100)
    if of == "ensemble":
        raise ConfigurationError("architecture.of is 'ensemble'; name the network of its members")
    sizes = {"channels": channels, "num_classes": num_classes, "image_size": image_size}
    return Ensemble([build_net(of, sizes, dict(arguments or {})) for _ in range(members)])


class Ensemble(nn.Module):
    """Gives the logarithm of the members' mean probability.

    In training it gives that and all that the members give; each of them learns from its own loss
    as if it were alone. Only ``gradient_clip`` sees the gradients of all together.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.heads = tuple(
            f"members.{i}.{name}" for i, each in enumerate(members) for name in head_layers(each)
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = [member(images) for member in self.members]
        outputs = [each if isinstance(each, tuple) else (each,) for each in given]
        logits = torch.stack([each[0] for each in outputs]).float()  # (members, N, K)
        mean = logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(outputs))
        if not self.training:
            return mean
        return mean, *(output for each in outputs for output in each)

    def training_loss(self, outputs: tuple[Tensor, ...], supervision: Supervision) -> Tensor:
        """See `OwnLoss`: its value is the members' mean, its gradient that of their sum."""
        apiece = (len(outputs) - 1) // len(self.members)
        parts = (outputs[1 + i : 1 + i + apiece] for i in range(0, len(outputs) - 1, apiece))
        losses = [
            loss_of(member, part, supervision)
            for member, part in zip(self.members, parts, strict=True)
        ]
        total = torch.stack(losses).sum()
        # So that the learning rate means for each member what it means for one network alone.
        return total - (total - total / len(losses)).detach()
