"""Validate: bad images are set aside with their reasons, unusable data stops the run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import write_json
from pipeline.data.manifest import read_table, write_table
from pipeline.data.validation.reference import read_reference
from pipeline.data.validation.validate import accept_reference, forget_reference, validate
from pipeline.errors import DataRefused
from pipeline.workspace import Workspace
from tests.images import encoded, picture
from tests.manifests import manifest_table
from tests.validation import PARAMS as DEFAULTS

PARAMS = DEFAULTS.model_copy(
    update={"formats": ("PNG",), "modes": ("L",), "max_imbalance": 3.0, "quarantine_budget": 0.25}
)
LABELS = ["cat", "owl"] * 6


@pytest.fixture
def workspace(tmp_path) -> Callable[..., Workspace]:
    def make(labels=LABELS, **columns) -> Workspace:
        made = Workspace(tmp_path)
        write_table(made.manifest, manifest_table(labels, **columns))
        write_json(made.classes, {"classes": ["cat", "owl"]})
        return made

    return make


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def quarantine(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False).set_index("file_name")


def test_sound_data_is_accepted_whole(workspace, caplog):
    caplog.set_level("INFO", "pipeline")
    here = workspace()
    validate(here, PARAMS, group=None)
    assert read_table(here.accepted).equals(read_table(here.manifest))
    assert quarantine(here.quarantine).empty
    result = json.loads((here.validation / "result.json").read_text())
    assert result["verdict"] == "accepted"
    assert result["classes"] == {"cat": 6, "owl": 6}
    assert "12 of 12 images accepted, 0 set aside" in caplog.text


def test_bad_images_are_set_aside_with_all_their_reasons(workspace):
    here = workspace(
        status=["truncated", "ok", "unlisted"],
        error=["image file is truncated", None, "not in metadata.csv"],
        mode=[None, "CMYK", None],
        width=[None, 9, None],
    )
    validate(here, PARAMS, group=None)
    aside = quarantine(here.quarantine)
    assert aside.loc["images/00000.png", "reasons"] == (
        "the image is cut short (image file is truncated)"
    )
    assert aside.loc["images/00001.png", "reasons"] == (
        "its pixel mode is not allowed (CMYK: the inks of a printer); its shorter side has too few"
        " pixels (9)"
    )
    assert "validation.modes" in aside.loc["images/00001.png", "remedy"]
    assert "does not list it" in aside.loc["images/00002.png", "reasons"]
    accepted = read_table(here.accepted)["file_name"].to_pylist()
    assert accepted == [f"images/{i:05}.png" for i in range(3, 12)]
    assert read_table(here.accepted).schema == read_table(here.manifest).schema


def test_more_bad_images_than_the_budget_refuse_the_data(workspace):
    here = workspace(status=["empty"] * 4)
    with pytest.raises(DataRefused) as caught:
        validate(here, PARAMS, group=None)
    message = str(caught.value)
    page = here.state / "validation" / "index.html"
    assert "4 of 12 images fail a critical check, more than 25.0%" in message
    assert "ingest the source again, or raise that share" in message
    assert "images/00000.png, images/00001.png, images/00002.png, …" in message
    assert "Copy it anew from where it came from" in message
    assert str(page) in message
    assert page.is_file()
    assert len(quarantine(page.parent / "quarantine.csv")) == 4
    assert not here.accepted.exists()
    assert not here.validation.exists()


def test_the_budget_is_exact(workspace):
    here = workspace(status=["empty"] * 3)
    validate(here, PARAMS, group=None)
    assert len(quarantine(here.quarantine)) == 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat"] * 6, "single_class: there are fewer than two classes to tell apart; found 1"),
        (["cat"] * 6, "empty_class: a class of data/classes.json has no image"),
        (["cat"] * 3 + ["owl"], "images_per_class: a class has too few images; 1 image (owl)"),
        (["cat"] * 7 + ["owl"] * 2, "raise validation.max_imbalance"),
    ],
)
def test_a_failing_dataset_check_refuses_the_data(workspace, labels, message):
    with pytest.raises(DataRefused) as caught:
        validate(workspace(labels), PARAMS, group=None)
    assert message in str(caught.value)


def test_dataset_checks_count_only_images_that_are_used(workspace):
    here = workspace(["cat"] * 8 + ["owl"] * 3, status=["ok"] * 9 + ["missing"] * 2)
    with pytest.raises(DataRefused, match="1 image"):
        validate(here, PARAMS, group=None)


def test_copies_with_different_labels_are_all_set_aside(workspace):
    here = workspace(duplicate_cluster=[7, 7])
    validate(here, PARAMS, group=None)
    assert list(quarantine(here.quarantine).index) == ["images/00000.png", "images/00001.png"]


def test_groups_across_given_splits_are_refused_where_groups_are_named(workspace):
    here = workspace(module=["m1", "m2", "m1"], split=["train", "train", "test"])
    validate(here, PARAMS, group=None)
    with pytest.raises(DataRefused, match="group_across_splits"):
        validate(here, PARAMS, group="module")


def test_the_same_data_gives_the_same_bytes_anywhere(workspace, monkeypatch):
    here = workspace(mode=["CMYK"])
    validate(here, PARAMS, group=None)
    first = files(here.artifacts)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    shutil.rmtree(here.validation)
    validate(here, PARAMS, group=None)
    assert files(here.artifacts) == first
    assert "validation/docs/index.html" in first
    assert str(here.root).encode() not in b"".join(first.values())


HOSTILE = "images/<img src=x onerror=alert(1)>\u202egpj.exe"


def test_the_pages_show_what_failed_and_obey_nothing_that_the_data_says(workspace, caplog):
    attack = "<script>alert(1)</script>"
    labels = [attack, attack, *["cat", "owl"] * 60]
    here = workspace(
        labels,
        file_name=[HOSTILE, "images/00001.png", "images/\x1b[31m.png"],
        mode=[None, "RGBA"],
        sharpness=[0.0] * 122,
        status=["ok", "ok", "crashed"],
    )
    for name in ("images/00001.png", "images/\x1b[31m.png"):
        (here.data / name).parent.mkdir(exist_ok=True)
        (here.data / name).write_bytes(encoded(picture(mode="RGBA")))
    caplog.set_level("INFO", "pipeline")
    validate(here, PARAMS, group=None)
    page = (here.validation / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "images/&lt;img src=x onerror=alert(1)&gt;\\u202egpj.exe" in page
    assert "images/\\x1b[31m.png" in page
    assert "\x1b" not in caplog.text
    shown = page.count('src="data:image/jpeg;base64,')
    assert shown == page.count("images/00001.png")  # the file that crashed a decoder is not opened
    assert page.count("<figure>") < 100
    assert re.search(r"and \d+ more, in", page)
    for html in here.validation.rglob("*.html"):
        text = html.read_text(encoding="utf-8")
        assert attack not in text
        assert "<script" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text or html.name != "index.html"
        assert not re.search(
            r"""(src|href)=["'](https?:)?//|url\(["']?(https?:)?//|@import""", text
        )
        assert "default-src 'none'" in text


def test_copies_are_shown_side_by_side(workspace):
    here = workspace(["cat", "owl"] * 200, near_cluster=[*range(200), *range(200)])
    validate(here, PARAMS, group=None)
    page = (here.validation / "index.html").read_text(encoding="utf-8")
    section = page[page.index("Other images look almost the same") :]
    first, second, *_ = section.split('<div class="cluster">')[1:]
    assert re.findall(r"images/(\d+)", first) == ["00000", "00200"]
    assert re.findall(r"images/(\d+)", second) == ["00001", "00201"]
    assert "and 240 more" in section


def test_new_data_is_compared_with_the_accepted_one(workspace, caplog):
    caplog.set_level("INFO", "pipeline")
    rng = np.random.default_rng(0)
    grey = rng.uniform(0.3, 0.6, 300).tolist()
    here = workspace(["cat", "owl"] * 150, brightness=grey, camera=["a", "b", "c"] * 100)
    validate(here, PARAMS, group=None)
    assert "there is no reference" in caplog.text
    accept_reference(here, PARAMS, group=None)
    before = here.reference.read_bytes()
    accept_reference(here, PARAMS, group=None)
    assert here.reference.read_bytes() == before
    caplog.clear()
    validate(here, PARAMS, group=None)
    assert "warning" not in caplog.text
    assert "reference" not in caplog.text

    labels = ["cat", "owl"] * 150 + ["cat"] * 60
    workspace(labels, brightness=[*grey, *[0.9] * 60], camera=["a", "b", "c"] * 120, seat=[1] * 360)
    validate(here, PARAMS, group=None)
    assert "warning: new_column: " in caplog.text
    assert "1 column: seat" in caplog.text
    assert "1 column (70% of the images): new images: brightness" in caplog.text
    assert "warning: label_drift: " in caplog.text
    assert "data accept-reference" in caplog.text
    page = (here.validation / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("Two histograms of")
    assert "Two histograms of new images: brightness" in page
    result = json.loads((here.validation / "result.json").read_text())
    assert result["drift"]["new images: brightness"]["distance"] == 1.0


@pytest.mark.slow
def test_data_that_lost_a_column_is_refused_until_it_becomes_the_reference(workspace):
    here = workspace(camera=["a"] * 12, seat=[7] * 12)
    accept_reference(here, PARAMS, group=None)
    workspace(seat=["left"] * 12)
    with pytest.raises(DataRefused) as caught:
        validate(here, PARAMS, group=None)
    assert "lost_column: the data has lost a column that reference.json has" in str(caught.value)
    assert "1 column: camera" in str(caught.value)
    assert "1 column (number → text): seat" in str(caught.value)
    accept_reference(here, PARAMS, group=None)
    validate(here, PARAMS, group=None)


@pytest.mark.slow
def test_data_of_other_classes_and_a_forgotten_reference_compare_with_nothing(workspace, caplog):
    caplog.set_level("INFO", "pipeline")
    here = workspace(camera=["a"] * 12)
    accept_reference(here, PARAMS, group=None)
    workspace(["dog", "cow"] * 6)
    write_json(here.classes, {"classes": ["dog", "cow"]})
    validate(here, PARAMS, group=None)
    assert "reference.json is about other classes" in caplog.text
    forget_reference(here)
    assert here.reference.read_text() == "{}\n"
    assert read_reference(here.reference) is None


def test_refused_data_cannot_become_the_reference(workspace):
    here = workspace(status=["empty"] * 9)
    with pytest.raises(DataRefused, match="cannot become the reference:\n  9 of 12 images"):
        accept_reference(here, PARAMS, group=None)
    assert not here.reference.exists()


def test_a_warning_is_logged_and_nothing_is_lost(workspace, caplog):
    here = workspace(["cat", "owl"] * 6)
    write_json(here.classes, {"classes": ["cat", "owl", "Cat"]})
    labels = ["cat", "owl"] * 6 + ["Cat"] * 6
    write_table(here.manifest, manifest_table(labels))
    caplog.set_level("INFO", "pipeline")
    validate(here, PARAMS, group=None)
    assert (
        "warning: twin_labels: labels differ by capitals, blanks or ways to write an accent alone"
        in caplog.text
    )
    assert read_table(here.accepted).num_rows == len(labels)
