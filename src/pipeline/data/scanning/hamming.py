"""All pairs of 64-bit hashes that differ in at most a few bits, exactly, without asking all pairs.

Multi-index hashing (Norouzi, Punjani and Fleet, 2012): cut the 64 bits into m blocks. Of two hashes
within radius r one block differs in at most ⌊r / m⌋ bits, so only hashes that agree that far in a
block are compared. Where hashes are so alike that this rules out little, all pairs are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_BITS = 64
_CHUNK = 1 << 20  # comparisons at a time, in 8 bytes each
_TILE = (1 << 5, 1 << 13)  # where all pairs are compared, as many as stay in the processor's cache
_GATHERED = 12  # a comparison of hashes that lie apart costs as much as this many in a row
_FEW = 1 << 22  # comparisons that are not worth a plan
_SAMPLE = 1 << 11


class Pairs(NamedTuple):
    """Pairs of rows, and in how many bits their hashes differ; each of shape (P,)."""

    first: Rows
    second: Rows
    distance: NDArray[np.uint8]

    def where(self, chosen: NDArray[np.bool_] | Rows) -> Pairs:
        return Pairs(self.first[chosen], self.second[chosen], self.distance[chosen])

    def of(self, first: Rows, second: Rows) -> Pairs:
        """These pairs of rows of parts, as rows of the whole."""
        return Pairs(first[self.first], second[self.second], self.distance)


@dataclass(frozen=True)
class _Block:
    """Some of the 64 bits, and in how many of them two hashes may differ to be compared."""

    shift: int
    width: int
    errors: int

    def of(self, hashes: Hashes) -> Hashes:
        return (hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)

    def masks(self) -> list[int]:
        """Every change of at most `errors` bits."""
        return [
            sum(1 << bit for bit in bits)
            for count in range(self.errors + 1)
            for bits in combinations(range(self.width), count)
        ]


def pairs_within(hashes: Hashes, radius: int) -> Iterator[Pairs]:
    """Every pair ``first < second`` of rows whose hashes differ in at most ``radius`` bits, once.

    Comes in parts of bounded size, in an order that depends on ``hashes`` alone. Time grows with
    the pairs found at least: group equal hashes before where there may be many.
    """
    yield from _join(hashes, None, radius)


def pairs_between(hashes: Hashes, others: Hashes, radius: int) -> Iterator[Pairs]:
    """As `pairs_within`, with ``first`` a row of ``hashes`` and ``second`` one of ``others``."""
    yield from _join(hashes, others, radius)


def _join(hashes: Hashes, others: Hashes | None, radius: int) -> Iterator[Pairs]:
    if not 0 <= radius < _BITS:
        raise ValueError(f"radius is {radius}, expected 0 to {_BITS - 1}")
    right = hashes if others is None else others
    if len(hashes) * len(right) <= _FEW:
        yield from _compare_all(hashes, others, radius)
        return
    blocks = _plan(len(hashes), len(right), radius)
    order = _spread(right)
    spread = _permuted(hashes, order)
    spread_right = spread if others is None else _permuted(right, order)
    indexes = [_Index(block, spread_right) for block in blocks]
    compared = sum(index.expected(spread) for index in indexes)
    if compared * _GATHERED > len(hashes) * len(right):
        yield from _compare_all(hashes, others, radius)
        return
    for number, index in enumerate(indexes):
        for pairs in index.search(spread, radius, same=others is None):
            difference = spread[pairs.first] ^ spread_right[pairs.second]
            fresh = np.ones(len(difference), bool)
            for block in blocks[:number]:  # which have found the pair already
                fresh &= np.bitwise_count(block.of(difference)) > block.errors
            found = pairs.where(fresh)
            if others is None:
                first, second = found.first, found.second
                found = found._replace(
                    first=np.minimum(first, second), second=np.maximum(first, second)
                )
            yield found


def _plan(left: int, right: int, radius: int) -> list[_Block]:
    """Blocks that cost least for evenly spread hashes: look-ups, and comparisons they lead to."""

    def cost(count: int) -> float:
        width, errors = _BITS / count, radius // count
        looked_up = count * sum(comb(round(width), k) for k in range(errors + 1))
        return float(looked_up * left * (1 + right / 2**width) + count * 2**width)

    count = min(range(3, max(4, radius + 2)), key=cost)
    edges = [_BITS * k // count for k in range(count + 1)]
    return [_Block(a, b - a, radius // count) for a, b in pairwise(edges)]


def _spread(hashes: Hashes) -> list[int]:
    """The bits from the evenest to the least even, dealt out to fill blocks alike."""
    share = np.array([((hashes >> np.uint64(k)) & np.uint64(1)).mean() for k in range(_BITS)])
    return np.argsort(np.abs(share - 0.5), kind="stable").tolist()


def _permuted(hashes: Hashes, order: list[int]) -> Hashes:
    result = np.zeros_like(hashes)
    for rank, bit in enumerate(order):
        place = rank % 8 * 8 + rank // 8
        result |= ((hashes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place)
    return result


class _Index:
    """The rows of ``hashes`` by their value in one block."""

    def __init__(self, block: _Block, hashes: Hashes) -> None:
        self._block = block
        values = block.of(hashes).astype(np.int64)
        self._rows = np.argsort(values, kind="stable")
        self._hashes = hashes[self._rows]
        self._values = values[self._rows]
        counts = np.bincount(values, minlength=1 << block.width)
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def expected(self, hashes: Hashes) -> float:
        """About how many comparisons a search for all ``hashes`` takes."""
        step = -(-len(hashes) // _SAMPLE)
        values = self._block.of(hashes[::step]).astype(np.int64)
        counts = np.diff(self._starts)
        return float(sum(counts[values ^ mask].sum() for mask in self._block.masks()) * step)

    def search(self, hashes: Hashes, radius: int, *, same: bool) -> Iterator[Pairs]:
        """Pairs of a row of ``hashes`` and one of the index; where ``same``, each pair once."""
        if same:
            rows, sought, values = self._rows, self._hashes, self._values
        else:
            values = self._block.of(hashes).astype(np.int64)
            rows = np.argsort(values, kind="stable")
            sought, values = hashes[rows], values[rows]
        for mask in self._block.masks():
            wanted = values ^ mask
            starts, ends = self._starts[wanted], self._starts[wanted + 1]
            if same and mask:  # of the two ways to see a pair the one that sets the highest bit
                ends = np.where(wanted > values, ends, starts)
            elif same:
                starts = np.arange(1, len(rows) + 1)
            for asked, found in _expand(starts, ends - starts):
                distance = np.bitwise_count(sought[asked] ^ self._hashes[found])
                near = np.flatnonzero(distance <= radius)
                yield Pairs(rows[asked[near]], self._rows[found[near]], distance[near])


def _expand(starts: Rows, counts: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Each ``i`` with each of ``starts[i] … starts[i] + counts[i] - 1``, in parts."""
    asking = np.flatnonzero(counts)
    starts, counts = starts[asking], counts[asking]
    ends = np.cumsum(counts)
    done = 0
    while done < len(asking):
        before = int(ends[done - 1]) if done else 0
        stop = max(done + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        part = counts[done:stop]
        total = int(ends[stop - 1]) - before
        offsets = np.repeat(starts[done:stop] - (ends[done:stop] - part - before), part)
        yield np.repeat(asking[done:stop], part), offsets + np.arange(total)
        done = stop


def _compare_all(hashes: Hashes, others: Hashes | None, radius: int) -> Iterator[Pairs]:
    right = hashes if others is None else others
    height, width = _TILE
    for top in range(0, len(hashes), height):
        rows = hashes[top : top + height, None]
        for left in range(top if others is None else 0, len(right), width):
            distance = np.bitwise_count(rows ^ right[None, left : left + width])
            near = np.flatnonzero(distance <= radius)
            first, second = np.divmod(near, distance.shape[1])
            pairs = Pairs(first + top, second + left, distance.ravel()[near])
            yield pairs if others is not None else pairs.where(pairs.first < pairs.second)
