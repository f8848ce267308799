"""Explanations: what a network looked at, what it looks for, and whether that can be believed.

A method of `METHODS` is a function of a model, images (N, C, H, W) in [0, 1] and targets (N,), and
returns a map (N, 1, H, W) of the target's logit. A network that it does not apply to is refused
(`CannotExplain`), by what the network really ran.
"""

from __future__ import annotations

from pipeline.evaluation.explain.gradient import CannotExplain
from pipeline.evaluation.explain.methods import METHODS, Method

__all__ = ["METHODS", "CannotExplain", "Method"]
