"""Which images are copies of each other: pixel for pixel, or of the same picture.

A perceptual hash proposes near duplicates, a comparison of small pictures decides. Where A is a
copy of B and B of C, all three are one cluster, though A and C may differ more: no two of them may
be in different splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.console import logger
from pipeline.data.scanning.comparison import glances, resemble, same_picture
from pipeline.data.scanning.fingerprint import SIDE
from pipeline.data.scanning.hamming import Hashes, Pairs, Rows, pairs_between, pairs_within

_RADIUS = 8
_CUTS = (0.01, 0.02)  # what a crop may have lost at each edge, in shares of the image
_PROPOSALS = 64  # per image, on average
_CROWD = 64  # images of one hash, above which not all are compared with all
_LEADERS = 32
_PAIRS = 1 << 13  # decided on at a time
_IMAGES = 1 << 9


def exact_clusters(pixel_hashes: Iterable[str | None]) -> NDArray[np.int64]:
    """A number for each image, equal where the pixels are equal; -1 where there are none.

    Numbered from 0 in the order of first occurrence, so that sorted input gives stable numbers.
    """
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if key is None else numbers.setdefault(key, len(numbers)) for key in pixel_hashes],
        dtype=np.int64,
    )


def near_clusters(
    phashes: Sequence[str | None], fingerprints: NDArray[np.uint8], exact: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A number for each image, equal for near duplicates, exact ones included; -1 where none.

    Numbered as `exact_clusters` numbers them.

    Args:
        phashes: 16 hex digits, or ``None`` for an image without pixels.
        fingerprints: (N, `FINGERPRINT_BYTES`), possibly memory-mapped.
        exact: (N,) what `exact_clusters` gave.
    """
    clusters, firsts, places = np.unique(exact, return_index=True, return_inverse=True)
    known = np.array([phashes[i] is not None for i in firsts.tolist()], bool) & (clusters >= 0)
    rows = firsts[known]
    digits = "".join(str(phashes[i]) for i in rows.tolist())
    hashes = np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)
    components = _Components(len(firsts))
    _connect(components, np.flatnonzero(known), hashes, fingerprints, rows)
    found = components.root(np.arange(len(firsts)))[places]
    return _renumbered(np.where(exact >= 0, found, -1))


def _connect(
    components: _Components,
    nodes: Rows,
    hashes: Hashes,
    fingerprints: NDArray[np.uint8],
    rows: Rows,
) -> None:
    """Join those of ``nodes`` whose images, ``rows`` of ``fingerprints``, are near duplicates."""
    structured = np.flatnonzero(hashes)  # the hash of an image without any structure is 0
    nodes, hashes, rows = nodes[structured], hashes[structured], rows[structured]
    kept = _thin_out_crowds(components, nodes, hashes, fingerprints, rows)
    nodes, hashes, rows = nodes[kept], hashes[kept], rows[kept]
    found = chain(
        pairs_within(hashes, _RADIUS),
        *(pairs_between(hashes, cut, _RADIUS) for cut in _cut_hashes(fingerprints, rows)),
    )
    seen = glances(fingerprints, rows)
    alike = (pairs.where(resemble(seen, pairs.first, pairs.second)) for pairs in found)
    for pairs in _rounds(_proposals(alike, _PROPOSALS * len(rows))):
        open_ = components.root(nodes[pairs.first]) != components.root(nodes[pairs.second])
        first, second = pairs.first[open_], pairs.second[open_]
        same = same_picture(fingerprints, rows[first], rows[second])
        components.join(nodes[first[same]], nodes[second[same]])


def _thin_out_crowds(
    components: _Components,
    nodes: Rows,
    hashes: Hashes,
    fingerprints: NDArray[np.uint8],
    rows: Rows,
) -> Rows:
    """Which are to be compared further, after those of a hash that very many have were joined.

    Of a crowd all are compared with the first, the rest with the first of the rest, and so on for
    at most `_LEADERS` rounds, and only these first ones go on: the work grows with the crowd, not
    with its square.
    """
    order = np.argsort(hashes, kind="stable")
    _, counts = np.unique(hashes, return_counts=True)
    crowded = np.repeat(counts > _CROWD, counts)
    kept, waiting = [order[~crowded]], order[crowded]
    for _ in range(_LEADERS if len(waiting) else 0):
        fresh = np.diff(hashes[waiting], prepend=np.uint64(0)) > 0
        leaders = waiting[fresh]
        kept.append(leaders)
        others, theirs = waiting[~fresh], leaders[np.cumsum(fresh)[~fresh] - 1]
        same = same_picture(fingerprints, rows[theirs], rows[others])
        components.join(nodes[theirs[same]], nodes[others[same]])
        waiting = others[~same]
    if len(waiting):
        logger.warning(
            "near duplicates: %s images share their perceptual hash with many that look different,"
            " and were compared with %d of these only",
            f"{len(waiting):,}",
            _LEADERS,
        )
    return np.sort(np.concatenate(kept))


def _cut_hashes(fingerprints: NDArray[np.uint8], rows: Rows) -> NDArray[np.uint64]:
    """The perceptual hashes that the images would have without each of `_CUTS`: (cuts, rows)."""
    cosines = [_cosines(cut) for cut in _CUTS]
    hashes = np.empty((len(_CUTS), len(rows)), np.uint64)
    for start in range(0, len(rows), _IMAGES):
        block = slice(start, start + _IMAGES)
        pixels = fingerprints[rows[block]].reshape(-1, SIDE, SIDE).astype(np.float32)
        for row, waves in zip(hashes, cosines, strict=True):
            spectra = (waves @ pixels @ waves.T).reshape(-1, 64)
            middle = np.partition(spectra, (31, 32), axis=1)[:, 31:33].mean(axis=1, keepdims=True)
            row[block] = np.packbits(spectra > middle, axis=1).view(">u8")[:, 0]
    return hashes


def _cosines(cut: float) -> NDArray[np.float32]:
    """Waves 1 to 8 over the part of `SIDE` pixels that is left without ``cut`` at each end."""
    edges = np.clip(np.arange(SIDE + 1) / SIDE, cut, 1 - cut)
    inside = np.diff(edges)
    place = (edges[1:] + edges[:-1] - 2 * cut) / 2 / (1 - 2 * cut)
    waves = np.cos(np.pi * np.arange(1, 9)[:, None] * place) * inside
    waves -= waves.sum(axis=1, keepdims=True) * inside / inside.sum()
    return waves.astype(np.float32)


def _proposals(found: Iterable[Pairs], limit: int) -> Pairs:
    """At most ``limit`` pairs, the closest; all of a distance or none."""
    radius = _RADIUS
    nothing = np.empty(0, np.int64)
    kept = [Pairs(nothing, nothing, nothing.astype(np.uint8))]
    counts = np.zeros(_RADIUS + 1, np.int64)
    for part in found:
        pairs = part.where((part.distance <= radius) & (part.first != part.second))
        kept.append(pairs)
        counts += np.bincount(pairs.distance, minlength=_RADIUS + 1)
        while radius and counts[: radius + 1].sum() > max(limit, _PAIRS):
            radius -= 1
            kept = [pairs.where(pairs.distance <= radius) for pairs in kept]
    if radius < _RADIUS:
        logger.warning(
            "near duplicates: many images look alike; only those whose perceptual hashes differ in"
            " at most %d bits, not %d, were compared",
            radius,
            _RADIUS,
        )
    first, second, distance = (np.concatenate(columns) for columns in zip(*kept, strict=True))
    pairs = Pairs(np.minimum(first, second), np.maximum(first, second), distance)
    # Each pair once, at its least distance.
    pairs = pairs.where(np.lexsort((pairs.distance, pairs.first, pairs.second)))
    again = (np.diff(pairs.first) == 0) & (np.diff(pairs.second) == 0)
    return pairs.where(np.flatnonzero(np.concatenate([[True], ~again])[: len(first)]))


def _rounds(pairs: Pairs) -> Iterator[Pairs]:
    """``pairs`` in parts: first the closest of each ``second``, then one more, two more, four more.

    What the first rounds connect need not be asked again: a hundred copies take a hundred
    comparisons, not five thousand.
    """
    pairs = pairs.where(np.lexsort((pairs.first, pairs.distance, pairs.second)))
    starts = np.flatnonzero(np.diff(pairs.second, prepend=-1))
    counts = np.diff(starts, append=len(pairs.second))
    rank = np.arange(len(pairs.second)) - np.repeat(starts, counts)
    number = np.frexp(rank)[1]  # 0, 1, 2, 2, 3, 3, 3, 3, …
    for i in range(int(number.max(initial=-1)) + 1):
        chosen = np.flatnonzero(number == i)
        for start in range(0, len(chosen), _PAIRS):
            yield pairs.where(chosen[start : start + _PAIRS])


class _Components:
    """Disjoint sets of 0 … count - 1, each named by its lowest member."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def root(self, members: Rows) -> Rows:
        roots = self._parent[members]
        while (above := self._parent[roots]).tobytes() != roots.tobytes():
            roots = above
        self._parent[members] = roots
        return roots

    def join(self, first: Rows, second: Rows) -> None:
        while len(first):
            first, second = self.root(first), self.root(second)
            apart = first != second
            first, second = first[apart], second[apart]
            np.minimum.at(self._parent, np.maximum(first, second), np.minimum(first, second))


def _renumbered(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """``numbers`` from 0 in the order of first occurrence; -1 stays."""
    values, firsts, places = np.unique(numbers, return_index=True, return_inverse=True)
    firsts[values < 0] = -1
    order = np.argsort(firsts, kind="stable")
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.count_nonzero(values < 0)
    return ranks[places]
