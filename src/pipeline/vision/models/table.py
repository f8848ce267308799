"""Our own networks by name.

This table is no part of any training's identity (`code_files`): a new entry trains nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pipeline.vision.models.alexnet import alexnet
from pipeline.vision.models.capsnet import capsnet
from pipeline.vision.models.densenet import densenet121, densenet_bc100
from pipeline.vision.models.ensemble import ensemble
from pipeline.vision.models.fast_resnet import fast_resnet
from pipeline.vision.models.googlenet import googlenet
from pipeline.vision.models.inception import inception_v3
from pipeline.vision.models.lenet import lenet1, lenet4, lenet5
from pipeline.vision.models.mlp import mlp
from pipeline.vision.models.mobilenet import mobilenet_v2
from pipeline.vision.models.nielsen import nielsen
from pipeline.vision.models.resnet import resnet18_small, resnet34_small, resnet50_small
from pipeline.vision.models.small_cnn import small_cnn
from pipeline.vision.models.vgg import vgg11, vgg16, vgg19

MODELS: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    "fast_resnet": fast_resnet,
    "mlp": mlp,
    "nielsen": nielsen,
    "lenet1": lenet1,
    "lenet4": lenet4,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "vgg16": vgg16,
    "vgg19": vgg19,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "resnet18_small": resnet18_small,
    "resnet34_small": resnet34_small,
    "resnet50_small": resnet50_small,
    "densenet_bc100": densenet_bc100,
    "densenet121": densenet121,
    "mobilenet_v2": mobilenet_v2,
    "capsnet": capsnet,
    "ensemble": ensemble,
}
"""A function of channels, num_classes, image_size and the network's own arguments."""
