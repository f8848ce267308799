"""New files get names that no other has, wherever ``data/`` may be brought to."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.ingestion.names import Names

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("taken", "name", "expected"),
    [
        ([], "images/a.png", "images/a.png"),
        (["images/a.png"], "images/a.png", "images/a-01234567.png"),
        (["images/A.PNG"], "images/a.png", "images/a-01234567.png"),
        (["images/\u00e4.png"], "images/a\u0308.png", "images/a\u0308-01234567.png"),
        (
            ["images/a.png", "images/a-01234567.png"],
            "images/a.png",
            "images/a-0123456789abcdef.png",
        ),
        (["images/a.png/b.png"], "images/a.png", "images/a-01234567.png"),
        (["images/a.png"], "images/a.png/b.png", f"images/{MD5}.png"),
    ],
)
def test_a_taken_name_gets_digits_of_the_content(taken, name, expected):
    assert Names(taken).claim(name, MD5) == expected


def test_a_long_name_keeps_within_what_file_systems_take():
    name = f"images/{'ä' * 125}.png"
    claimed = Names([name]).claim(name, MD5)
    assert len(claimed.removeprefix("images/").encode()) <= 255
    assert claimed.endswith("-01234567.png")


STEMS = st.lists(st.sampled_from(["a", "A", "ä", "a\u0308", "a/b", "a-01234567"]), min_size=1)


@given(stems=STEMS, digits=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32)))
def test_all_names_differ_where_case_and_accents_do_not_count(stems, digits):
    names, claimed = Names([]), []
    for stem, md5 in zip(stems, {*digits}, strict=False):
        claimed.append(names.claim(f"images/{stem}.png", md5))
    folded = {unicodedata.normalize("NFC", name).casefold() for name in claimed}
    assert len(folded) == len(claimed)
