"""What a prediction costs: parameters, multiply-adds and memory, which are the same everywhere, and
the time it takes on this machine, which is not and stays out of what other stages read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pipeline.evaluation.section import Evaluated, Found
from pipeline.vision.models import Classifier
from pipeline.vision.precision import autocast
from pipeline.vision.views import VIEWS, mean_logits

BATCHES = (1, 64)
_ROUNDS, _SECONDS = 20, 0.3
"""A batch is timed this often at most, and not any more after so many seconds."""


@dataclass(frozen=True)
class Cost:
    """Of predicting one image, in float32 and with all test-time views."""

    parameters: int
    multiply_adds: int
    """Of convolutions and matrix products; the rest is little."""
    weights_bytes: int
    """Parameters and buffers."""
    activations_bytes: int
    """Input and output of the layer where both together are largest."""


def measure_cost(classifier: Classifier, image_size: int) -> Cost:
    """The cost by one pass of an empty image; ``classifier`` is left as it was."""
    device = next(classifier.parameters()).device
    image = torch.zeros(1, classifier.channels, image_size, image_size, device=device)
    largest = 0

    def note(_: nn.Module, given: tuple[object, ...], made: object) -> None:
        nonlocal largest
        largest = max(largest, sum(_bytes(each) for each in (*given, made)))

    leaves = [module for module in classifier.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    counter = _Products()  # type: ignore[no-untyped-call]
    try:
        with torch.no_grad(), counter:
            classifier(image)
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(
        parameters=classifier.num_parameters,
        multiply_adds=counter.multiply_adds * len(VIEWS[classifier.views]),
        weights_bytes=sum(
            _bytes(tensor) for tensor in (*classifier.parameters(), *classifier.buffers())
        ),
        activations_bytes=largest,
    )


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-adds by PyTorch's own table of operations.

    As `torch.utils.flop_counter.FlopCounterMode` does, which imports the compiler first. What is
    made of other operations arrives here in its parts.
    """

    multiply_adds = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports it to keep it out of here

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        flops = flop_registry.get(func._overloadpacket)  # noqa: SLF001 (there is no other way)
        if flops is not None:
            self.multiply_adds += flops(*args, **(kwargs or {}), out_val=made) // 2
        return made


def _bytes(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def measure_latency(evaluated: Evaluated) -> dict[str, float | str]:
    """Milliseconds of a prediction at each of `BATCHES`, by the variant's own plan.

    The fastest of several: other work on the machine only makes it slower.
    """
    card, classifier, device = evaluated.card, evaluated.classifier, evaluated.device
    layout = getattr(torch, card.plan["memory_format"])
    found: dict[str, float | str] = {"device": _name(device), "precision": card.plan["precision"]}
    side = card.image_size
    with torch.inference_mode(), autocast(device, card.plan["precision"]):
        for batch in BATCHES:
            images = torch.full((batch, card.channels, side, side), 0.5, device=device)
            fastest, begun = float("inf"), time.perf_counter()
            for _ in range(_ROUNDS):
                start = time.perf_counter()
                # To the host: only there a GPU's work is known to be done.
                mean_logits(classifier, images, classifier.views, layout).cpu()
                fastest = min(fastest, time.perf_counter() - start)
                if time.perf_counter() - begun > _SECONDS:
                    break
            found[f"batch_{batch}_ms"] = round(1000 * fastest, 3)
    return found


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def find(evaluated: Evaluated) -> Found:
    """What one prediction costs; the time it takes is among the timings."""
    cost = measure_cost(evaluated.classifier, evaluated.card.image_size)
    return Found(
        values={"cost": cost},
        numbers=asdict(cost),
        timings=measure_latency(evaluated),
    )
