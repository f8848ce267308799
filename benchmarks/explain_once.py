"""Maps per second of one method, ours and a peer's in turns.

``python explain_once.py CASE`` prints ``{"ours": [...], "theirs": [...]}``.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.evaluation.explain import METHODS
from pipeline.evaluation.explain.integrated_gradients import STEPS
from pipeline.evaluation.explain.occlusion import PATCHES
from pipeline.vision.models import Classifier, build


def main() -> None:
    warnings.simplefilter("ignore")
    case = json.loads(sys.argv[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, images, targets = _prepared(case, device)
    method = METHODS[case["method"]].explain
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: method(network, images, targets),
        "theirs": PEERS[case["peer"]](case["method"], network, images, targets),
    }
    for call in calls.values():
        _seconds(call, 1)  # warm
    number = max(1, math.ceil(case["seconds"] / min(_seconds(call, 1) for call in calls.values())))
    speeds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(case["repeats"]):
        for name in list(calls)[:: 1 if i % 2 else -1]:
            speeds[name].append(number * len(images) / _seconds(calls[name], number))
    sys.stdout.write(f"{json.dumps(speeds)}\n")


def _seconds(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _prepared(case: dict[str, Any], device: str) -> tuple[Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    network = build(
        case["model"],
        channels=3,
        num_classes=2,
        image_size=case["side"],
        architecture={},
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        where="benchmark",
    )
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False  # captum's hooks cannot stand it
    images = torch.rand(case["images"], 3, case["side"], case["side"], device=device)
    targets = torch.arange(case["images"], device=device) % 2
    return network.eval().to(device), images, targets


def captum_call(
    method: str, network: Classifier, images: Tensor, targets: Tensor
) -> Callable[[], Any]:
    from captum import attr

    side = images.shape[-1]
    window = side // PATCHES
    options: dict[str, Any] = {"target": targets}
    if method == "integrated_gradients":
        options |= {"n_steps": STEPS}
    if method == "occlusion":
        options |= {
            "sliding_window_shapes": (3, window, window),
            "strides": (3, window // 2, window // 2),
            "perturbations_per_eval": 16,
        }
    if method == "grad_cam":
        cam = attr.LayerGradCam(network, network.net.layer4)
        return lambda: attr.LayerAttribution.interpolate(
            cam.attribute(images, relu_attributions=True, **options), (side, side), "bilinear"
        )
    kind = {
        "saliency": attr.Saliency,
        "integrated_gradients": attr.IntegratedGradients,
        "occlusion": attr.Occlusion,
        "guided_backprop": attr.GuidedBackprop,
        "deconvnet": attr.Deconvolution,
    }[method]
    explainer = kind(network)
    return lambda: explainer.attribute(images, **options)


def grad_cam_call(
    method: str, network: Classifier, images: Tensor, targets: Tensor
) -> Callable[[], Any]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    if method != "grad_cam":
        raise ValueError(f"pytorch-grad-cam is not measured by {method}")
    cam = GradCAM(model=network, target_layers=[network.net.layer4])
    wanted = [ClassifierOutputTarget(target) for target in targets.tolist()]
    return lambda: cam(input_tensor=images, targets=wanted)


PEERS = {"captum": captum_call, "grad-cam": grad_cam_call}


if __name__ == "__main__":
    main()
