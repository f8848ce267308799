"""WebDataset shards: a sample is the files of one key."""

from __future__ import annotations

import json

import pytest

from pipeline.data.sources import read_source
from pipeline.errors import ConfigurationError, DataRefused
from tests.corpus.case import BAD, CAT, DOG
from tests.data.sources.made import shard
from tests.ingesting import LIMITS, asked


def test_labels_stand_in_cls_json_or_txt(tmp_path):
    said = json.dumps({"label": 7, "age": 3.50, "box": [1, 2]}).encode()
    path = shard(
        tmp_path / "a.tar",
        {
            "0.jpg": CAT, "0.cls": b"3\n",
            "1.jpg": DOG, "1.json": said,
            "2.PNG": BAD, "2.txt": b"cat", "2.seg.npy": b"",
        },
    )  # fmt: skip
    listing = read_source(asked(path, work=tmp_path))
    assert listing.columns == {
        "file_name": ["0.jpg", "1.jpg", "2.PNG"],
        "label": ["3", "7", "cat"],
        "age": ["", "3.5", ""],
    }
    assert (listing.folder / "1.jpg").read_bytes() == DOG


@pytest.mark.parametrize("address", ["s-{000..001}.tar", ""])
def test_a_range_or_a_folder_of_shards(tmp_path, address):
    for number in range(2):
        members = {"x/0.jpg": CAT, "x/0.cls": f"{number}".encode()}
        shard(tmp_path / "shards" / f"s-{number:03}.tar", members)
    listing = read_source(asked(f"{tmp_path}/shards/{address}", work=tmp_path))
    assert listing.columns["file_name"] == ["s-000/x/0.jpg", "s-001/x/0.jpg"]
    assert listing.columns["label"] == ["0", "1"]


@pytest.mark.parametrize(
    "beside", [{}, {"cat/1.txt": b"a cat on a mat"}, {"cat/1.json": b'{"label": "tabby"}'}]
)
def test_a_tar_of_class_folders_is_no_shard_whatever_texts_lie_there(tmp_path, beside):
    path = shard(tmp_path / "a.tar", {"cat/1.png": CAT, "dog/2.png": DOG, **beside})
    listing = read_source(asked(path, work=tmp_path))
    assert listing.origin == "class folders"
    assert listing.columns["label"] == ["cat", "dog"]


@pytest.mark.parametrize(("key", "most"), [("files", 6), ("bytes", 4 * len(CAT) - 1)])
def test_limits_are_for_all_shards_together_and_judged_before_any_is_unpacked(tmp_path, key, most):
    for number in range(4):
        shard(tmp_path / "shards" / f"{number}.tar", {"0.jpg": CAT, "0.cls": b"1"})
    limits = LIMITS.model_copy(update={key: most})
    with pytest.raises(DataRefused, match=f"ingest.limits.{key}"):
        read_source(asked(tmp_path / "shards", work=tmp_path, limits=limits))
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.jpg": CAT, "0.cls": b"1", "1.jpg": DOG}, "'1': no label"),
        ({"0.jpg": CAT, "0.png": DOG, "0.cls": b"1"}, "has several images"),
        ({"0.jpg": CAT, "0.cls": b"\xff"}, "0'.cls: not UTF-8 text"),
        ({"0.jpg": CAT, "0.json": b"[1]"}, "expected one object"),
        ({"0.jpg": CAT, "0.json": b'{"age": 1}'}, "'0': no label"),
        ({"0.jpg": CAT, "0.cls": b"a\nb"}, "no line of text"),
        ({"0.jpg": CAT, "0.cls": b"1", "../1.jpg": DOG}, "outside the archive"),
        ({"0.jpg": CAT, "0.txt": bytes((1 << 20) + 1)}, "too many for a label"),
        ({"0.jpg": CAT, "0.cls": b"1", "1.jpg": bytes(20_000_001)}, "ingest.limits.file_bytes"),
    ],
)
def test_a_sample_that_cannot_be_used_is_refused(tmp_path, members, message):
    path = shard(tmp_path / "a.tar", members)
    with pytest.raises(DataRefused) as refused:
        read_source(asked(path, work=tmp_path, limits=LIMITS))
    assert message in str(refused.value)
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("{folder}/s-{{000..002}}.tar", "2 of 3 shards are missing, first 's-001.tar'"),
        ("{folder}/s-{{5..2}}.tar", "the range is empty"),
        ("{folder}/s-{{0..999999999}}.tar", "more than 100,000 shards"),
        ("pipe:curl x | cat", "a command is never run"),
        ("pipe:s-{{0..1}}.tar", "a command is never run"),
    ],
)
def test_addresses_that_name_no_shards(tmp_path, address, message):
    shard(tmp_path / "s-000.tar", {"0.jpg": CAT, "0.cls": b"1"})
    with pytest.raises(ConfigurationError) as refused:
        read_source(asked(address.format(folder=tmp_path), work=tmp_path))
    assert message in str(refused.value)
