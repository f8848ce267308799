"""What may stand before any network, ours or a library's, by keys of ``architecture``.

Images pass the spatial transformer first, then the filter of frequencies, then the fixed kernels,
whose results are the channels that the network is built for.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from pipeline.errors import ConfigurationError
from pipeline.vision.models.blocks.arguments import choice, number, switch
from pipeline.vision.models.blocks.fourier import NYQUIST, FourierFilter
from pipeline.vision.models.blocks.kernels import KERNELS, FixedKernels
from pipeline.vision.models.blocks.spatial_transformer import SpatialTransformer

FRONT = ("spatial_transformer", "low_pass", "high_pass", "fixed_kernels")
"""The keys:

- ``spatial_transformer``: true or false;
- ``low_pass`` or ``high_pass``: a frequency in cycles a pixel;
- ``fixed_kernels``: a list of names of `KERNELS`.
"""


def build_front(
    architecture: dict[str, Any], *, channels: int, image_size: int
) -> tuple[nn.Sequential | None, int]:
    """The layers that ``architecture`` asks for, None for none, and how many channels they give.

    Raises:
        ConfigurationError: a value is not allowed, or two of them leave nothing of the image.
    """
    layers: list[nn.Module] = []
    if switch("spatial_transformer", architecture.get("spatial_transformer", False)):
        if image_size < 8:
            raise ConfigurationError(
                f"architecture.spatial_transformer needs images of at least 8 px, not {image_size}:"
                " the side of its maps, a quarter of that, would be less than 2 px"
            )
        layers.append(SpatialTransformer(channels))
    layers += _fourier(architecture)
    names = architecture.get("fixed_kernels", [])
    if names:
        if not isinstance(names, list):
            raise ConfigurationError(
                f"architecture.fixed_kernels is {names!r}, expected a list of {', '.join(KERNELS)}"
            )
        fixed = FixedKernels([choice("fixed_kernels", name, KERNELS) for name in names])
        layers.append(fixed)
        channels *= fixed.per_channel
    return (nn.Sequential(*layers) if layers else None), channels


def _fourier(architecture: dict[str, Any]) -> list[nn.Module]:
    filters: list[nn.Module] = []
    cutoffs = dict[str, float]()
    for key in ("low_pass", "high_pass"):
        if architecture.get(key) is not None:
            cutoff = number(key, architecture[key], low=0.0, high=NYQUIST * 2**0.5)
            if cutoff == 0.0:
                raise ConfigurationError(
                    f"architecture.{key} is 0, expected a frequency in cycles a pixel, such as 0.1"
                )
            cutoffs[key] = cutoff
            filters.append(FourierFilter(cutoff=cutoff, high_pass=key == "high_pass"))
    if len(cutoffs) == 2 and cutoffs["high_pass"] >= cutoffs["low_pass"]:
        raise ConfigurationError(
            f"architecture: high_pass {cutoffs['high_pass']:g} and low_pass"
            f" {cutoffs['low_pass']:g} leave no frequency; high_pass must be the lower one"
        )
    return filters
