from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation import gallery
from pipeline.evaluation.gallery import CELL_IMAGES, confusion_cells, worst_mistakes
from pipeline.vision.metrics import confusion_matrix
from tests.evaluation.synthetic import make_packed, make_predictions


def pixels_of(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_surest_mistakes_come_first_with_their_own_pictures(channels):
    packed = make_packed(300, 3, channels=channels)
    predictions = make_predictions(packed, skill=0.5)
    mistakes = worst_mistakes(packed, predictions, 10)
    assert len(mistakes) == 10
    assert sorted((m.confidence for m in mistakes), reverse=True) == [
        m.confidence for m in mistakes
    ]
    sample = predictions.samples["test"]
    assert mistakes[0].confidence == sample.confidence[~sample.correct].max()
    for mistake in mistakes:
        row = packed.index.index[packed.index["file_name"] == mistake.file_name][0]
        assert packed.index["split"][row] == "test"
        assert packed.index["label"][row] == mistake.truth != mistake.predicted
        np.testing.assert_array_equal(pixels_of(mistake.picture), packed.images[row].squeeze())


def test_large_images_are_shown_smaller():
    packed = make_packed(60, 2, side=200)
    mistakes = worst_mistakes(packed, make_predictions(packed, skill=-3), 3)
    assert {m.side for m in mistakes} == {gallery.MAX_SIDE}
    assert pixels_of(mistakes[0].picture).shape == (gallery.MAX_SIDE,) * 2


def test_pictures_stay_within_the_reports_size(monkeypatch):
    packed = make_packed(90, 2)
    predictions = make_predictions(packed, skill=-3)
    everything = worst_mistakes(packed, predictions, 30)
    room = sum(len(m.picture) for m in everything[:7])
    monkeypatch.setattr(gallery, "MAX_BYTES", room)
    assert worst_mistakes(packed, predictions, 30) == everything[:7]


def test_no_mistakes_and_none_asked_for_are_both_an_empty_gallery():
    packed = make_packed(60, 2)
    assert worst_mistakes(packed, make_predictions(packed, skill=60), 24) == []
    assert worst_mistakes(packed, make_predictions(packed, skill=-3), 0) == []


def test_equal_mistakes_keep_the_order_of_the_files():
    packed = make_packed(60, 2)
    predictions = make_predictions(packed, skill=0)
    table = predictions.table.copy()
    table[["p_bar", "p_disc"]] = np.where(table[["target"]] == 0, [0.1, 0.9], [0.9, 0.1])
    mistakes = worst_mistakes(packed, dataclasses.replace(predictions, table=table), 60)
    names = [m.file_name for m in mistakes]
    assert names == sorted(names)
    assert len(names) == 20


def test_a_cell_shows_the_surest_of_its_own_images():
    packed = make_packed(300, 3)
    predictions = make_predictions(packed, skill=0.5)
    cells = confusion_cells(packed, predictions)
    sample = predictions.samples["test"]
    assert [[cell.count for cell in row] for row in cells] == confusion_matrix(sample).tolist()
    for i, row in enumerate(cells):
        assert sum(cell.share for cell in row) == pytest.approx(1.0)
        for j, cell in enumerate(row):
            assert len(cell.shown) == min(cell.count, CELL_IMAGES)
            names = {(each.truth, each.predicted) for each in cell.shown}
            assert names <= {(packed.classes[i], packed.classes[j])}
            inside = sample.confidence[(sample.targets == i) & (sample.predicted == j)]
            if len(inside):
                assert cell.shown[0].confidence == inside.max()


def test_mistakes_have_their_pictures_before_right_answers(monkeypatch):
    packed = make_packed(120, 2)
    predictions = make_predictions(packed, skill=1.0)
    monkeypatch.setattr(gallery, "MAX_BYTES", 8_000)
    cells = confusion_cells(packed, predictions)
    for i, j in ((0, 1), (1, 0)):
        assert len(cells[i][j].shown) == min(cells[i][j].count, CELL_IMAGES) > 0
    assert len(cells[1][1].shown) < min(cells[1][1].count, CELL_IMAGES)
