"""Layers that stay as they are: parameters frozen by the patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from pipeline.errors import ConfigurationError, did_you_mean

_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""Those that keep statistics; all others do the same in training and in use."""


def freeze(net: nn.Module, patterns: Sequence[str], *, where: str) -> None:
    """Exclude from training all parameters of ``net`` whose name matches one of ``patterns``.

    Args:
        net: the network itself, whose parameters have the names that its library gives them.
        patterns: as in a shell, where ``*`` crosses dots: ``conv1.*``, ``layer[12].*``.
        where: the section of ``params.yaml``, for messages.

    Raises:
        ConfigurationError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(net.named_parameters())
    for pattern in patterns:
        chosen = [name for name in parameters if fnmatchcase(name, pattern)]
        if not chosen:
            parts = {name.rpartition(".")[0] for name in parameters} | {
                name.partition(".")[0] for name in parameters
            }
            known = [*parameters, *(f"{part}.*" for part in sorted(parts) if part)]
            raise ConfigurationError(
                f"params.yaml: {where}.freeze: '{pattern}' matches no parameter"
                f"{did_you_mean(pattern, known) or ';'} they are called"
                f" {', '.join(list(parameters)[:3])}, … {list(parameters)[-1]}"
            )
        for name in chosen:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigurationError(
            f"params.yaml: {where}.freeze: {list(patterns)} leaves nothing to train; keep the head"
            f" out of it, as in {list(parameters)[-1].rpartition('.')[0]}.*"
        )


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """The norms whose statistics must not move: those of frozen parameters.

    One without parameters is frozen where all others of the module that it is part of are.
    """
    found = list[nn.Module]()
    for name, module in model.named_modules():
        if isinstance(module, _NORMS):
            parent = model.get_submodule(name.rpartition(".")[0])
            parameters = list(module.parameters()) or list(parent.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                found.append(module)
    return found
