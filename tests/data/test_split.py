"""Split: nothing leaks, nobody moves, and the shares are what was asked for."""

from __future__ import annotations

import math
import random

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.artifacts import sha256_file
from pipeline.data.manifest import SPLITS, read_table, write_table
from pipeline.data.split import assign, split
from pipeline.errors import ConfigurationError, DataRefused
from pipeline.params import Ratios, SplitParams
from pipeline.workspace import Workspace
from tests.manifests import manifest_frame, manifest_table

RATIOS = Ratios(train=0.7, val=0.15, test=0.15)


def params(seed: int = 0, group: str | None = None) -> SplitParams:
    return SplitParams(seed=seed, ratios=RATIOS, group=group)


def by_name(frame: pd.DataFrame, settings_: SplitParams) -> dict[str, str | None]:
    """The split of each image, None for those left out."""
    assigned = [None if pd.isna(name) else name for name in assign(frame, settings_)]
    return dict(zip(frame["file_name"], assigned, strict=True))


@st.composite
def manifests(draw: st.DrawFn, *, with_given: bool = True) -> pd.DataFrame:
    """Images with copies and groups that overlap in any way, some splits given."""
    count = draw(st.integers(1, 40))

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=count, max_size=count))

    clusters = column(st.integers(0, count))
    coarser = draw(st.integers(1, 3))  # near clusters hold exact ones whole
    given_splits = column(st.sampled_from([None, *SPLITS])) if with_given else [None] * count
    return manifest_frame(
        column(st.sampled_from(["cat", "owl", "emu"])),
        split=given_splits,
        group=column(st.sampled_from([None, "a", "b", "c", "d"])),
        duplicate_cluster=clusters,
        near_cluster=[cluster // coarser for cluster in clusters],
        pixel_hash=[f"{cluster:064x}" for cluster in clusters],
    )


def straddling(keys: pd.Series, assigned: pd.Series) -> int:
    return int((assigned.groupby(keys).nunique() > 1).sum())


@settings(max_examples=70, deadline=None)
@given(manifests(), st.sampled_from([None, "group"]), st.integers(0, 3))
def test_no_copy_and_no_group_is_in_two_splits(frame, group, seed):
    assigned = assign(frame, params(seed, group))
    assert set(assigned.dropna()) <= set(SPLITS)
    assert straddling(frame["duplicate_cluster"], assigned) == 0
    assert straddling(frame["near_cluster"], assigned) == 0
    if group:
        assert straddling(frame["group"], assigned) == 0


@settings(max_examples=40, deadline=None)
@given(manifests())
def test_a_given_split_is_kept_or_its_image_left_out(frame):
    if frame["split"].notna().all():
        frame = frame.assign(split=frame["split"].where(frame.index > 0, None))
    assigned = assign(frame, params())
    both = frame["split"].notna() & assigned.notna()
    assert (assigned[both] == frame["split"][both]).all()
    # It is left out only where the data itself gives a copy of it to another split.
    left_out = frame["split"].notna() & assigned.isna()
    contradicted = frame.groupby("near_cluster")["split"].transform("nunique") > 1
    assert not (left_out & ~contradicted).any()


@settings(max_examples=40, deadline=None)
@given(manifests(with_given=False))
def test_without_given_splits_and_groups_no_exact_copy_is_left_out(frame):
    frame = frame.assign(near_cluster=frame["duplicate_cluster"])
    assert assign(frame, params()).notna().all()


@settings(max_examples=40, deadline=None)
@given(manifests(with_given=False), st.sampled_from([None, "group"]), st.integers(0, 3))
def test_an_image_of_the_test_split_is_never_left_out_for_a_copy_elsewhere(frame, group, seed):
    alone = frame.assign(near_cluster=range(len(frame)))
    before, after = assign(alone, params(seed, group)), assign(frame, params(seed, group))
    assert (after[before == "test"] == "test").all()
    kept = after.notna()
    assert (after[kept] == before[kept]).all()


@settings(max_examples=50, deadline=None)
@given(manifests(), st.sampled_from([None, "group"]), st.randoms(use_true_random=False))
def test_an_image_keeps_its_split_when_others_come_go_or_are_reordered(frame, group, chance):
    staying = manifest_frame(["cat", "owl", "emu"] * 60, group=[None] * 180)  # in every split
    staying["file_name"] = "staying/" + staying["file_name"]
    whole = by_name(pd.concat([frame, staying], ignore_index=True), params(0, group))
    rows = list(frame.index)
    chance.shuffle(rows)
    part = pd.concat([frame.loc[rows[: chance.randint(1, len(rows))]], staying], ignore_index=True)
    for name, where in by_name(part, params(0, group)).items():
        # A newcomer may tie an image to another split and so leave it out; it never moves it.
        assert where == whole[name] or None in (where, whole[name])


def test_copies_of_a_group_in_another_split_are_left_out_of_training():
    frame = manifest_frame(
        ["cat"] * 200,
        group=[f"g{i // 2}" for i in range(200)],
        duplicate_cluster=[0, *range(1, 199), 0],
        near_cluster=[0, *range(1, 199), 0],
        pixel_hash=["0", *map(str, range(1, 199)), "0"],
    )
    for seed in range(60):
        plain = assign(frame.iloc[:-1], params(seed, "group"))
        tied = assign(frame, params(seed, "group"))
        if plain[0] == "train" and tied[199] == "test":
            break
    assert pd.isna(tied[0])
    assert tied[1] == "train"  # its group stays, only the copy goes


def test_a_newcomer_that_ties_training_to_test_pushes_out_the_training_image_only():
    count = 300
    frame = manifest_frame(["cat"] * (count + 1))
    for seed in range(20):
        plain = assign(frame.iloc[:-1], params(seed))
        train, test = (int(plain.index[plain == name][0]) for name in ("train", "test"))
        clusters = list(range(count))
        clusters[train] = clusters[test] = count
        # Both are near duplicates of the newcomer, which comes last.
        tied = assign(frame.assign(near_cluster=[*clusters, count]), params(seed))
        assert pd.isna(tied[train])
        assert tied[test] == "test"
        assert tied[count] == "test" or pd.isna(tied[count])
        others = [i for i in range(count) if i not in {train, test}]
        assert (tied[others] == plain[others]).all()


def test_nothing_leaks_along_a_chain_of_near_copies_and_groups():
    frame = manifest_frame(
        ["cat"] * 400,
        group=[f"g{i // 2}" for i in range(400)],
        near_cluster=[(i + 1) // 2 for i in range(400)],  # 0–1 one group, 1–2 one picture, …
    )
    assigned = assign(frame, params(0, "group"))
    assert straddling(frame["near_cluster"], assigned) == 0
    assert straddling(frame["group"], assigned) == 0
    assert assigned.notna().mean() > 0.5


def test_near_duplicates_do_not_change_how_many_images_are_tested():
    count, ratio = 20_000, 0.15
    frame = manifest_frame(["cat"] * count, near_cluster=[i // 2 for i in range(4_000)])
    for seed in range(3):
        found = int((assign(frame, params(seed)) == "test").sum())
        assert abs(found - count * ratio) <= 4 * math.sqrt(count * ratio * (1 - ratio))


def test_a_hashed_copy_of_a_given_image_never_pushes_it_out():
    frame = manifest_frame(
        ["cat"] * 60,
        split=["train", None] * 30,
        duplicate_cluster=[i // 2 for i in range(60)],
        near_cluster=[i // 2 for i in range(60)],
        pixel_hash=[str(i // 2) for i in range(60)],
    )
    assigned = assign(frame, params())
    assert (assigned[::2] == "train").all()
    assert set(assigned[1::2].dropna()) == {"train"}
    assert assigned[1::2].isna().any()


@pytest.mark.parametrize("groups", [None, 5])
def test_a_class_that_lacks_a_split_by_chance_is_given_one_image_or_group_there(groups):
    labels = [f"class {number:03}" for number in range(100) for _ in range(20)]
    group = None if groups is None else [f"{i // groups}" for i in range(len(labels))]
    frame = manifest_frame(labels, group=group or [None] * len(labels))
    few = params(0, group and "group")
    counts = pd.crosstab(frame["label"], assign(frame, few))
    assert (counts >= 1).to_numpy().all()
    hashed = assign(frame.assign(label="one"), few)  # enough of it for every split
    moved = frame["label"][assign(frame, few) != hashed].value_counts()
    assert 0 < len(moved) < 100
    assert moved.max() <= 2 * (groups or 1)


@pytest.mark.parametrize("seed", range(20))
def test_three_images_are_enough_for_three_splits(seed):
    frame = manifest_frame(["cat"] * 3 + ["owl"] * 40)
    assigned = assign(frame, params(seed))
    assert sorted(assigned[frame["label"] == "cat"]) == sorted(SPLITS)


@pytest.mark.parametrize("seed", [2, 14, 71])
def test_a_class_whose_keys_all_went_along_with_other_classes_is_left_as_it_is(seed):
    # With these seeds the owls' groups move for the sake of cats and emus.
    labels, groups = ["cat", "cat", "emu", "emu", "owl", "owl", "owl"], [*"abcdace"]
    assigned = assign(manifest_frame(labels, group=groups), params(seed, "group"))
    assert set(assigned) == set(SPLITS)
    assert assigned.groupby(groups).nunique().max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_every_class_hold_within_the_bound(seed):
    labels = ["cat"] * 20_000 + ["owl"] * 1_000
    frame = manifest_frame(labels)
    assigned = assign(frame, params(seed))
    for label, count in (("cat", 20_000), ("owl", 1_000)):
        for name, ratio in RATIOS.model_dump().items():
            found = int((assigned[frame["label"] == label] == name).sum())
            assert abs(found - count * ratio) <= 4 * math.sqrt(count * ratio * (1 - ratio))


def test_seeds_give_independent_splits():
    frame = manifest_frame(["cat"] * 5_000)
    first, second = assign(frame, params(0)), assign(frame, params(1))
    agree = (first == second).mean()
    assert agree == pytest.approx(0.7**2 + 2 * 0.15**2, abs=0.03)


def test_words_for_a_split_are_understood_and_logged(caplog):
    caplog.set_level("INFO", "pipeline")
    frame = manifest_frame(["cat"] * 4, split=["Training", "dev", "test", None])
    assert list(assign(frame, params())[:3]) == ["train", "val", "test"]
    assert "'dev' is taken as 'val'" in caplog.text


def test_an_unknown_split_is_refused():
    frame = manifest_frame(["cat"] * 2, split=["train", "tset"])
    with pytest.raises(DataRefused, match=r"'tset' is no split.*did you mean 'test'"):
        assign(frame, params())


@pytest.mark.parametrize("lacking", ["val", "test"])
def test_a_split_the_data_does_not_give_is_taken_out_of_train(lacking, caplog):
    caplog.set_level("INFO", "pipeline")
    other = {"val": "test", "test": "val"}[lacking]
    frame = manifest_frame(["cat"] * 3_000, split=["train"] * 2_000 + [other] * 1_000)
    assigned = assign(frame, params())
    assert (assigned[2_000:] == other).all()
    share = 0.15 / 0.85
    found = int((assigned[:2_000] == lacking).sum())
    assert abs(found - 2_000 * share) <= 4 * math.sqrt(2_000 * share * (1 - share))
    assert f"the data gives no {lacking}" in caplog.text


def test_a_group_column_of_numbers_may_get_an_empty_cell():
    labels = ["cat"] * 40
    whole = manifest_frame(labels, module=[i // 4 for i in range(40)])
    with_gap = manifest_frame([*labels, "cat"], module=[*(i // 4 for i in range(40)), None])
    assert with_gap["module"].dtype == float
    assert list(assign(with_gap, params(0, "module"))[:40]) == list(
        assign(whole, params(0, "module"))
    )


def test_a_missing_group_column_is_refused():
    with pytest.raises(ConfigurationError, match=r"'modul'; did you mean 'module'"):
        assign(manifest_frame(["cat"], module=["a"]), params(0, "modul"))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    here = Workspace(tmp_path)
    write_table(here.accepted, manifest_table(["cat", "owl"] * 200))
    return here


def test_the_table_names_every_accepted_image_once_in_order(workspace, caplog):
    caplog.set_level("INFO", "pipeline")
    split(workspace, params())
    table = read_table(workspace.split)
    assert table.column_names == ["file_name", "split"]
    assert table["file_name"].to_pylist() == [f"images/{i:05}.png" for i in range(400)]
    assert "cat" in caplog.text


def test_the_table_names_the_groups_that_were_kept_together(workspace):
    modules = [None if i < 4 else float(i // 4) for i in range(400)]
    table = manifest_table(["cat", "owl"] * 200)
    write_table(workspace.accepted, table.append_column("module", [pa.array(modules)]))
    split(workspace, params(0, "module"))
    table = read_table(workspace.split)
    assert table.column_names == ["file_name", "split", "group"]
    assert table["group"].to_pylist() == [None] * 4 + [str(i // 4) for i in range(4, 400)]


def test_the_same_rows_in_another_order_give_the_same_bytes(workspace):
    split(workspace, params())
    before = sha256_file(workspace.split)
    order = list(range(400))
    random.Random(0).shuffle(order)
    write_table(workspace.accepted, read_table(workspace.accepted).take(order))
    split(workspace, params())
    assert sha256_file(workspace.split) == before


def test_a_split_without_a_class_is_refused_with_the_numbers(workspace):
    write_table(
        workspace.accepted,
        manifest_table(
            ["cat"] * 4 + ["owl"] * 3,
            split=["train", "train", "val", "test", *["train"] * 2, "val"],
        ),
    )
    with pytest.raises(DataRefused) as caught:
        split(workspace, params(seed=5))
    message = str(caught.value)
    assert "owl: 2 train, 1 val, 0 test" in message
    assert "cat:" not in message
    assert "give each image's split" in message
    assert not workspace.split.exists()


def test_left_out_images_are_listed(workspace, caplog):
    table = manifest_table(
        ["cat", "owl"] * 100,
        split=["test", "train"],
        duplicate_cluster=[5, 6, 5],
        near_cluster=[5, 6, 5],
        pixel_hash=["x", "y", "x"],
    )
    for seed in range(20):
        if pd.isna(assign(table.to_pandas(), params(seed))[2]):
            break
    write_table(workspace.accepted, table)
    split(workspace, params(seed))
    assert "1 image is left out" in caplog.text
    assert "images/00002.png" in caplog.text
    rows = read_table(workspace.split).to_pylist()
    assert [row["file_name"] for row in rows if row["split"] is None] == ["images/00002.png"]
