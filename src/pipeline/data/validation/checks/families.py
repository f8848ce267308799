"""Counting within families of rows: copies of a picture, images of a group, spellings of a label.

All of it is linear in the rows and free of loops over them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def clusters(manifest: pd.DataFrame, column: str) -> pd.Series:
    """The cluster of each image, null for one that was not decoded."""
    return manifest[column].where(manifest[column] >= 0)


def size_of(keys: pd.Series) -> pd.Series:
    """For each row, how many rows share its key; 0 where the key is null."""
    codes, known = pd.factorize(keys)
    counts = np.append(np.bincount(codes[codes >= 0], minlength=len(known)), 0)
    return pd.Series(counts[codes], index=keys.index)


def distinct_in(keys: pd.Series, values: pd.Series) -> pd.Series:
    """For each row, how many different ``values`` the rows of its key have; nulls do not count."""
    families, known = pd.factorize(keys)
    kinds, different = pd.factorize(values)
    both = (families >= 0) & (kinds >= 0)
    pairs = pd.unique(families[both].astype(np.int64) * max(1, len(different)) + kinds[both])
    counts = np.bincount(pairs // max(1, len(different)), minlength=len(known))
    return pd.Series(np.append(counts, 0)[families], index=keys.index)
