"""Reduced precision, by the names that plans and model cards have."""

from __future__ import annotations

import torch


def autocast(device: torch.device, precision: str, *, cache: bool = True) -> torch.autocast:
    """Compute in ``precision`` (float32, bfloat16, float16) where PyTorch holds that to be safe.

    Args:
        device: where.
        precision: float32 changes nothing.
        cache: keep a weight's reduced copy for all its uses within; a CUDA graph cannot.
    """
    reduced = precision != "float32"
    dtype = getattr(torch, precision) if reduced else torch.bfloat16  # looked at, though unused
    return torch.autocast(device.type, dtype=dtype, enabled=reduced, cache_enabled=cache)
