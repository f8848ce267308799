"""Maps per second beside captum and pytorch-grad-cam, called as their documents show.

The same network, images and number of steps, in one process, in turns. The networks are those that
the peers can explain: guided backpropagation and deconvnet need a module for every rectifier there.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from typing import Any

from benchmarks.peers import peer_python, peer_version
from benchmarks.results import PROJECT, beside

NETWORKS = {"torchvision:resnet18": "ResNet-18, 96 px", "torchvision:vgg11_bn": "VGG-11, 96 px"}
SIDE = 96
CASES = (
    ("saliency", "captum", "torchvision:resnet18", 64),
    ("integrated_gradients", "captum", "torchvision:resnet18", 8),
    ("occlusion", "captum", "torchvision:resnet18", 4),
    ("grad_cam", "captum", "torchvision:resnet18", 64),
    ("grad_cam", "grad-cam", "torchvision:resnet18", 64),
    ("guided_backprop", "captum", "torchvision:vgg11_bn", 32),
    ("deconvnet", "captum", "torchvision:vgg11_bn", 32),
)
"""Method, peer, network, images at a time."""


def rows(repeats: int = 5, images: int | None = None, seconds: float = 3.0) -> list[dict[str, Any]]:
    """A row for each method and peer.

    A timing repeats its call for ``seconds``: one call is short enough for another process to
    double it. ``images`` makes the batches smaller.
    """
    table = []
    for method, peer, model, batch in CASES:
        case = {
            "method": method,
            "peer": peer,
            "model": model,
            "side": SIDE,
            "images": min(images or batch, batch),
            "repeats": repeats,
            "seconds": seconds,
        }
        ours, theirs = _measured(case)
        table.append(
            beside(
                f"{method}, {NETWORKS[model]}",
                *("maps per second", "1/s", ours, theirs, peer_version(peer, "evaluate")),
                digits=2,
            )
        )
    return [asdict(row) for row in table]


def _measured(case: dict[str, Any]) -> tuple[list[float], list[float]]:
    script = PROJECT / "benchmarks" / "explain_once.py"
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    done = subprocess.run(
        [peer_python("evaluate"), str(script), json.dumps(case)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{case} ended with {done.returncode}:\n{done.stderr}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return measured["ours"], measured["theirs"]
