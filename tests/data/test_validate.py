"""Validate: bad images are set aside with their reasons, unusable data stops the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.artifacts import write_json
from pipeline.data.manifest import read_table, write_table
from pipeline.data.validate import validate
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.params import ValidationParams
from pipeline.workspace import Workspace
from tests.images import encoded, picture
from tests.manifests import manifest_table

PARAMS = ValidationParams(
    formats=("PNG",),
    modes=("L",),
    min_side=32,
    max_side=1000,
    min_images_per_class=2,
    max_imbalance=3.0,
    quarantine_budget=0.25,
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
        "the image cannot be read (image file is truncated)"
    )
    assert aside.loc["images/00001.png", "reasons"] == (
        "its pixel mode is not allowed (CMYK); its shorter side has too few pixels (9)"
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
    assert "images/00000.png, images/00001.png, images/00002.png, …" in message
    assert "Replace the file by a whole one" in message
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
        (["cat"] * 6, "several_classes: there are fewer than two classes to tell apart; found 1"),
        (["cat"] * 6, "no_empty_class: a class of data/classes.json has no image"),
        (["cat"] * 3 + ["owl"], "images_per_class: a class has too few images; 1 image (owl × 1)"),
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
    with pytest.raises(DataRefused, match="no_group_across_splits"):
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


def test_the_page_shows_what_failed_and_escapes_what_the_data_says(workspace):
    attack = "<script>alert(1)</script>"
    here = workspace([attack, *LABELS[1:]], mode=[None, "RGBA"])
    (here.data / "images").mkdir()
    (here.data / "images/00001.png").write_bytes(encoded(picture(mode="RGBA")))
    validate(here, PARAMS, group=None)
    page = (here.validation / "index.html").read_text(encoding="utf-8")
    assert attack not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert "http://" not in page
    assert "https://" not in page


def test_a_warning_is_logged_and_nothing_is_lost(workspace, caplog):
    here = workspace(["cat", "owl"] * 6)
    write_json(here.classes, {"classes": ["cat", "owl", "Cat"]})
    labels = ["cat", "owl"] * 6 + ["Cat"] * 6
    write_table(here.manifest, manifest_table(labels))
    caplog.set_level("INFO", "pipeline")
    validate(here, PARAMS, group=None)
    assert "warning: distinct_labels: labels differ by capitals or blanks alone" in caplog.text
    assert read_table(here.accepted).num_rows == len(labels)


@pytest.mark.parametrize(
    ("changes", "group", "message"),
    [
        ({"formats": ("png",)}, None, "validation.formats: 'png' .* did you mean 'PNG'"),
        ({"modes": ("rgb",)}, None, "validation.modes: 'rgb' .* did you mean 'RGB'"),
        ({}, "modul", "split.group: data/metadata.csv has no column 'modul'"),
    ],
)
def test_settings_that_name_nothing_are_refused(workspace, changes, group, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(workspace(module=["m"] * 12), PARAMS.model_copy(update=changes), group=group)


@pytest.mark.parametrize("text", ["{", "[]", '{"classes": [1]}', '{"classes": ["a", "a"]}'])
def test_a_broken_label_map_is_refused(workspace, text):
    here = workspace()
    here.classes.write_text(text, encoding="utf-8")
    with pytest.raises(DataRefused, match=r"classes\.json"):
        validate(here, PARAMS, group=None)


def test_missing_inputs_say_what_to_run(workspace):
    here = workspace()
    here.classes.unlink()
    with pytest.raises(PipelineError, match="data restore"):
        validate(here, PARAMS, group=None)
    here.manifest.unlink()
    with pytest.raises(PipelineError, match="dvc repro"):
        validate(here, PARAMS, group=None)
