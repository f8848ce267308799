"""Whether two fingerprints are of the same picture: re-encoded, resized, cut at its edges, toned.

One picture is laid over the other by image registration (Lucas and Kanade, 1981): a stretch and a
shift along each axis, a gain, an offset and a change of blur. Pictures of a series look alike, but
differ nearly everywhere by a little; copies differ by what their encoding left out. So what is left
is measured in grey levels of 255, and may grow with the square root of the contrast only: first at
16 × 16 pixels, where noise is averaged out, then, for the few that pass, at full resolution.
`docs/adr/0011` has the figures behind the limits.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.scanning.fingerprint import PICTURE_BYTES, SIDE

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

_FLAT = 0.5  # grey levels of contrast beside a ramp; with less there is nothing to recognise
_GAIN = (0.5, 2.0)
_FARTHEST = 0.055  # stretch and shift, in halves of the image; 2 % less at each edge are 0.042
_LIKELY_MOVE = 0.02
_NOISE = 0.3  # grey levels

_GLANCE_LIMITS = (1.2, 0.35)  # of pictures not moved: per root of contrast, or per contrast
_COARSE_LIMIT = 0.17  # root mean square of what is left, per root of a grey level of contrast
_FINE_LIMIT = 0.22  # the level that what is left stays below at `_TYPICAL` of the pixels, likewise
_LIMIT = 0.138  # geometric mean of both
_TYPICAL = 0.7
_SPARSE = 3.0  # where most pixels are background, the root mean square by this counts instead
_STEPS = 2
_NOTHING = 1e-6


class _Scale(NamedTuple):
    """A resolution at which fingerprints are compared."""

    side: int
    blur: float
    """Standard deviation of the Gaussian, in halves of the image."""
    margin: int
    """Pixels at each edge that are left out, because a crop may have lost them."""
    block: int
    """Pairs at a time."""


_GLANCE = _Scale(side=10, blur=0.12, margin=1, block=1 << 10)
_COARSE = _Scale(side=16, blur=0.09, margin=1, block=1 << 10)
_FINE = _Scale(side=SIDE, blur=0.0375, margin=2, block=1 << 7)


def glances(fingerprints: NDArray[np.uint8], rows: Rows) -> Floats:
    """The (P, 64) pixels by which `resemble` judges ``rows`` of ``fingerprints`` (N, bytes)."""
    still, _ = _still(_GLANCE)
    seen = np.empty((len(rows), (_GLANCE.side - 2 * _GLANCE.margin) ** 2), np.float32)
    for start in range(0, len(rows), _GLANCE.block):
        block = slice(start, start + _GLANCE.block)
        seen[block] = _inner(_GLANCE, still @ _pixels(fingerprints[rows[block]]) @ still.T)
    return seen


def resemble(seen: Floats, first: Rows, second: Rows) -> Flags:
    """Whether it is worth asking `same_picture`; most look-alikes are told apart at a glance."""
    left, right = seen[first], seen[second]
    common, powers = np.vecdot(left, right), (np.vecdot(left, left), np.vecdot(right, right))
    power, others = np.maximum(*powers), np.minimum(*powers)  # the same whichever comes first
    gain = np.clip(common / np.maximum(power, _FLAT), *_GAIN)
    rms = np.sqrt(np.maximum(others - gain * common, 0) / np.float32(seen.shape[1]) / gain)
    contrast = np.maximum(np.sqrt(power / np.float32(seen.shape[1]) * gain), _FLAT)
    per_root, per_level = _GLANCE_LIMITS
    resembling: Flags = rms <= np.maximum(per_root * np.sqrt(contrast), per_level * contrast)
    return resembling


def same_picture(fingerprints: NDArray[np.uint8], first: Rows, second: Rows) -> Flags:
    """Whether rows ``first`` and ``second`` of ``fingerprints`` (N, bytes) are of one picture.

    Returns:
        (P,) for P pairs. A pair's answer depends on its two fingerprints and on nothing else.
    """
    same = np.zeros(len(first), bool)
    order = np.lexsort((second, first))
    for start in range(0, len(order), _COARSE.block):
        block = order[start : start + _COARSE.block]
        both = np.concatenate([first[block], second[block]])
        images, places = np.unique(both, return_inverse=True)
        pixels = _pixels(fingerprints[images])
        left, right, coarse = coarse_measures(pixels, *np.split(places, 2))
        maybe = np.flatnonzero(coarse.agree)
        for begin in range(0, len(maybe), _FINE.block):
            part = maybe[begin : begin + _FINE.block]
            fine = fine_measures(pixels, left[part], right[part])
            mean = np.sqrt(coarse.left_over[part] * fine.left_over)
            same[block[part]] = fine.agree & (mean <= _LIMIT)
    return same


class Measures(NamedTuple):
    """How well pictures agree, each of shape (P,)."""

    left_over: Floats
    """Per root of a grey level of contrast."""
    agree: Flags


def coarse_measures(pixels: Floats, left: Rows, right: Rows) -> tuple[Rows, Rows, Measures]:
    """Compare pictures ``left`` and ``right`` of ``pixels`` (N, SIDE, SIDE) without moving them.

    Each is taken as the template once, since a crop does not know what it has lost. Returns the
    templates and the pictures of the way that fits better, and how well.
    """
    templates = _Templates(_COARSE, pixels)
    there = templates.left_over(left, right)
    back = templates.left_over(right, left)
    turned = back < there
    least = np.where(turned, back, there)
    detail = _detail(_COARSE, templates.changes[:, 0])
    recognisable = np.minimum(detail[left], detail[right]) >= _FLAT
    measures = Measures(least, recognisable & (least <= _COARSE_LIMIT))
    return np.where(turned, right, left), np.where(turned, left, right), measures


def fine_measures(pixels: Floats, left: Rows, right: Rows) -> Measures:
    """Compare them at full resolution, ``right`` moved to where it fits ``left`` best."""
    templates = _Templates(_FINE, pixels[left])
    pictures, every = pixels[right], np.arange(len(left))
    move = np.zeros((len(left), 4), np.float32)
    for _ in range(_STEPS + 1):
        across, down = (_weights(_FINE, move[:, k : k + 2])[0] for k in (0, 2))
        laid: Floats = down @ pictures @ across.mT
        seen = _inner(_FINE, laid)
        share, _ = templates.shares(every, seen)
        gain = np.clip(share[:, 0], *_GAIN)
        move = np.clip(move - share[:, 3:] / gain[:, None], -_FARTHEST, _FARTHEST)
    # In units that are the same whichever of the two was the template.
    left_over = np.abs(seen - (share[:, None] @ templates.changes)[:, 0]) / np.sqrt(gain)[:, None]
    rank = int(_TYPICAL * left_over.shape[1])
    typical = np.partition(left_over, rank, axis=1)[:, rank]
    typical = np.maximum(typical, _deviation(left_over) / np.float32(_SPARSE))
    typical /= np.sqrt(np.maximum(templates.contrast * np.sqrt(gain), _FLAT))
    moderate = (gain == share[:, 0]) & (np.abs(move).max(axis=1) < _FARTHEST)
    return Measures(typical, moderate & (typical <= _FINE_LIMIT))


class _Templates:
    """Pictures that others are laid over, and how a picture changes when it is toned or moved."""

    def __init__(self, scale: _Scale, pixels: Floats) -> None:
        still, slope = _still(scale)
        softer, _ = _still(scale._replace(blur=1.25 * scale.blur))
        pictures: Floats = still @ pixels @ still.T  # (N, side, side)
        across, down = still @ pixels @ slope.T, slope @ pixels @ still.T
        place = _centres(scale.side)
        moved = (across * place, across, down * place[:, None], down)
        blurred = softer @ pixels @ softer.T - pictures
        curved = (pictures - pictures.mean(axis=(1, 2), keepdims=True)) ** 2 / 128
        self.changes = _inner(scale, np.stack([pictures, curved, blurred, *moved], axis=1))
        """(N, 7, D): the picture, and how it changes by a tone curve, blur, stretch and shift."""
        self.contrast = _deviation(self.changes[:, 0])
        normal = (self.changes @ self.changes.mT).astype(np.float64)
        ridge = np.diag([*[1e-3] * 3, *[(_NOISE / _LIKELY_MOVE) ** 2] * 4])
        self._inverse = np.linalg.inv(normal + ridge).astype(np.float32)

    def shares(self, rows: Rows, seen: Floats) -> tuple[Floats, Floats]:
        """How much of each change (P, 7) explains ``seen`` (P, D) best, and what each covers."""
        covered = self.changes[rows] @ seen[..., None]
        share = self._inverse[rows] @ covered
        return share[..., 0], covered[..., 0]

    def left_over(self, rows: Rows, others: Rows) -> Floats:
        """What templates ``rows`` leave of others (P,), as they are, per root of contrast."""
        seen = self.changes[others, 0]
        share, covered = self.shares(rows, seen)
        gain = np.maximum(share[:, 0], _GAIN[0])
        # The square of what is left, without making it. The ridge takes a little too little away.
        power = np.vecdot(seen, seen) - np.vecdot(share, covered)
        rms = np.sqrt(np.maximum(power, 0) / np.float32(seen.shape[1]) / gain)
        contrast = self.contrast[rows] * np.sqrt(gain)
        return rms / np.sqrt(np.maximum(contrast, _FLAT))


def _pixels(fingerprints: NDArray[np.uint8]) -> Floats:
    return fingerprints[:, :PICTURE_BYTES].reshape(-1, SIDE, SIDE).astype(np.float32)


@cache
def _still(scale: _Scale) -> tuple[Floats, Floats]:
    weights, slopes = _weights(scale, np.zeros((1, 2), np.float32))
    return weights[0], slopes[0]


def _detail(scale: _Scale, pictures: Floats) -> Floats:
    """The contrast of pictures (N, D) beside a ramp, which looks the same wherever it is cut."""
    place: Floats = np.tile(_centres(scale.side), (scale.side, 1))
    ramps = _inner(scale, np.stack([place, place.T]))
    ramps /= np.sqrt(np.vecdot(ramps, ramps))[:, None]
    return _deviation(pictures - pictures @ ramps.T @ ramps)


def _deviation(levels: Floats) -> Floats:
    """The root mean square of levels (N, D)."""
    deviation: Floats = np.sqrt(np.vecdot(levels, levels) / np.float32(levels.shape[1]))
    return deviation


def _weights(scale: _Scale, move: Floats) -> tuple[Floats, Floats]:
    """What blurs, resamples and moves rows (P, side, SIDE), and its slope in the shift.

    ``move`` (P, 2) is a stretch and a shift.
    """
    wanted = _centres(scale.side) * (1 + move[:, :1]) + move[:, 1:]
    away = np.clip(wanted, -1, 1)[:, :, None] - _centres(SIDE)
    weights = np.exp((away / np.float32(scale.blur)) ** 2 / -2)
    weights[weights < _NOTHING] = 0  # or numbers too small for the processor's fast path
    weights /= weights.sum(axis=2, keepdims=True)
    slopes = weights * away / np.float32(-(scale.blur**2))
    slopes -= weights * slopes.sum(axis=2, keepdims=True)
    return weights, slopes


def _centres(side: int) -> Floats:
    """Where the pixels of a row are, from -1 to 1."""
    return ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)


def _inner(scale: _Scale, pictures: Floats) -> Floats:
    """The pixels (…, D) of pictures (…, side, side) inside the margin, less their mean."""
    inside = slice(scale.margin, scale.side - scale.margin)
    flat = pictures[..., inside, inside].reshape(*pictures.shape[:-2], -1)
    return flat - flat.mean(axis=-1, keepdims=True)
