"""The mean corruption error of Hendrycks & Dietterich (2019): errors beside another variant's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], reference: Mapping[str, Sequence[float]]
) -> float | None:
    """mCE: each corruption's errors, added up over the severities, as a share of a reference's.

    Below 1: the corruptions harm less than they harm the reference. A corruption under which the
    reference makes no mistake says nothing; ``None`` where there is no other.
    """
    shares = [
        sum(errors[name]) / sum(others) for name, others in reference.items() if sum(others) > 0
    ]
    return sum(shares) / len(shares) if shares else None
