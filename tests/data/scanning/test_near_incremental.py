"""Near duplicates of data that grows and shrinks: the same as if all were searched at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.scanning import duplicates
from pipeline.data.scanning.duplicates import Known, Near, exact_clusters, near_clusters
from pipeline.data.scanning.fingerprint import FINGERPRINT_BYTES
from pipeline.data.scanning.incremental import known_clusters
from pipeline.data.scanning.scan_cache import Remembered
from tests.data.pictures import COPIES, Seen, cells, cropped, scene, seen

KINDS = ("JPEG 60", "× 0.3", "cropped by 2 %", "darker")


@cache
def pool() -> list[Seen | None]:
    """Families of copies, cells that look alike, a chain, and a file without pixels."""
    images: list[Seen | None] = [None]
    for image in [*(scene(seed) for seed in range(3)), *cells(1280, 4)]:
        images += [seen(image), *(seen(COPIES[kind](image)) for kind in KINDS)]
    chain = scene(5, size=(640, 480))
    images += [seen(cropped(chain, *[0.015 * step] * 4)) for step in range(5)]
    return images


def search(images: Sequence[Seen | None], known: Known | None = None) -> Near:
    blank = bytes(FINGERPRINT_BYTES)
    table = b"".join(blank if image is None else image.fingerprint for image in images)
    fingerprints = np.frombuffer(table, np.uint8).reshape(len(images), len(blank))
    exact = exact_clusters(None if image is None else image.pixels for image in images)
    return near_clusters([image and image.phash for image in images], fingerprints, exact, known)


def pixels(images: Sequence[Seen | None]) -> pa.ChunkedArray:
    return pa.chunked_array([[image and image.pixels for image in images]], pa.string())


def search_again(
    images: Sequence[Seen | None], old: Sequence[Seen | None], found: Near
) -> tuple[Near, Known | None]:
    """As a scan does that remembers what was ``found`` among ``old``."""
    table = pa.table({"pixel_hash": pixels(old), "near_cluster": found.clusters})
    known = known_clusters(pixels(images), Remembered(table, Path(), "", found.proposals))
    return search(images, known), known


@cache
def alike() -> list[Seen | None]:
    """The same, as if all their hashes were equal or nearly so."""
    return [
        image and replace(image, phash=f"{0xF0F0 ^ (1 << i % 4):016x}")
        for i, image in enumerate(pool())
    ]


def numbers(first: int = 0) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(first, len(pool()) - 1), max_size=20)


def assert_the_same(images: list[Seen | None], steps: Sequence[list[int]]) -> None:
    old = [images[i] for i in steps[0]]
    found = search(old)
    for step in steps[1:]:
        now = [images[i] for i in step]
        again, _ = search_again(now, old, found)
        assert again.clusters.tolist() == search(now).clusters.tolist()
        old, found = now, again


@settings(max_examples=20, deadline=None)
@given(st.tuples(numbers(), numbers(), numbers()))
def test_the_result_is_that_of_a_search_among_all(steps):
    """Images come and go, in any order, some with an exact copy."""
    assert_the_same(pool(), steps)


@settings(max_examples=20, deadline=None)
@given(st.tuples(numbers(-5), numbers(-5)))
def test_it_is_so_where_only_the_hash_of_a_crop_finds_a_pair(steps):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "_RADIUS", 2)
        assert_the_same(pool(), steps)


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.lists(st.integers(-5, -1)), st.lists(st.integers(-5, -1))))
def test_it_is_so_where_a_chain_loses_links(steps):
    assert_the_same(pool(), steps)


@settings(max_examples=20, deadline=None)
@given(st.tuples(numbers(), numbers(), numbers()))
@pytest.mark.parametrize(("limit", "few"), [("_CROWD", 2), ("_PROPOSALS", 1)])
def test_it_is_so_where_what_is_compared_depends_on_all(limit, few, steps):
    """Crowds of one hash, and more proposals than are looked at."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(duplicates, "_LEADERS", 1)
        patched.setattr(duplicates, "_PAIRS", 8)
        patched.setattr(duplicates, limit, few)
        assert_the_same(alike(), steps)


@pytest.fixture
def compared(monkeypatch) -> list[int]:
    """How many pairs each comparison of pictures was asked for."""
    asked: list[int] = []
    same_picture = duplicates.same_picture

    def counted(fingerprints, first, second):
        asked.append(len(first))
        return same_picture(fingerprints, first, second)

    monkeypatch.setattr(duplicates, "same_picture", counted)
    return asked


def test_what_was_compared_is_not_compared_again(compared):
    found = search(pool())
    everything = sum(compared)
    compared.clear()
    again, known = search_again(pool(), pool(), found)
    assert known is not None
    assert (sum(compared), again.clusters.tolist()) == (0, found.clusters.tolist())
    new = seen(COPIES["JPEG 60"](scene(9)))
    search_again([*pool(), new], pool(), found)
    assert sum(compared) < everything / 4


def test_a_cluster_that_loses_its_middle_falls_apart():
    chain = pool()[-5:]
    found = search(chain)
    assert found.clusters.tolist() == [0] * 5
    again, _ = search_again([chain[0], chain[4]], chain, found)
    assert again.clusters.tolist() == [0, 1]


def test_a_copy_of_the_one_that_goes_keeps_the_cluster_together(compared):
    chain = pool()[-5:]
    old = [*chain, chain[2]]
    found = search(old)
    compared.clear()
    again, _ = search_again([*chain[:2], *chain[3:], chain[2]], old, found)
    assert again.clusters.tolist() == [0] * 5
    assert sum(compared) == 0


def test_a_crop_is_found_whichever_of_the_two_comes_later(monkeypatch):
    """Even where only the hash that the whole image would have as a crop finds it."""
    monkeypatch.setattr(duplicates, "_RADIUS", 2)
    cut = 0
    for image in cells(1290, 6):
        both = [seen(image), seen(COPIES["cropped by 2 %"](image))]
        together = search(both).clusters.tolist()
        apart = (int(both[0].phash, 16) ^ int(both[1].phash, 16)).bit_count() > 2
        cut += apart and together == [0, 0]
        for earlier in both:
            again, _ = search_again(both, [earlier], search([earlier]))
            assert again.clusters.tolist() == together
    assert cut >= 2


def test_more_proposals_in_all_than_are_looked_at_are_noticed(monkeypatch):
    half, everything = pool()[: len(pool()) // 2], pool()
    proposals = search(everything).proposals
    found = search(half)
    assert found.proposals is not None
    assert proposals is not None
    assert 0 < found.proposals < proposals
    assert search_again(everything, half, found)[0].proposals == proposals
    monkeypatch.setattr(duplicates, "_PROPOSALS", 0)
    monkeypatch.setattr(duplicates, "_PAIRS", proposals - 1)
    assert search_again(everything, half, found)[0].proposals is None
