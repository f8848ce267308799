"""Which images are copies of each other: pixel for pixel, or of the same picture.

A perceptual hash proposes near duplicates, a comparison of small pictures decides. Where A is a
copy of B and B of C, all three are one cluster, though A and C may differ more: no two of them may
be in different splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.console import logger
from pipeline.data.scanning.comparison import glances, resemble, same_picture
from pipeline.data.scanning.fingerprint import cut_hashes
from pipeline.data.scanning.hamming import Hashes, Pairs, Rows, pairs_between, pairs_within

_RADIUS = 8
_PROPOSALS = 64  # per image, on average
_CROWD = 64  # images of one hash, above which not all are compared with all
_LEADERS = 32
_PAIRS = 1 << 13  # decided on at a time


def exact_clusters(pixel_hashes: Iterable[str | None]) -> NDArray[np.int64]:
    """A number for each image, equal where the pixels are equal; -1 where there are none.

    Numbered from 0 in the order of first occurrence, so that sorted input gives stable numbers.
    """
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if key is None else numbers.setdefault(key, len(numbers)) for key in pixel_hashes],
        dtype=np.int64,
    )


class Near(NamedTuple):
    """Near duplicates, and what the next search has to know about this one."""

    clusters: NDArray[np.int64]
    """(N,) A number for each image, equal for near duplicates, exact ones included; -1 where none.

    Numbered as `exact_clusters` numbers them."""
    proposals: int | None
    """At most how many pairs looked alike; ``None`` where not all of these were compared."""


class Known(NamedTuple):
    """What an earlier search found."""

    clusters: NDArray[np.int64]
    """(N,) For each of the images now the cluster it was in then; -1 where it is new, or where
    images have gone of those by which that cluster held together."""
    proposals: int


def near_clusters(
    phashes: Sequence[str | None],
    fingerprints: NDArray[np.uint8],
    exact: NDArray[np.int64],
    known: Known | None = None,
) -> Near:
    """Find near duplicates; where an earlier search is ``known``, only what is new is compared.

    What comes out is the same with and without ``known``.

    Args:
        phashes: 16 hex digits, or ``None`` for an image without pixels.
        fingerprints: (N, `FINGERPRINT_BYTES`), possibly memory-mapped.
        exact: (N,) what `exact_clusters` gave.
        known: of the same fingerprints.
    """
    clusters, firsts, places = np.unique(exact, return_index=True, return_inverse=True)
    readable = np.array([phashes[i] is not None for i in firsts.tolist()], bool) & (clusters >= 0)
    rows = firsts[readable]
    digits = "".join(str(phashes[i]) for i in rows.tolist())
    hashes = np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)
    nodes = np.flatnonzero(readable)
    structured = np.flatnonzero(hashes)  # the hash of an image without any structure is 0
    images = _Images(nodes, rows, hashes, fingerprints).where(structured)
    components, proposals = None, None
    if known is not None:
        components = _Components(len(firsts))
        before = np.full(len(firsts), -1)
        np.maximum.at(before, places, known.clusters)
        proposals = _extend(components, before, images, known.proposals)
    if components is None or proposals is None:
        components = _Components(len(firsts))
        proposals = _connect(components, images)
    found = components.root(np.arange(len(firsts)))[places]
    return Near(_renumbered(np.where(exact >= 0, found, -1)), proposals)


class _Images(NamedTuple):
    """Images that differ: their numbers, rows of ``fingerprints`` and perceptual hashes."""

    nodes: Rows
    rows: Rows
    hashes: Hashes
    fingerprints: NDArray[np.uint8]

    def where(self, chosen: Rows) -> _Images:
        return _Images(
            self.nodes[chosen], self.rows[chosen], self.hashes[chosen], self.fingerprints
        )


def _connect(components: _Components, images: _Images) -> int | None:
    """Join all near duplicates; returns `Near.proposals`."""
    kept = _thin_out_crowds(components, images)
    crowded = len(kept) < len(images.rows)
    images = images.where(kept)
    found = chain(
        pairs_within(images.hashes, _RADIUS),
        *(pairs_between(images.hashes, cut, _RADIUS) for cut in _cut(images)),
    )
    pairs, count = _proposals(_alike(found, images), _PROPOSALS * len(images.rows))
    _join(components, pairs, images)
    return None if crowded else count


def _extend(
    components: _Components, before: NDArray[np.int64], images: _Images, proposals: int
) -> int | None:
    """Join what ``before`` has together, and the near duplicates of the images that it has not.

    Returns `Near.proposals`, or ``None`` where images look so alike that what is compared depends
    on all of them.
    """
    order = np.argsort(before, kind="stable")
    same = order[1:][(np.diff(before[order]) == 0) & (before[order[1:]] >= 0)]
    components.join(order[np.searchsorted(before, before[same], sorter=order)], same)
    if np.unique(images.hashes, return_counts=True)[1].max(initial=0) > _CROWD:
        return None
    fresh = before[images.nodes] < 0
    new, rest, every = np.flatnonzero(fresh), np.flatnonzero(~fresh), np.arange(len(fresh))
    hashes, cuts = images.hashes, _cut(images)
    found = [
        *(pairs.of(new, new) for pairs in pairs_within(hashes[new], _RADIUS)),
        *(pairs.of(new, rest) for pairs in pairs_between(hashes[new], hashes[rest], _RADIUS)),
    ]
    for cut in cuts:
        found += [p.of(new, every) for p in pairs_between(hashes[new], cut, _RADIUS)]
        found += [p.of(new, rest) for p in pairs_between(cut[new], hashes[rest], _RADIUS)]
    limit = max(_PROPOSALS * len(hashes), _PAIRS) - proposals
    pairs, count = _proposals(_alike_of_few(found, images), limit)
    if count is None or count > limit:
        return None
    _join(components, pairs, images)
    return proposals + count


def _cut(images: _Images) -> Hashes:
    return cut_hashes(images.fingerprints, images.rows)


def _alike(found: Iterable[Pairs], images: _Images) -> Iterator[Pairs]:
    """The pairs that are worth a comparison."""
    seen = glances(images.fingerprints, images.rows)
    return (pairs.where(resemble(seen, pairs.first, pairs.second)) for pairs in found)


def _alike_of_few(found: list[Pairs], images: _Images) -> Iterator[Pairs]:
    """The same, without a look at images that are in no pair."""
    if not found:
        return iter(())
    whole = Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
    asked, places = np.unique(np.concatenate([whole.first, whole.second]), return_inverse=True)
    first, second = np.split(places, 2)
    few = Pairs(first, second, whole.distance)
    return (pairs.of(asked, asked) for pairs in _alike([few], images.where(asked)))


def _join(components: _Components, proposed: Pairs, images: _Images) -> None:
    """Join those of the pairs ``proposed`` of ``images`` that are near duplicates."""
    for pairs in _rounds(proposed):
        nodes = images.nodes[pairs.first], images.nodes[pairs.second]
        open_ = components.root(nodes[0]) != components.root(nodes[1])
        first, second = pairs.first[open_], pairs.second[open_]
        same = same_picture(images.fingerprints, images.rows[first], images.rows[second])
        components.join(images.nodes[first[same]], images.nodes[second[same]])


def _thin_out_crowds(components: _Components, images: _Images) -> Rows:
    """Which are to be compared further, after those of a hash that very many have were joined.

    Of a crowd all are compared with the first, the rest with the first of the rest, and so on for
    at most `_LEADERS` rounds, and only these first ones go on: the work grows with the crowd, not
    with its square.
    """
    nodes, rows, hashes, fingerprints = images
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


def _proposals(found: Iterable[Pairs], limit: int) -> tuple[Pairs, int | None]:
    """At most ``limit`` pairs, the closest; all of a distance or none.

    Also returns how many were ``found``, or ``None`` where these are not all.
    """
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
    pairs = pairs.where(np.flatnonzero(np.concatenate([[True], ~again])[: len(first)]))
    return pairs, int(counts.sum()) if radius == _RADIUS else None


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
