"""reference.json: small, the same for the same data, and honest about what is new."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pipeline.artifacts import write_text
from pipeline.data.validation.reference import (
    Reference,
    compare,
    read_reference,
    to_table,
    write_reference,
)
from pipeline.errors import ConfigurationError
from tests.manifests import manifest_frame


def images(first: int, count: int, **columns):
    """Rows of images numbered from ``first``, with the hashes of their numbers."""
    hashes = [hashlib.sha256(str(first + i).encode()).hexdigest() for i in range(count)]
    rng = np.random.default_rng(first)
    given = {"sha256": hashes, "brightness": rng.uniform(0.3, 0.6, count).tolist()} | columns
    return manifest_frame(["cat", "owl"] * (count // 2), **given)


def names(comparisons):
    return {comparison.name for comparison in comparisons}


def drifted(comparisons):
    return {comparison.name for comparison in comparisons if comparison.drift > 0.1}


def test_it_is_read_as_it_was_written_and_the_same_bytes_each_time(tmp_path):
    reference = Reference.of(images(0, 200, cell=["a", "b"] * 100, serial=list(range(200))))
    path = tmp_path / "reference.json"
    write_reference(path, reference)
    first = path.read_bytes()
    assert read_reference(path) == reference
    write_reference(path, Reference.of(images(0, 200, cell=["a", "b"] * 100, serial=range(200))))
    assert path.read_bytes() == first
    assert b'"cell": {"shares": {"a": 0.5, "b": 0.5}},\n' in first  # a line for each column
    assert reference.columns == {
        "cell": "text",
        "label": "text",
        "serial": "number",
        "weight": "number",
    }


def test_it_stays_small_whatever_the_data(tmp_path):
    path = tmp_path / "reference.json"
    write_reference(path, Reference.of(images(0, 20_000)))
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("known", [300, 20_000])
def test_newcomers_are_told_from_images_it_had(known):
    reference = Reference.of(images(0, known))
    later = images(0, known + 4000)
    new = reference.newcomers(later)
    assert not new[:known].any()
    share = min(1.0, 4096 / known)
    assert new[known:].mean() == pytest.approx(share, abs=0.03)
    assert not reference.newcomers(later[:known]).any()
    assert not reference.newcomers(images(known, 2000)).any()  # none is old: no batch, but all data


def test_a_bad_batch_is_seen_though_the_whole_hardly_moves():
    reference = Reference.of(images(0, 2000))
    later = images(0, 2100)
    later.loc[2000:, "brightness"] = 0.9
    found = compare(reference, later, None)
    assert drifted(found) == {"new images: brightness"}
    assert {"brightness", "new images: brightness", "label", "width"} <= names(found)


def test_more_of_the_same_is_no_drift():
    assert drifted(compare(Reference.of(images(0, 2000)), images(0, 2100), None)) == set()


def test_groups_are_new_in_every_batch_and_not_compared():
    old = images(0, 200, group=["a"] * 200, module=["m1"] * 200)
    new = images(200, 200, group=["b"] * 200, module=["m2"] * 200)
    assert drifted(compare(Reference.of(old), new, "module")) == set()
    assert drifted(compare(Reference.of(old), new, None)) == {"module"}


def test_columns_are_new_lost_or_of_another_type():
    old = Reference.of(images(0, 40, seat=[1] * 40, row=[2] * 40, camera=["a"] * 40))
    new = images(0, 40, seat=["x"] * 40, row=[2.5] * 40, lens=["f"] * 40)
    table = to_table(old, new, compare(old, new, None)).set_index("column")
    assert table.loc[["camera", "lens", "seat", "row"], "presence"].tolist() == [
        "lost",
        "new",
        "same",
        "same",
    ]
    assert table.loc["seat", "type_change"] == "number → text"
    assert table["type_change"].notna().sum() == 1  # 2 and 2.5 are both numbers
    assert table["label_drift"].notna().sum() == 1
    assert np.isnan(table.loc["label", "drift"])


def test_a_given_column_that_is_empty_is_not_there():
    old = Reference.of(images(0, 4, split=["train", "train", "val", "test"]))
    table = to_table(old, images(0, 4), []).set_index("column")
    assert table.loc["split", "presence"] == "lost"


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"format": 2}', '{"images": 3}', '"text"'], ids=["a", "b", "c", "d", "e"]
)
def test_a_file_of_another_kind_is_refused_with_its_cure(tmp_path, text):
    path = tmp_path / "reference.json"
    write_text(path, text)
    with pytest.raises(ConfigurationError, match=r"not a reference .*accept-reference"):
        read_reference(path)


def test_no_file_and_an_empty_one_are_no_reference(tmp_path):
    path = tmp_path / "reference.json"
    assert read_reference(path) is None
    write_reference(path, None)
    assert read_reference(path) is None


def test_it_knows_its_classes_however_many_there_are(tmp_path):
    labels = [f"class {number:03}" for number in range(300) for _ in range(2)]
    path = tmp_path / "reference.json"
    write_reference(path, Reference.of(images(0, len(labels), label=labels)))
    reference = read_reference(path)
    assert reference is not None
    assert reference.knows_a_class_of(["class 299", "other"])
    assert not reference.knows_a_class_of(["other"])


def test_the_committed_reference_is_of_the_default_data(project):
    reference = read_reference(project / "reference.json")
    assert reference is not None
    assert reference.images == 2624
    assert reference.columns["cell_type"] == "text"
    assert reference.knows_a_class_of(["functional", "defective"])
    assert not reference.knows_a_class_of(["cat", "dog"])
