"""How busy the machine is, under the names that MLflow's page of system metrics reads.

What cannot be asked, for want of a library or of a driver that answers, is left out: a training is
worth no less without it.
"""

from __future__ import annotations

import contextlib

import torch


def system_metrics(device: torch.device) -> dict[str, float]:
    """Load of the processors since the last call, memory, and the GPU that ``device`` may be."""
    metrics = _host_metrics()
    return metrics | _gpu_metrics(device) if device.type == "cuda" else metrics


def _host_metrics() -> dict[str, float]:
    try:
        import psutil
    except ImportError:
        return {}
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
    }


def _gpu_metrics(device: torch.device) -> dict[str, float]:
    name = f"system/gpu_{device.index or 0}"
    free, total = torch.cuda.mem_get_info(device)
    metrics = {
        f"{name}_memory_usage_megabytes": (total - free) / 1e6,
        f"{name}_memory_usage_percentage": 100 * (1 - free / total),
    }
    try:
        import pynvml
    except ImportError:
        return metrics
    with contextlib.suppress(RuntimeError, pynvml.NVMLError):
        metrics[f"{name}_utilization_percentage"] = float(torch.cuda.utilization(device))
        metrics[f"{name}_power_usage_watts"] = torch.cuda.power_draw(device) / 1000
    return metrics
