"""The tar reader: what Python's tarfile writes it reads, and hostile bytes end with a message."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.sources import tar
from pipeline.errors import DataRefused
from tests.corpus.archives import header, padded

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300
).filter(lambda name: name.strip("/") and not name.endswith("/"))


@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=5),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_reads_what_tarfile_writes(members, format):  # noqa: A002
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    found = [(entry.member.name, entry.read(2000)) for entry in tar.entries(buffer)]
    assert found == members


@given(
    blocks=st.lists(st.binary(max_size=600), max_size=6), start=st.sampled_from([b"", b"x", b"L"])
)
def test_any_bytes_end(blocks, start):
    stream = io.BytesIO(b"".join([header(b"a", 700, start or b"0"), *map(padded, blocks)]))
    try:
        for entry in tar.entries(stream):
            assert isinstance(entry.member.name, str)
            assert entry.member.size >= 0
    except DataRefused as refused:
        assert len(str(refused)) < 1000


def test_a_member_left_unread_is_skipped():
    stream = io.BytesIO(
        b"".join(header(n, 600) + padded(n * 600) for n in (b"a", b"b", b"c")) + bytes(1024)
    )
    read = {e.member.name: e.read(10) if e.member.name == "b" else b"" for e in tar.entries(stream)}
    assert read == {"a": b"", "b": b"b" * 10, "c": b""}
