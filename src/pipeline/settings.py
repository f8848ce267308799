"""Whether all that ``params.yaml`` names is there, which its types alone cannot tell."""

from __future__ import annotations

from pipeline.params import Params


def check_settings(params: Params) -> None:
    """Check the names of formats, checks, sections, networks, augmentations and ways to pretrain.

    Their settings are checked with them. It imports PyTorch and what names networks.

    Raises:
        ConfigurationError: one of them is not there, or cannot be set so; the message says where.
    """
    from pipeline.data.validation.validate import check_names
    from pipeline.evaluation.sections import check_sections
    from pipeline.training.train import check_variant
    from pipeline.vision.augmentation import build_policy

    check_names(params.validation)
    check_sections(params.evaluate.sections)
    build_policy(params.augment.policy, where="augment.policy")
    for name in params.variants:
        check_variant(params, name)
