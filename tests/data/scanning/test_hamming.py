"""The search for close hashes finds exactly what comparing all of them finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.scanning import hamming
from pipeline.data.scanning.hamming import Pairs, pairs_between, pairs_within

HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=30)


def asked(hashes: list[int]) -> np.ndarray:
    return np.array(hashes, np.uint64)


def found(parts) -> list[tuple[int, int, int]]:
    parts = [Pairs(*(column.tolist() for column in pairs)) for pairs in parts]
    return sorted(row for pairs in parts for row in zip(*pairs, strict=True))


def expected(hashes: np.ndarray, others: np.ndarray | None, radius: int):
    right = hashes if others is None else others
    distance = np.bitwise_count(hashes[:, None] ^ right[None])
    near = distance <= radius
    if others is None:
        near &= np.triu(np.ones(near.shape, bool), 1)
    return [(int(i), int(j), int(distance[i, j])) for i, j in np.argwhere(near)]


def look_alikes(count: int, seed: int) -> np.ndarray:
    """Hashes of which many are close to others, and some equal, in no order."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    hashes[count // 2 :] = hashes[: count - count // 2]
    for _ in range(10):
        changed = np.flatnonzero(rng.random(count) < 0.4)
        hashes[changed] ^= np.uint64(1) << rng.integers(0, 64, len(changed)).astype(np.uint64)
    return rng.permutation(hashes)


@given(HASHES, st.integers(0, 63))
def test_few_hashes(hashes, radius):
    assert found(pairs_within(asked(hashes), radius)) == expected(asked(hashes), None, radius)


@given(HASHES, HASHES, st.integers(0, 63))
def test_few_hashes_against_others(hashes, others, radius):
    pairs = pairs_between(asked(hashes), asked(others), radius)
    assert found(pairs) == expected(asked(hashes), asked(others), radius)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14))
def test_many_hashes_are_found_by_their_blocks(seed, radius):
    hashes = look_alikes(400, seed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hamming, "_FEW", 0)
        patched.setattr(hamming, "_GATHERED", 0)  # never compare all
        patched.setattr(hamming, "_CHUNK", 37)
        within = found(pairs_within(hashes, radius))
        between = found(pairs_between(hashes, hashes[::3], radius))
    assert within == expected(hashes, None, radius)
    assert between == expected(hashes, hashes[::3], radius)


@pytest.mark.parametrize("radius", [0, 4, 8, 12])
def test_thousands_of_hashes(radius):
    hashes = look_alikes(3_000, radius)
    assert found(pairs_within(hashes, radius)) == expected(hashes, None, radius)


def test_hashes_in_two_bits_only_are_compared_as_a_whole(monkeypatch):
    """No block tells them apart; then the search takes the tight loop over all pairs."""
    hashes = look_alikes(2_000, 1) & np.uint64(0b11)
    monkeypatch.setattr(hamming._Index, "search", None)
    assert found(pairs_within(hashes, 1)) == expected(hashes, None, 1)


def test_parts_stay_small():
    hashes = np.zeros(3_000, np.uint64)
    sizes = [len(pairs.first) for pairs in pairs_within(hashes, 3)]
    assert sum(sizes) == 3_000 * 2_999 // 2
    assert max(sizes) <= 1 << 20


def test_a_search_compares_a_small_share_of_all_pairs(monkeypatch):
    compared = []
    expand = hamming._expand

    def counted(starts, counts):
        compared.append(int(counts.sum()))
        return expand(starts, counts)

    monkeypatch.setattr(hamming, "_expand", counted)
    count = 30_000
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    list(pairs_within(hashes, 8))
    assert 0 < sum(compared) < 0.02 * count * (count - 1) / 2


@pytest.mark.parametrize("radius", [-1, 64])
def test_a_radius_beyond_the_bits_is_refused(radius):
    with pytest.raises(ValueError, match="radius is"):
        list(pairs_within(np.zeros(2, np.uint64), radius))
