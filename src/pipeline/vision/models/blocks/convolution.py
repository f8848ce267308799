"""Convolutions: layers from (N, before, H, W) to (N, after, h, w), exchangeable for each other.

With equal kernel, stride and padding all give maps of equal size.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

GROUPS = 4
DILATION = 2
REDUCTION = 4


def plain(
    before: int, after: int, kernel: int, *, stride: int, padding: int, bias: bool
) -> nn.Module:
    """Every map from every map: LeCun et al. 1989."""
    return nn.Conv2d(before, after, kernel, stride, padding, bias=bias)


def dilated(
    before: int, after: int, kernel: int, *, stride: int, padding: int, bias: bool
) -> nn.Module:
    """A kernel with gaps, which sees twice as far: Yu and Koltun, 2016 (arXiv:1511.07122)."""
    wider = padding + (DILATION - 1) * (kernel - 1) // 2
    return nn.Conv2d(before, after, kernel, stride, wider, dilation=DILATION, bias=bias)


def grouped(
    before: int, after: int, kernel: int, *, stride: int, padding: int, bias: bool
) -> nn.Module:
    """Maps in groups that see each other alone: Krizhevsky et al., 2012; Xie et al., 2016
    (arXiv:1611.05431).

    There are `GROUPS`, or the largest number that divides it and the channels of both sides.
    """
    groups = math.gcd(GROUPS, before, after)
    return nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=bias)


def depthwise_separable(
    before: int, after: int, kernel: int, *, stride: int, padding: int, bias: bool
) -> nn.Module:
    """Space first, map by map, then the maps, pixel by pixel: Chollet, 2016 (arXiv:1610.02357);
    Howard et al., 2017 (arXiv:1704.04861)."""
    return nn.Sequential(
        nn.Conv2d(before, before, kernel, stride, padding, groups=before, bias=False),
        nn.Conv2d(before, after, 1, bias=bias),
    )


def bottleneck(
    before: int, after: int, kernel: int, *, stride: int, padding: int, bias: bool
) -> nn.Module:
    """Through a quarter of the maps, by 1×1 convolutions before and behind: Lin et al., 2013
    (arXiv:1312.4400); He et al., 2015 (arXiv:1512.03385)."""
    inner = max(after // REDUCTION, 1)
    return nn.Sequential(
        nn.Conv2d(before, inner, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, inner, kernel, stride, padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(inner, after, 1, bias=bias),
    )


def transposed(before: int, after: int, *, bias: bool = True) -> nn.Module:
    """Maps of twice the side: Zeiler et al., Deconvolutional networks, 2010; Dumoulin and Visin,
    2016 (arXiv:1603.07285). For decoders; the kernel of 4 is a multiple of the stride, which
    avoids a checkered pattern (Odena et al. 2016)."""
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)


CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {
    "plain": plain,
    "dilated": dilated,
    "grouped": grouped,
    "depthwise_separable": depthwise_separable,
    "bottleneck": bottleneck,
}
"""name -> f(before, after, kernel, stride=…, padding=…, bias=…)."""
