"""Addresses behind fsspec: a store in memory and an HTTP server on this machine."""

from __future__ import annotations

import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest

from pipeline.data.sources import download, read_source
from pipeline.data.sources.download import check_redirect
from pipeline.data.sources.names import redacted
from pipeline.errors import DataRefused, PipelineError
from tests.corpus.case import CAT, GOOD, write_files
from tests.data.sources.made import shard
from tests.ingesting import LIMITS, asked


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    """The address of a store in memory with class folders, an archive and a table."""
    memory, root = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    files = GOOD | {
        "a.zip": zip_bytes(),
        "labels.csv": b"file_name,label\ncat/1.png,x\ndog/2.png,y\n",
        "above.csv": b"file_name,label\n../../1.png,x\n",
        "notes.md": b"",
    }
    for name, content in files.items():
        memory.pipe(f"{root}/all/{name}", content)
        if name in GOOD:
            memory.pipe(f"{root}/classes/{name}", content)
    return f"memory:/{root}"


class _Server(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, and answers that are wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix("/wrong/")
        if name == self.path.split("?")[0]:
            super().do_GET()
        elif name in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[name])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "401.zip":
            self.send_error(401)
        elif name.startswith("busy") and (BUSY.setdefault(self.path, 0), 0)[0] < int(name[4]):
            BUSY[self.path] += 1
            self.send_error(503)
        elif name.startswith("busy"):
            self.path = "/a.zip"
            super().do_GET()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(zip_bytes() if name == "short.zip" else bytes(100_000))
            self.close_connection = True


BUSY: dict[str, int] = {}
"""How often an address was answered by 503; its sixth letter says how often it shall be."""

REDIRECTS = {
    "file.zip": "file:///etc/passwd",
    "ftp.zip": "ftp://127.0.0.1/a.zip",
    "data.zip": "data:,x",
    "good.zip": "/a.zip",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with class folders below ``classes/`` and an archive."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_WAITS", (0.0, 0.0, 0.0))
    BUSY.clear()
    root = tmp_path / "served"
    write_files(root / "classes", GOOD)
    write_files(root, {"a.zip": zip_bytes(), "cut.zip": zip_bytes()[:-60]})
    for number, content in enumerate(GOOD.values()):
        shard(root / f"s-{number:03}.tar", {"0.jpg": content, "0.cls": b"1"})
    handler = partial(_Server, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["classes", "classes/", "all/a.zip", "all/labels.csv"])
def test_folders_archives_and_tables_in_a_store(tmp_path, bucket, path):
    listing = read_source(asked(f"{bucket}/{path}", work=tmp_path))
    assert sorted(listing.columns["file_name"]) == sorted(GOOD)
    assert (listing.folder / "cat/1.png").read_bytes() == CAT
    assert listing.shown == f"{bucket}/{path}"


@pytest.mark.parametrize("path", ["classes/", "a.zip", "a.zip?signature=s3cr3t", "wrong/good.zip"])
def test_folders_and_archives_by_http(tmp_path, server, path):
    listing = read_source(asked(f"{server}/{path}", work=tmp_path))
    assert sorted(listing.columns["file_name"]) == sorted(GOOD)
    assert (listing.folder / "cat/1.png").read_bytes() == CAT
    assert "s3cr3t" not in listing.shown


def test_a_range_of_shards_by_http(tmp_path, server):
    address = f"{server}/s-{{000..{len(GOOD) - 1:03}}}.tar"
    listing = read_source(asked(address, work=tmp_path))
    assert listing.columns["file_name"] == [f"s-{i:03}/0.jpg" for i in range(len(GOOD))]


def test_a_server_that_is_busy_for_a_moment_is_asked_again(tmp_path, server):
    listing = read_source(asked(f"{server}/wrong/busy3.zip", work=tmp_path))
    assert sorted(listing.columns["file_name"]) == sorted(GOOD)
    with pytest.raises(PipelineError, match="503"):
        read_source(asked(f"{server}/wrong/busy4.zip", work=tmp_path / "second"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wrong/file.zip", "redirects from http:// to file://"),
        ("wrong/ftp.zip", "redirects from http:// to ftp://"),
        ("wrong/data.zip", "redirects from http:// to data://"),
        ("wrong/short.zip", "cannot be downloaded"),
        ("wrong/401.zip?key=s3cr3t", "401"),
        ("gone.zip", "nothing is there"),
        ("gone/", "nothing is there"),
        ("cut.zip", "cannot be unpacked"),
    ],
)
def test_a_failed_download_leaves_a_message_and_nothing_else(tmp_path, server, path, message):
    address = f"{server}/{path}".replace("://", "://someone:pa55word@")
    with pytest.raises(PipelineError) as refused:
        read_source(asked(address, work=tmp_path))
    assert message in str(refused.value)
    assert not any(word in str(refused.value) for word in ("s3cr3t", "pa55word", "someone"))
    assert refused.value.__cause__ is None or "cut.zip" in path
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("limits", "path", "message"),
    [
        ({"bytes": 300}, "all/a.zip", "ingest.limits.bytes"),
        ({"bytes": 150}, "classes/", "ingest.limits.bytes"),
        ({"file_bytes": 50}, "classes/", "ingest.limits.file_bytes"),
        ({"file_bytes": 50}, "all/labels.csv", "ingest.limits.file_bytes"),
        ({"files": 1}, "classes/", "ingest.limits.files"),
        ({}, "all/above.csv", "is no path inside"),
    ],
)
def test_limits_hold_and_names_stay_inside(tmp_path, bucket, limits, path, message):
    limited = LIMITS.model_copy(update=limits)
    with pytest.raises(DataRefused) as refused:
        read_source(asked(f"{bucket}/{path}", work=tmp_path, limits=limited))
    assert message in str(refused.value)
    assert not (tmp_path / "scratch").exists()


def test_an_endless_answer_is_cut_off(tmp_path, server):
    limited = LIMITS.model_copy(update={"bytes": 50_000})
    with pytest.raises(DataRefused, match=r"ingest\.limits\.bytes"):
        read_source(asked(f"{server}/wrong/endless.zip", work=tmp_path, limits=limited))
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/a.zip", "needs the package 's3fs'; run 'pip install s3fs'"),
        ("gs://bucket/a.zip", "needs the package 'gcsfs'; run 'pip install gcsfs'"),
        ("htps://host/a.zip", "no kind of address 'htps://' is known; did you mean 'https'?"),
        ("file:///etc/passwd", "not a remote address; name the path itself"),
        ("zip://a::https://host/b.zip", "chained addresses are not followed"),
        ("simplecache::https://user:pa55@host/b.zip", "there is no"),
        ("memory://nothing/here.zip", "nothing is there"),
    ],
)
def test_addresses_that_cannot_be_read(tmp_path, address, message):
    with pytest.raises(PipelineError) as refused:
        read_source(asked(address, work=tmp_path))
    assert message in str(refused.value)
    assert "pa55" not in str(refused.value)


def test_a_redirect_never_leaves_https():
    check_redirect("https://a/x", "https://b/x")
    check_redirect("http://a/x", "/y")
    for target in ("http://b/x", "file:///etc/passwd", "ftp://b/x"):
        with pytest.raises(PipelineError, match="which is not followed"):
            check_redirect("https://a/x?k=1", target)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://u:p@host/a.zip?sig=1#x", "https://***@host/a.zip?…"),
        ("s3://bucket/a.zip", "s3://bucket/a.zip"),
        ("photos/what?.zip", "photos/what?.zip"),
        ("https://token@host/a", "https://***@host/a"),
    ],
)
def test_secrets_of_an_address_are_not_shown(address, shown):
    assert redacted(address) == shown
