"""The graph of gradients that a forward pass leaves: which operations lead to the logits."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge


def node_of(tensor: Tensor) -> Node:
    """The node that ``tensor`` came from, also that of a tensor that nothing came before."""
    return get_gradient_edge(tensor).node


def nodes_below(tensor: Tensor, *, without: Node | None = None) -> list[Node]:
    """All nodes that a gradient of ``tensor`` may pass, each once, not going through ``without``.

    A node that runs outside the graph, or for another result, is not among them.
    """
    found: dict[Node, None] = {}
    waiting = [node_of(tensor)]
    while waiting:
        node = waiting.pop()
        if node in found or node is without:
            continue
        found[node] = None
        waiting += [before for before, _ in node.next_functions if before is not None]
    return list(found)
