"""Corrected labels become a new version; what is doubtful is refused before anything is written."""

from __future__ import annotations

import shutil

import pytest

from pipeline.data.ingestion import version
from pipeline.data.ingestion.canonical import parse_metadata
from pipeline.data.ingestion.ingest import relabel
from pipeline.data.ingestion.relabel import REMOVE, corrections, read_corrections
from pipeline.data.ingestion.restore import restore
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from tests.ingesting import (
    DEFECT,
    SourceProject,
    a_table_of_corrections,
    write_image,
    write_table,
)

TABLE = {
    "file_name": ["images/a.png", "images/b.png", "images/c.png"],
    "label": ["cat", "dog", ""],
    "probability": ["0.1", "0.9", "0.5"],
}


def corrected(tmp_path, *rows: str, allow_new_classes: bool = False):
    path = tmp_path / "corrections.csv"
    write_table(path, "file_name,label,score", *rows)
    return corrections(
        TABLE,
        ("cat", "dog"),
        read_corrections(path, TABLE, most_rows=100),
        allow_new_classes=allow_new_classes,
        where=str(path),
    )


def test_labels_change_and_nothing_else(tmp_path):
    done = corrected(tmp_path, "images/a.png,dog,0.9", "images/c.png,cat,0.1")
    assert done.columns == TABLE | {"label": ["dog", "dog", "cat"]}
    assert done.relabelled == {"images/a.png": ("cat", "dog"), "images/c.png": ("", "cat")}
    assert done.classes == ("cat", "dog")


def test_an_empty_label_and_the_same_one_leave_all_as_it_is(tmp_path):
    done = corrected(tmp_path, "images/a.png,,1", "images/a.png,,2", "images/b.png,dog,3")
    assert done.columns == TABLE
    assert done.as_before == 2


def test_the_mark_takes_the_row_out(tmp_path):
    done = corrected(tmp_path, f"images/a.png,{REMOVE},")
    assert done.columns["file_name"] == ["images/b.png", "images/c.png"]
    assert done.columns["probability"] == ["0.9", "0.5"]
    assert done.removed == ("images/a.png",)


def test_a_table_is_taken_again_after_more_of_it_was_filled_in(tmp_path):
    done = corrected(tmp_path, f"images/gone.png,{REMOVE},", "images/a.png,dog,")
    assert done.columns == TABLE | {"label": ["dog", "dog", ""]}
    assert done.absent == ("images/gone.png",)
    assert (done.removed, done.as_before) == ((), 0)


def test_a_new_class_is_appended_where_it_is_allowed(tmp_path):
    with pytest.raises(DataRefused, match=r"'eel': 1 image(.|\n)*--allow-new-classes"):
        corrected(tmp_path, "images/a.png,eel,")
    done = corrected(tmp_path, "images/a.png,eel,", allow_new_classes=True)
    assert done.classes == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["images/q.png,cat,", "a.png,cat,"], "2 images that data/metadata.csv does not list"),
        (["images/aa.png,cat,"], r"line 2: 'images/aa\.png'; did you mean 'images/a\.png'"),
        (["images/a.png,cat,", "images/a.png,dog,"], "'cat' in line 2, 'dog' in line 3"),
        (["images/a.png,cat,", "images/a.png,,", f"images/a.png,{REMOVE},"], "two labels"),
        (["images/a.png,dgo,"], "'dgo': 1 image; did you mean 'dog'"),
    ],
)
def test_what_is_doubtful_is_refused(tmp_path, rows, message):
    with pytest.raises(DataRefused, match=message):
        corrected(tmp_path, *rows)


def test_a_table_without_its_columns_is_refused(tmp_path):
    write_table(tmp_path / "t.csv", "file_name,lable", "images/a.png,cat")
    with pytest.raises(DataRefused, match=r"no column 'label'.*did you mean 'lable'"):
        read_corrections(tmp_path / "t.csv", TABLE, most_rows=100)
    write_table(tmp_path / "prose.csv", "Dear reader", "images/a.png,cat")
    with pytest.raises(DataRefused, match=r"line 2.*the first line has to name the columns"):
        read_corrections(tmp_path / "prose.csv", TABLE, most_rows=100)
    with pytest.raises(ConfigurationError, match=r"did you mean 't\.csv'"):
        read_corrections(tmp_path / "tt.csv", TABLE, most_rows=100)


class TestCommand:
    @pytest.mark.slow
    def test_makes_a_version_that_only_the_cache_can_give_back(self, source_ingested):
        project = source_ingested
        # The labels of this project come from a rule: the source would give the old ones again.
        project.configure(label=DEFECT.model_dump(mode="json"))
        done = project.pipeline("ingest", "--relabel", str(a_table_of_corrections(project)))
        assert done.returncode == 0, done.stderr
        for line in ("1  corrected", "images/cat/01.png: cat → dog", "1  taken out", "dvc push"):
            assert line in done.stderr
        workspace = project.workspace
        recorded = version.recorded(workspace)
        assert recorded == version.folder_md5(workspace.data)
        table = parse_metadata(workspace.metadata.read_bytes())
        labels = dict(zip(table["file_name"], table["label"], strict=True))
        assert labels["images/cat/01.png"] == "dog"
        assert not (workspace.data / "images" / "dog" / "00.png").exists()

        shutil.rmtree(workspace.data)
        restore(workspace, project.params)
        assert version.folder_md5(workspace.data) == recorded

        shutil.rmtree(workspace.data)
        shutil.rmtree(workspace.root / ".dvc" / "cache")
        project.configure(label=None)
        with pytest.raises(DataRefused) as refused:
            restore(workspace, project.params)
        for words in ("were labels corrected?", "dvc push", "dvc pull", ".dvc/cache"):
            assert words in str(refused.value)
        assert not workspace.data.exists()

    def test_the_last_image_of_a_class_stays_in_it(self, source_ingested, tmp_path):
        names = [f"images/cat/{i:02}.png,dog" for i in range(1, 12, 2)]
        write_table(tmp_path / "all.csv", "file_name,label", *names)
        self.refused(source_ingested, tmp_path / "all.csv", "no image of the class 'cat'")

    def test_unrecorded_edits_are_refused(self, source_ingested):
        write_image(source_ingested.workspace.data / "images" / "mine.png", seed=1)
        table = a_table_of_corrections(source_ingested)
        self.refused(source_ingested, table, r"changes that data\.dvc does not record")

    def test_without_data_it_says_what_comes_first(self, source_empty):
        with pytest.raises(PipelineError, match="python -m pipeline ingest' first"):
            relabel(
                source_empty.workspace, source_empty.params, a_table_of_corrections(source_empty)
            )

    @staticmethod
    def refused(project: SourceProject, table, message: str) -> None:
        before = version.folder_md5(project.workspace.data), project.workspace.data_dvc.read_text()
        with pytest.raises(DataRefused, match=message):
            relabel(project.workspace, project.params, table)
        assert before == (
            version.folder_md5(project.workspace.data),
            project.workspace.data_dvc.read_text(),
        )
        assert project.leftovers() == []
