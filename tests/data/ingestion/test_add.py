"""Adding a batch: nothing is stored twice, and what is in ``data/`` stays as it is unless asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.ingestion import version
from pipeline.data.ingestion.canonical import Columns, metadata_bytes, parse_metadata, read_batch
from pipeline.data.ingestion.ingest import ingest
from pipeline.data.ingestion.merge import OnConflict, add_batch
from pipeline.data.ingestion.present import Present
from pipeline.data.ingestion.staging import Staging
from pipeline.data.ingestion.summary import Summary
from pipeline.data.sources import read_source
from pipeline.errors import ConfigurationError, DataRefused, PipelineError
from pipeline.params import IngestParams
from tests.ingesting import (
    CELLS,
    DEFECT,
    LIMITS,
    SURE,
    SourceProject,
    a_batch,
    asked,
    cells,
    write_image,
    write_table,
)

PARAMS = IngestParams(
    source="elsewhere", mode="replace", table=None, label=None, weight=None, limits=LIMITS
)


class Version:
    """A version of ``data/`` without DVC, made of images whose bytes follow from a number."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.batch = folder / "batch"
        self.after = folder / "after"
        self.summary = Summary("", "")

    def have(self, *rows: str, classes: tuple[str, ...] = ("cat", "dog"), **images: int) -> None:
        """Rows of ``metadata.csv`` (header first), and the number of each image, by its stem."""
        write_table(self.data / "metadata.csv", *rows)
        (self.data / "classes.json").write_text(json.dumps({"classes": classes}))
        for stem, number in images.items():
            write_image(self.data / "images" / f"{stem}.png", seed=number)

    def bring(self, *rows: str, **images: int) -> None:
        """The same for the batch, whose images lie beside its table."""
        write_table(self.batch / "metadata.csv", *rows)
        for stem, number in images.items():
            write_image(self.batch / f"{stem}.png", seed=number)

    def add(
        self,
        on_conflict: OnConflict = OnConflict.REFUSE,
        *,
        allow_new_classes: bool = False,
        params: IngestParams = PARAMS,
        hashes: dict[str, str] | None = None,
    ) -> Columns:
        """The table after the batch was added; the version's folder is ``after``."""
        present = Present(self.data, hashes or version.folder_hashes(self.data))
        listing = read_source(asked(self.batch, params.table, configured=False))
        self.after.mkdir()
        staging = Staging(
            self.after, data=self.data, present=present.hashes, scratch=self.after / "scratch"
        )
        self.summary = add_batch(
            present,
            read_batch(listing, params, configured=False),
            staging,
            on_conflict=on_conflict,
            allow_new_classes=allow_new_classes,
        )
        if hashes is None:
            assert staging.hashes == version.folder_hashes(self.after)
        return parse_metadata((self.after / "metadata.csv").read_bytes())

    @property
    def classes(self) -> list[str]:
        return json.loads((self.after / "classes.json").read_text())["classes"]

    @property
    def images(self) -> list[str]:
        return sorted(path.name for path in (self.after / "images").rglob("*.png"))


@pytest.fixture
def both(tmp_path) -> Version:
    """Two images in ``data/``: a cat ``a`` with the bytes 0, a dog ``b`` with the bytes 1."""
    made = Version(tmp_path)
    made.have("file_name,label", "images/a.png,cat", "images/b.png,dog", a=0, b=1)
    return made


def labels(table: Columns) -> dict[str, str]:
    names = (name.removeprefix("images/") for name in table["file_name"])
    return dict(zip(names, table["label"], strict=True))


class TestSameContent:
    def test_is_not_stored_twice_whatever_its_name(self, both):
        both.bring("file_name,label", "x.png,cat", "b.png,dog", "y.png,dog", x=0, b=1, y=2)
        assert labels(both.add()) == {"a.png": "cat", "b.png": "dog", "y.png": "dog"}
        assert both.images == ["a.png", "b.png", "y.png"]
        assert both.summary.details["same_as_data"] == {
            "images/x.png": "images/a.png",
            "images/b.png": "images/b.png",
        }

    def test_within_the_batch_is_stored_once_with_the_label_that_it_has(self, both):
        both.bring("file_name,label", "x.png,", "y.png,cat", "z.png,cat", x=5, y=5, z=5)
        assert labels(both.add())["x.png"] == "cat"
        assert both.images == ["a.png", "b.png", "x.png"]
        assert len(both.summary.details["repeated"]) == 2

    def test_with_two_labels_in_the_batch_is_refused_whatever_the_option(self, both):
        both.bring("file_name,label", "x.png,cat", "y.png,dog", x=5, y=5)
        with pytest.raises(DataRefused, match=r"x\.png: 'cat', but images/y\.png: 'dog'"):
            both.add(OnConflict.REPLACE)

    def test_of_a_file_without_a_row_gives_that_file_its_row(self, both):
        write_image(both.data / "images" / "unlisted.png", seed=5)
        both.bring("file_name,label", "x.png,cat", x=5)
        assert labels(both.add())["unlisted.png"] == "cat"
        assert both.images == ["a.png", "b.png", "unlisted.png"]

    def test_nothing_is_shared_by_two_empty_files(self, both):
        both.bring("file_name,label", "x.png,cat", "y.png,dog")
        for name in ("x.png", "y.png"):
            (both.batch / name).write_bytes(b"")
        assert both.add()["label"] == ["cat", "dog", "cat", "dog"]


def test_each_image_of_a_batch_is_opened_once_and_those_of_data_not_at_all(both):
    both.bring("file_name,label", "x.png,cat", "b.png,dog", "y.png,dog", x=0, b=1, y=2)
    hashes = version.folder_hashes(both.data)
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(".png"):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # it stays until the process ends, so it has a switch
    try:
        both.add(hashes=hashes)
    finally:
        watching = False
    new = both.after / "images" / "y.png"
    assert sorted(opened) == sorted([*(str(both.batch / f"{n}.png") for n in "xby"), str(new)])


class TestConflict:
    @pytest.fixture
    def conflict(self, both) -> Version:
        both.bring("file_name,label", "x.png,dog", "new.png,dog", x=0, new=7)
        return both

    def test_is_refused_with_both_labels_and_ways_on(self, conflict):
        with pytest.raises(DataRefused) as refused:
            conflict.add()
        message = str(refused.value)
        assert "images/a.png: 'cat' in data/, 'dog' in the batch (images/x.png)" in message
        assert "--on-conflict keep" in message
        assert "--on-conflict replace" in message

    def test_keep_keeps_the_label_of_data(self, conflict):
        expected = {"a.png": "cat", "b.png": "dog", "new.png": "dog"}
        assert labels(conflict.add(OnConflict.KEEP)) == expected

    def test_replace_takes_that_of_the_batch_for_every_copy(self, conflict):
        table = parse_metadata((conflict.data / "metadata.csv").read_bytes())
        table["file_name"].extend(["images/c.png", "images/d.png"])
        table["label"].extend(["cat", "cat"])
        (conflict.data / "metadata.csv").write_bytes(metadata_bytes(table))
        write_image(conflict.data / "images" / "c.png", seed=0)
        write_image(conflict.data / "images" / "d.png", seed=9)
        after = labels(conflict.add(OnConflict.REPLACE))
        assert {after[name] for name in ("a.png", "c.png")} == {"dog"}
        assert after["d.png"] == "cat"

    def test_replace_does_not_empty_a_class(self, conflict):
        with pytest.raises(DataRefused, match="would leave no image of the class 'cat'"):
            conflict.add(OnConflict.REPLACE)

    def test_many_are_shown_by_the_first_few(self, tmp_path):
        many = Version(tmp_path)
        stems = [f"n{i}" for i in range(9)]
        images = {stem: i for i, stem in enumerate(stems)}
        many.have("file_name,label", *(f"images/{s}.png,cat" for s in stems), **images)
        many.bring("file_name,label", *(f"{s}.png,dog" for s in stems), **images)
        with pytest.raises(DataRefused, match=r"9 images of data/(.|\n)*and 4 more"):
            many.add()

    def test_no_label_in_the_batch_is_none(self, both):
        both.bring("file_name,label", "x.png,", "y.png,cat", x=0, y=4)
        assert labels(both.add())["a.png"] == "cat"

    def test_a_label_for_an_image_without_one_changes_its_row_so_it_is_one(self, tmp_path):
        half = Version(tmp_path)
        rows = ("images/a.png,", "images/b.png,dog", "images/c.png,cat")
        half.have("file_name,label", *rows, a=0, b=1, c=2)
        half.bring("file_name,label", "a.png,cat", a=0)
        with pytest.raises(DataRefused, match=r"a\.png: no label in data/, 'cat' in the batch"):
            half.add()
        half.after.rmdir()
        assert labels(half.add(OnConflict.REPLACE))["a.png"] == "cat"


class TestNames:
    def test_another_image_of_a_taken_name_is_named_by_its_bytes(self, both):
        both.bring("file_name,label", "a.png,dog", a=3)
        after = labels(both.add())
        (renamed,) = set(after) - {"a.png", "b.png"}
        md5 = version.copy_hashed(both.batch / "a.png", None)
        assert renamed == f"a-{md5[:8]}.png"
        assert after["a.png"] == "cat"
        assert (both.after / "images" / "a.png").read_bytes() == (
            both.data / "images" / "a.png"
        ).read_bytes()
        assert both.summary.details["renamed"] == {"images/a.png": f"images/{renamed}"}

    def test_of_a_row_whose_file_is_missing_stays_that_rows(self, tmp_path):
        made = Version(tmp_path)
        rows = ("images/a.png,cat", "images/b.png,dog", "images/lost.png,dog")
        made.have("file_name,label", *rows, a=0, b=1)
        made.bring("file_name,label", "lost.png,cat", lost=5)
        after = labels(made.add())
        assert after["lost.png"] == "dog"
        assert len(after) == 4

    def test_adding_it_again_changes_nothing(self, both):
        both.bring("file_name,label", "a.png,dog", "B.png,dog", a=3, B=4)
        once = both.add()
        both.after.rename(both.data.with_name("once"))
        both.data = both.data.with_name("once")
        assert both.add() == once


class TestClasses:
    def test_new_ones_are_refused_with_the_nearest_known(self, both):
        both.bring("file_name,label", "x.png,Cat", "y.png,eel", "z.png,eel", x=5, y=6, z=7)
        with pytest.raises(DataRefused, match="2 labels not in") as refused:
            both.add()
        assert "'Cat': 1 image; did you mean 'cat'?" in str(refused.value)
        assert "'eel': 2 images" in str(refused.value)
        assert "--allow-new-classes" in str(refused.value)

    def test_allowed_they_come_last_and_none_is_renumbered(self, tmp_path):
        made = Version(tmp_path)
        made.have(
            *("file_name,label", "images/a.png,dog", "images/b.png,cat"),
            classes=("dog", "cat"),
            a=0,
            b=1,
        )
        made.bring("file_name,label", "x.png,eel", "y.png,ant", x=5, y=6)
        made.add(allow_new_classes=True)
        assert made.classes == ["dog", "cat", "ant", "eel"]

    def test_a_batch_of_one_class_will_do(self, both):
        both.bring("file_name,label", "x.png,cat", x=5)
        assert both.add()["label"] == ["cat", "dog", "cat"]


class TestColumns:
    def test_are_united_and_missing_cells_are_empty(self, tmp_path):
        made = Version(tmp_path)
        header = "file_name,label,split,note"
        made.have(header, "images/a.png,cat,test,old", "images/b.png,dog,,", a=0, b=1)
        made.bring("file_name,label,weight,group,site", "x.png,cat,0.5,g1,north", x=5)
        table = made.add()
        assert list(table) == ["file_name", "label", "weight", "split", "group", "note", "site"]
        rows = [list(row) for row in zip(*table.values(), strict=True)]
        assert rows == [
            ["images/a.png", "cat", "", "test", "", "old", ""],
            ["images/b.png", "dog", "", "", "", "", ""],
            ["images/x.png", "cat", "0.5", "", "g1", "", "north"],
        ]

    def test_of_an_image_that_is_there_already_stay_as_they_are(self, both):
        both.bring("file_name,label,note", "a.png,cat,other", "x.png,cat,new", a=0, x=5)
        assert both.add()["note"] == ["", "", "new"]

    def test_the_rules_of_the_project_label_a_batch_that_lacks_labels(self, tmp_path):
        made = Version(tmp_path)
        made.have(
            "file_name,label,weight,probability,cell_type",
            "images/p.png,functional,1.0,0.0,mono",
            "images/q.png,defective,1.0,1.0,mono",
            classes=("functional", "defective"),
            p=50,
            q=51,
        )
        made.batch = cells(tmp_path / "cells")
        params = PARAMS.model_copy(update={"table": CELLS, "label": DEFECT, "weight": SURE})
        table = made.add(params=params)
        assert labels(table)["2.png"] == "defective"
        assert dict(zip(table["file_name"], table["weight"], strict=True))["images/1.png"] == (
            "0.333333"
        )


NAMES = st.sampled_from(["a.png", "B.png", "c.png", "sub/a.png", "ä.png"])
ROWS = st.dictionaries(
    NAMES, st.tuples(st.integers(0, 4), st.sampled_from(["cat", "dog"])), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, keep=st.booleans())
def test_any_batch_leaves_the_rows_there_and_gives_each_content_one_row(
    tmp_path_factory, rows, keep
):
    made = Version(tmp_path_factory.mktemp("any"))
    made.have("file_name,label", "images/a.png,cat", "images/b.png,dog", a=0, b=1)
    write_table(
        made.batch / "metadata.csv", "file_name,label", *(f"{n},{rows[n][1]}" for n in rows)
    )
    for name, (number, _) in rows.items():
        write_image(made.batch / name, seed=number)
    try:
        after = labels(made.add(OnConflict.KEEP if keep else OnConflict.REFUSE))
    except DataRefused:
        said = [*rows.values()] + ([] if keep else [(0, "cat"), (1, "dog")])
        assert len({number for number, _ in said}) < len({*said})
        return
    assert (after["a.png"], after["b.png"]) == ("cat", "dog")
    contents = [path.read_bytes() for path in (made.after / "images").rglob("*.png")]
    assert len(after) == len(contents) == len({*contents})
    assert len(contents) == len({0, 1} | {number for number, _ in rows.values()})


def records(project: SourceProject) -> tuple[str, str | None]:
    present = version.folder_md5(project.workspace.data)
    return present, version.recorded(project.workspace)


class TestCommand:
    @pytest.mark.slow
    def test_adds_and_says_what_became_of_each_image(self, source_ingested):
        project = source_ingested
        batch = a_batch(project)
        (batch / "notes.txt").write_text("by hand")
        kept = (project.workspace.data / "images" / "dog" / "00.png").stat()
        done = project.pipeline("ingest", str(batch), "--add")
        assert done.returncode == 0, done.stderr
        for line in (
            "2  came in,",
            "1  under a new name: another image has theirs",
            "images/cat/01.png → 01-",
            "1  not stored again: data/ has the same bytes",
            "1  left out: files that are no images by their names",
            "cat          6          7         +1",
            "all         12         14         +2",
        ):
            assert line in done.stderr, done.stderr
        present, recorded = records(project)
        assert present == recorded
        assert present in done.stderr
        told = json.loads((project.workspace.root / ".pipeline/ingest/last.json").read_text())
        assert told["version"]["after"] == present
        assert told["images"]["after"] == {"cat": 7, "dog": 7}
        # The images that were there are the same files, not copies: DVC need not read them again.
        now = (project.workspace.data / "images" / "dog" / "00.png").stat()
        assert (now.st_ino, now.st_mtime_ns, now.st_nlink) == (kept.st_ino, kept.st_mtime_ns, 1)
        assert project.leftovers() == []

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["hardlink", "symlink"])
    def test_leaves_links_into_dvcs_cache_as_they_are(self, source_ingested, kind):
        project, data = source_ingested, source_ingested.workspace.data
        assert project.dvc("config", "cache.type", kind).returncode == 0
        assert project.dvc("checkout", "--relink").returncode == 0
        cache = project.workspace.root / ".dvc" / "cache" / "files"
        before = version.folder_hashes(cache)
        ingest(project.workspace, project.params, str(a_batch(project)), add=True)
        after = version.folder_hashes(cache)
        assert {name: after[name] for name in before} == before
        present, recorded = records(project)
        assert present == recorded
        for name in ("images/dog/00.png", "images/dog/new.png"):
            if kind == "symlink":
                assert (data / name).readlink().is_relative_to(cache)
            else:
                assert (data / name).stat().st_nlink == 2
                assert not (data / name).stat().st_mode & 0o222

    def test_what_is_there_already_changes_nothing(self, source_ingested, caplog):
        project = source_ingested
        before = project.workspace.data.stat().st_ino
        with caplog.at_level("INFO", "pipeline"):
            ingest(project.workspace, project.params, str(project.source), add=True)
        assert "nothing changed" in caplog.text
        assert "12  not stored again" in caplog.text
        assert project.workspace.data.stat().st_ino == before

    def test_a_refusal_leaves_all_as_it_was(self, source_ingested, tmp_path):
        project = source_ingested
        before = records(project)
        write_image(tmp_path / "eels" / "eel" / "0.png", seed=77)
        with pytest.raises(DataRefused, match="'eel'"):
            ingest(project.workspace, project.params, str(tmp_path / "eels"), add=True)
        assert records(project) == before
        assert project.leftovers() == []

    def test_unrecorded_edits_are_refused(self, source_ingested):
        project = source_ingested
        write_image(project.workspace.data / "images" / "mine.png", seed=1)
        with pytest.raises(DataRefused, match=r"changes that data\.dvc does not record"):
            ingest(project.workspace, project.params, str(a_batch(project)), add=True)

    def test_an_edit_meanwhile_stops_it(self, source_ingested, monkeypatch):
        project, real = source_ingested, Staging.take

        def meanwhile(self: Staging, *arguments: object) -> None:
            write_image(project.workspace.data / "images" / "mine.png", seed=1)
            real(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Staging, "take", meanwhile)
            with pytest.raises(DataRefused, match="was changed while"):
                ingest(project.workspace, project.params, str(a_batch(project)), add=True)
        assert (project.workspace.data / "images" / "mine.png").exists()
        assert project.leftovers() == []

    def test_an_absent_version_is_to_be_restored_first(self, source_ingested):
        project = source_ingested
        project.workspace.data.rename(project.source.parent / "gone")
        with pytest.raises(PipelineError, match="data restore"):
            ingest(project.workspace, project.params, str(a_batch(project)), add=True)

    @pytest.mark.slow
    def test_to_nothing_makes_the_first_version_and_params_may_ask_for_it(self, source_empty):
        project = source_empty
        params = project.configure(mode="add")
        ingest(project.workspace, params)
        first = records(project)
        assert first[0] == first[1]
        ingest(project.workspace, params, str(a_batch(project)))
        table = parse_metadata(project.workspace.metadata.read_bytes())
        assert len(table["file_name"]) == 14

    def test_options_that_do_not_fit_are_wrong_usage(self, source_empty):
        done = source_empty.pipeline("ingest", "x", "--relabel", "y.csv")
        assert done.returncode == ConfigurationError.exit_code
        assert "takes no source" in done.stderr
        with pytest.raises(ConfigurationError, match="give --add too"):
            ingest(source_empty.workspace, source_empty.params, on_conflict=OnConflict.KEEP)
