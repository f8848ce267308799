"""Gradients with another rule at the rectifiers, for guided backpropagation and deconvnet.

The rule is put on the nodes of the graph that the forward pass has left, not on modules: so a
rectifier counts that is a function, that works in place, or whose module is used ten times. Of what
else bends the signal the rule says nothing, and a network that has it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.evaluation.explain.gradient import (
    CannotExplain,
    evaluating,
    forward,
    in_batches,
    of_targets,
    with_respect_to,
)
from pipeline.evaluation.explain.graph import nodes_below

RECTIFIERS = {"relu", "relu_"}
RECTIFIER_NODE = "ReluBackward0"
KNOWN = {
    # Linear maps.
    *("convolution", "addmm", "mm", "linear", "mean", "sum", "add", "add_", "sub", "sub_"),
    *("addcmul", "avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "neg"),
    *("upsample_nearest2d", "upsample_bilinear2d", "_upsample_bilinear2d_aa"),
    # Norms, linear or nearly so when a network predicts.
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"),
    *("cudnn_batch_norm", "miopen_batch_norm", "batch_norm", "_batch_norm_with_update"),
    *("_batch_norm_no_update", "native_group_norm", "native_layer_norm"),
    # Pooling that has a place: the gradient goes back there.
    *("max_pool2d_with_indices", "max_pool2d", "adaptive_max_pool2d"),
    # What moves values about or makes room for them.
    *("view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "select", "slice"),
    *("squeeze", "unsqueeze", "cat", "split", "split_with_sizes", "unbind", "clone", "_to_copy"),
    *("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "as_strided", "as_strided_"),
    *("detach", "empty", "empty_like", "contiguous", "alias", "channel_shuffle"),
}
"""Operations through which a gradient is taken as it is."""

Rule = Callable[[Node], object]
"""Puts its rule on a rectifier's node."""


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs, below modules, functions and their names."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def rectified_gradient(
    model: nn.Module, images: Tensor, targets: Tensor, rule: Rule, method: str
) -> Tensor:
    """The gradient of the target logits by ``rule``, (N, C, H, W).

    Raises:
        CannotExplain: ``method`` is not defined for what the network ran.
    """

    def of_batch(images: Tensor, targets: Tensor) -> Tensor:
        with _Operations() as operations:
            leaf, logits = forward(model, images)
        for node in _rectifiers(logits, operations.counts, method):
            rule(node)
        return with_respect_to(leaf, of_targets(logits, targets))

    with torch.enable_grad(), evaluating(model):
        return in_batches(of_batch, images, targets)


def _rectifiers(logits: Tensor, counts: Counter[str], method: str) -> list[Node]:
    unknown = sorted(set(counts) - KNOWN - RECTIFIERS)
    if unknown:
        raise CannotExplain(
            f"{method} has a rule for rectifiers (ReLU) alone, and this network also runs "
            f"{', '.join(unknown[:5])}" + (f" and {len(unknown) - 5} more" if unknown[5:] else "")
        )
    nodes = [node for node in nodes_below(logits) if node.name() == RECTIFIER_NODE]
    ran = sum(counts[name] for name in RECTIFIERS)
    if not ran:
        raise CannotExplain(f"{method} is made for rectifiers (ReLU), and this network runs none")
    if len(nodes) != ran:
        raise CannotExplain(
            f"{method} cannot reach all rectifiers: {ran} ran, {len(nodes)} are in the graph of "
            "gradients; the others are hidden in a function with a gradient of its own"
        )
    return nodes
