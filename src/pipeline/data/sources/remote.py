"""A file or folder behind any address that fsspec can open, downloaded to the scratch folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipeline.console import logger, progress
from pipeline.data.sources.download import Remote
from pipeline.data.sources.members import Member, Plan, make_folders, plan, useful
from pipeline.data.sources.names import safe_name
from pipeline.data.sources.source import TABLE_SUFFIXES, Request
from pipeline.data.sources.table import read_table
from pipeline.data.sources.table_listing import named_files
from pipeline.data.sources.webdataset import RANGE, expanded

FORM = "an address of an archive, a table, shards or a folder/ (https://…, s3://…, gs://…)"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AT_ONCE = 16
"""Downloads side by side: each mostly waits for an answer."""


def claims(request: Request) -> bool:
    return _SCHEME.match(request.address) is not None


def read(request: Request) -> Request:
    """Download what is there within ``request.limits``, and point to the copy.

    Of a folder the images, tables, IDX files and shards are taken; with a table the files it names.

    Raises:
        ConfigurationError: the address is of no kind that can be downloaded, or nothing is there.
        DataRefused: what is there passes the limits, or would be written outside.
        PipelineError: a driver is missing, or the connection failed.
    """
    folder, _, name = request.address.rpartition("/")
    shards = expanded(name) if RANGE.search(name) and "?" not in name else []
    first = f"{folder}/{shards[0]}" if shards else request.address
    remote = Remote(first, request.limits)
    target = request.scratch / "downloaded"
    target.mkdir(parents=True)
    logger.info("downloading %s", request.shown)
    if shards:
        names = [safe_name(shard, request.shown) for shard in shards]
        _fetch_all(
            request,
            remote,
            [(remote.beside(name), target / name, 0) for name in names],
            most=request.limits.bytes,
        )
        return dataclasses.replace(request, address=str(target))
    if remote.is_folder():
        planned = _fetch_folder(request, remote, target)
        return dataclasses.replace(
            request,
            address=str(target),
            skipped=request.skipped + planned.skipped,
            refused=request.refused + planned.refused,
        )
    file = target / _file_name(request)
    remote.fetch(remote.path, file, most=request.limits.bytes)
    if file.suffix.lower() in TABLE_SUFFIXES:
        _fetch_named(request, remote, file)
    return dataclasses.replace(request, address=str(file))


def _file_name(request: Request) -> str:
    """The last part of the address, by whose suffix the copy is known for what it is."""
    name = PurePosixPath(unquote(urlsplit(request.address).path)).name or "download"
    return safe_name(name, request.shown)


def _fetch_folder(request: Request, remote: Remote, target: Path) -> Plan:
    known = useful(request.table)
    paths: list[str] = []
    sizes: list[int] = []

    def members() -> Iterator[Member]:
        for path, member in remote.walk():
            paths.append(path)
            sizes.append(member.size)
            yield member

    planned = plan(
        members(),
        request.limits,
        request.shown,
        wanted=lambda path: known(path) or path.endswith(".tar"),
    )
    make_folders(planned, target)
    jobs = [(paths[i], target / name, sizes[i]) for i, name in planned.files.items()]
    _fetch_all(request, remote, jobs)
    return planned


def _fetch_named(request: Request, remote: Remote, file: Path) -> None:
    """Fetch the files that the table ``file`` names, relative to where it came from."""
    own = request.table if request.configured and request.table else None
    params = own if own and own.file == file.name else None
    table = read_table(file, params, shown=request.shown, most_rows=request.limits.files)
    if "file_name" not in table.columns:
        return  # for the table's own source to say
    names = list(named_files(table, request.shown))
    for parent in {(file.parent / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    _fetch_all(request, remote, [(remote.beside(name), file.parent / name, 0) for name in names])


def _fetch_all(
    request: Request, remote: Remote, jobs: list[tuple[str, Path, int]], most: int | None = None
) -> None:
    """Fetch (path, target, size) each, several at a time; the first failure ends it."""
    most = most or request.limits.file_bytes
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        with progress("download", len(jobs), "files") as step:
            fetched = pool.map(
                lambda job: remote.fetch(job[0], job[1], most=most, size=job[2]), jobs
            )
            for _ in fetched:
                step.advance()
    finally:
        pool.shutdown(cancel_futures=True)
