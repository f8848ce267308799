"""Small networks: a plain one, the same function written otherwise, and traps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.models import Classifier, build

SIDE = 16
CLASSES = 3

SMALL_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 8, "num_heads": [1, 1, 1, 1]}
"""The arguments of timm's Swin, whose maps lie channels last."""


def of_library(model: str, architecture: dict[str, Any]) -> Classifier:
    """One of timm's or torchvision's for coloured images of 64 px and two classes."""
    return build(
        model,
        channels=3,
        num_classes=2,
        image_size=64,
        architecture=architecture,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
    )


class Plain(nn.Module):
    """Every step a module of its own: what hooks on modules explain rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.rectify = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.rectify_again = nn.ReLU()
        self.hidden = nn.Linear(8 * (SIDE // 2) ** 2, 10)
        self.rectify_once_more = nn.ReLU()
        self.head = nn.Linear(10, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.rectify_again(self.second(features))
        return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))


class Functions(Plain):
    """Rectifiers and convolutions as functions, some of them in place."""

    def forward(self, images: Tensor) -> Tensor:
        features = functional.conv2d(images, self.first.weight, self.first.bias, padding=1)
        features = functional.max_pool2d(functional.relu(self.norm(features), inplace=True), 2)
        features = functional.conv2d(features, self.second.weight, self.second.bias, padding=1)
        features = torch.relu_(features)
        return self.head(self.hidden(features.flatten(1)).relu())


class Reused(Plain):
    """One rectifier module for all, as in torchvision's ResNets."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.rectify(self.second(features))
        return self.head(self.rectify(self.hidden(features.flatten(1))))


class Inverted(Plain):
    """The last convolution registered first, a convolution beside the way, and one never run."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(8, 8, 1)
        self.beside = nn.Conv2d(8, 8, 1)
        modules = self._modules
        for name in ("first", "norm", "pool"):
            modules[name] = modules.pop(name)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.rectify_again(self.second(features))
        self.beside(features).sum()
        return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))


class Discarding(Plain):
    """Rectifies in place and goes on with what it had, not with what the function returned."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.second(features)
        functional.relu_(features)
        return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))


class Assigning(Plain):
    """Rectifies by writing into the maps."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.second(features)
        features[...] = self.rectify(features.clone())
        return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))


class Owning(Plain):
    """Begins and ends with parameters of its own, and runs its head as a function, its weights
    changed before anything runs."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        weight = 2 * self.head.weight
        features = self.pool(self.rectify(self.norm(self.first(images + self.shift))))
        features = self.rectify_again(self.second(features))
        features = self.rectify_once_more(self.hidden(features.flatten(1)))
        return functional.linear(features, weight, self.head.bias) / self.temperature


class Undecided(Plain):
    """Runs otherwise where no gradients are recorded."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        if not torch.is_grad_enabled():
            features = features.clone()
        features = self.rectify_again(self.second(features))
        return self.head(self.rectify_once_more(self.hidden(features.flatten(1))))


SAME: dict[str, type[Plain]] = {
    "functions": Functions,
    "reused": Reused,
    "inverted": Inverted,
    "discarding": Discarding,
    "undecided": Undecided,
}
"""The function of `Plain` with equal weights, written so that hooks on modules go wrong."""


def trained(kind: type[Plain]) -> Plain:
    """With weights and statistics that are those of the other kinds."""
    torch.manual_seed(0)
    weights = Plain().state_dict()
    weights["norm.running_mean"] = 0.1 * torch.randn(6)
    weights["norm.running_var"] = 0.5 + torch.rand(6)
    network = kind()
    network.load_state_dict(weights, strict=False)
    return network.eval()


class _OwnGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor) -> Tensor:
        rectified = features.relu()
        context.save_for_backward(rectified > 0)
        return rectified

    @staticmethod
    def backward(context: Any, gradients: Tensor) -> Tensor:
        (mask,) = context.saved_tensors
        return gradients * mask


class _HiddenRelu(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, features: Tensor) -> Tensor:
        return features.relu()

    @staticmethod
    def backward(_context: Any, gradients: Tensor) -> Tensor:
        return gradients


NOT_RECTIFIERS = {
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "mask": lambda x: x * (x > 0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "abs": lambda x: (x + x.abs()) / 2,
    "threshold": lambda x: functional.threshold(x, 0.0, 0.0),
    "leaky_relu": functional.leaky_relu,
    "relu6": functional.relu6,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "silu by hand": lambda x: x * x.sigmoid(),
    "sigmoid": torch.sigmoid,
    "own gradient": _OwnGradient.apply,
    "hidden": _HiddenRelu.apply,
}
"""What bends a signal and is no ReLU of the graph of gradients."""


class Beside(Plain):
    """One of `NOT_RECTIFIERS` in place of the last rectifier, ReLU modules before it."""

    def __init__(self, bend: Any) -> None:
        super().__init__()
        self.bend = bend

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.rectify(self.norm(self.first(images))))
        features = self.rectify_again(self.second(features))
        return self.head(self.bend(self.hidden(features.flatten(1))))


class Linear(nn.Module):
    """No rectifier and no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2 * SIDE * SIDE, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


class Dense(Linear):
    """Rectifiers, and no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * SIDE * SIDE, 10)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.hidden(images.flatten(1)).relu())


class Gate(Linear):
    """A convolution only of maps with one place, as in a squeeze-and-excitation gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(2, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((images * self.gate(images.mean((2, 3), keepdim=True))).flatten(1))


class Detached(Linear):
    """A convolution that the logits do not hear of by a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((images + self.convolution(images).detach()).flatten(1))


class Bypassed(Plain):
    """A path from the image to the logits around all convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Linear(2, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.around(images.mean(dim=(2, 3)))


class Attentive(nn.Module):
    """Patches by a convolution, then two blocks of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2))
        )
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (N, h * w, K)
        return self.head(self.blocks(tokens).mean(dim=1))


WITHOUT_FEATURE_MAPS: dict[str, tuple[type[nn.Module], str]] = {
    "linear": (Linear, "runs none"),
    "dense": (Dense, "runs none"),
    "gate": (Gate, "runs none"),
    "detached": (Detached, "runs none"),
    "bypassed": (Bypassed, "another path"),
    "attentive": (Attentive, "linear layers or attentions"),
}
"""Networks that Grad-CAM does not apply to, and what the message says."""


class Residual(nn.Module):
    """A block whose sum is what the head sees: the last convolution is only one of its branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, CLASSES)

    def block(self, images: Tensor) -> Tensor:
        features = self.stem(images).relu()
        return (features + self.branch(features)).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(images).mean(dim=(2, 3)))


class ChannelsLast(nn.Module):
    """Channels go last after a convolution and come first again before the head; with as many of
    them as rows and columns, their shape does not tell where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, SIDE, 3, padding=1)
        self.norm = nn.LayerNorm(SIDE)
        self.mixed = nn.Linear(SIDE, SIDE)
        self.merged = nn.Linear(4 * SIDE, 10)
        self.scores = nn.Softmax(dim=-1)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.mixed(self.norm(self.first(images).permute(0, 2, 3, 1)))
        patches = features.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)
        tokens = self.merged(patches.flatten(3)).flatten(1, 2)  # (N, h * w, 10)
        products = tokens @ tokens.transpose(1, 2)  # (N, h * w, h * w)
        attended = self.scores(products[:, None]) @ tokens[:, None]
        return self.head(attended.mean(dim=(1, 2)))
