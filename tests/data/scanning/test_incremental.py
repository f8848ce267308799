"""A second scan: what has changed is read, whatever was done to hide it, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.data.manifest import MEASURED
from pipeline.data.scanning import incremental
from pipeline.data.scanning.incremental import measure_listed
from pipeline.data.scanning.measure import Limits
from pipeline.data.scanning.parallel import Pool, Setting, Task
from pipeline.data.scanning.scan_cache import ScanCache
from tests.crashing import read_and_note, read_at_rest
from tests.images import encoded, picture

LIMITS = Limits(max_bytes=100_000, max_pixels=100_000)
COLUMNS = ["file_name", *(name for name, _ in MEASURED)]


def rescan(
    data: Path, names: list[str], *, key: str = "key", opening=read_at_rest, cache: str = "cache"
) -> tuple[pa.Table, dict[str, str]]:
    """The measures of ``names``, and the statuses of those that were read."""
    listed = pa.array(sorted(names))
    log = data / "read.log"
    log.unlink(missing_ok=True)
    table = measure_listed(
        Setting(data, LIMITS, 60, 2_000, opening),
        listed,
        ScanCache(data.parent / cache, key),
    ).table
    assert table["file_name"].to_pylist() == sorted(names)
    read = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
    return table.select(COLUMNS), dict(line.rsplit(" ", 1) for line in read)


def write(path: Path, seed: int, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed, mode=mode, size=(16, 12)), "BMP"))


def _same_size_and_times(path: Path) -> None:
    before = path.stat()
    write(path, 101)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def _renamed_into_place(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other.bmp")
    write(other, 102)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def _another_target(path: Path) -> None:
    before = path.stat()
    target = path.parent.parent / "second.bmp"
    write(target, 103)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.unlink()
    path.symlink_to(target)


def _linked_anew(path: Path) -> None:
    """As DVC puts a file of its cache into a working folder."""
    kept = path.parent.parent / "kept.bmp"
    shutil.copy2(path, kept)
    path.unlink()
    os.link(kept, path)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "left_alone.bmp": (Path.stat, None),
    "touched.bmp": (os.utime, "unchanged"),
    "written_again.bmp": (lambda path: path.write_bytes(path.read_bytes()), "unchanged"),
    "linked_anew.bmp": (_linked_anew, "unchanged"),
    "same_size_and_times.bmp": (_same_size_and_times, "ok"),
    "renamed_into_place.bmp": (_renamed_into_place, "ok"),
    "another_target.bmp": (_another_target, "ok"),
    "longer.bmp": (lambda path: path.write_bytes(path.read_bytes() + b"junk"), "ok"),
    "cut.bmp": (lambda path: path.write_bytes(path.read_bytes()[:60]), "truncated"),
    "removed.bmp": (Path.unlink, None),
    "a_folder.bmp": (_a_folder, None),
}
"""What is done to a file between two scans, and the status with which it is read, if it is."""

STATUS = {"cut.bmp": "truncated", "removed.bmp": "missing", "a_folder.bmp": "unreadable"}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory):
    """The first and the second scan, and one without a cache."""
    data = tmp_path_factory.mktemp("changed") / "data"
    for seed, name in enumerate(CHANGES):
        write(data / "images" / name, seed)
    linked = data / "images" / "another_target.bmp"
    linked.rename(data / "first.bmp")
    linked.symlink_to(data / "first.bmp")
    names = [f"images/{name}" for name in CHANGES]
    first = rescan(data, names)
    for name, (change, _) in CHANGES.items():
        change(data / "images" / name)
    return first, rescan(data, names), rescan(data, names, cache="none")


def test_the_first_scan_reads_everything(changed):
    (table, read), *_ = changed
    assert read == {f"images/{name}": "ok" for name in CHANGES}
    assert set(table["status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_read_again_and_no_other(changed, name):
    _, (_, read), _ = changed
    assert read.get(f"images/{name}") == CHANGES[name][1]


def test_the_result_is_that_of_a_scan_without_a_cache(changed):
    _, (table, _), (without, _) = changed
    assert table.equals(without)
    statuses = dict(zip(table["file_name"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert statuses == {f"images/{name}": STATUS.get(name, "ok") for name in CHANGES}


# One folder of five files, two of them alike.

NAMES = [f"images/{letter}.bmp" for letter in "abcde"]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data`` of five files, of which ``e`` has the pixels of ``a``, and its ``cache``."""
    top = tmp_path_factory.mktemp("scanned")
    for seed, name in enumerate(NAMES):
        write(top / "data" / name, seed % 4)
    rescan(top / "data", NAMES)
    return top


@pytest.fixture
def data(scanned: Path, tmp_path: Path) -> Path:
    """The folder that has been scanned: links, whose stamps are those of the files."""
    shutil.copytree(scanned / "cache", tmp_path / "cache")
    (tmp_path / "data" / "images").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "data" / name).symlink_to(scanned / "data" / name)
    return tmp_path / "data"


def test_where_nothing_has_changed_no_process_is_started_and_nothing_written(data, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(ScanCache, "save", None)
    table, read = rescan(data, NAMES)
    assert not read
    clusters = table["duplicate_cluster"].to_pylist()
    assert clusters == [0, 1, 2, 3, 0]


def test_a_file_less_is_no_reason_to_read_the_others(data, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    table, read = rescan(data, NAMES[1:])
    assert not read
    assert table["duplicate_cluster"].to_pylist() == [0, 1, 2, 3]
    assert table["near_cluster"].to_pylist() == [0, 1, 2, 3]
    again, _ = rescan(data, NAMES[1:])
    assert again.equals(table)


def test_a_new_file_is_the_only_one_read(data):
    write(data / "images" / "aa.bmp", 2)
    table, read = rescan(data, [*NAMES, "images/aa.bmp"])
    assert read == {"images/aa.bmp": "ok"}
    assert table["duplicate_cluster"].to_pylist() == [0, 1, 2, 1, 3, 0]
    assert table.equals(rescan(data, [*NAMES, "images/aa.bmp"], cache="none")[0])


def test_other_code_or_settings_read_everything_again(data):
    assert set(rescan(data, NAMES, key="another")[1]) == set(NAMES)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "flipped": lambda path: path.write_bytes(
        path.read_bytes()[:-20] + bytes(b ^ 1 for b in path.read_bytes()[-20:])
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("pattern", ["index.json", "measures-*", "fingerprints-*"])
def test_a_damaged_cache_is_as_none(data, pattern, damage, monkeypatch):
    (path,) = (data.parent / "cache").glob(pattern)
    DAMAGE[damage](path)
    seen: list[Task] = []

    def measure(self: Pool, tasks: Iterable[Task], count: int):
        seen.extend(tasks)
        return iter(())

    monkeypatch.setattr(Pool, "measure", measure)
    monkeypatch.setattr(
        incremental, "_clustered", lambda table, *_: (incremental._without_clusters(table), None)
    )
    write(data / "images" / "new.bmp", 9)
    listed = pa.array(sorted([*NAMES, "images/new.bmp"]))
    cache = ScanCache(data.parent / "cache", "key")
    setting = Setting(data, LIMITS, 60, 2_000)
    measure_listed(setting, listed, cache)
    assert [task.file_name for task in seen] == listed.to_pylist()


def interrupted(data: Path, monkeypatch: pytest.MonkeyPatch, of: object, function: str) -> None:
    """A scan that Ctrl-C meets in ``function``."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(of, function, stop)
        with pytest.raises(KeyboardInterrupt):
            rescan(data, NAMES)


def test_what_was_read_before_an_interruption_is_remembered(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for seed, name in enumerate(NAMES):
        write(data / name, seed % 4)

    interrupted(data, monkeypatch, incremental, "near_clusters")
    monkeypatch.setattr(subprocess, "Popen", None)
    table, read = rescan(data, NAMES)
    assert not read
    assert table["duplicate_cluster"].to_pylist() == [0, 1, 2, 3, 0]
    assert table["near_cluster"].null_count == 0


def test_an_interruption_before_anything_was_read_leaves_nothing_behind(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for seed, name in enumerate(NAMES):
        write(data / name, seed)

    interrupted(data, monkeypatch, Pool, "measure")
    assert list((tmp_path / "cache").iterdir()) == []
    _, read = rescan(data, NAMES)
    assert set(read) == set(NAMES)


def test_without_its_fingerprints_no_file_is_compared_by_its_content(data):
    (path,) = (data.parent / "cache").glob("fingerprints-*")
    path.write_bytes(path.read_bytes()[:-1])
    for name in NAMES:
        os.utime(data / name)
    table, read = rescan(data, NAMES)
    assert set(read.values()) == {"ok"}
    assert table["near_cluster"].null_count == 0


def test_what_may_come_out_otherwise_is_asked_again(tmp_path):
    data = tmp_path / "data"
    names = ["images/a.bmp", "images/hang.bmp"]
    for seed, name in enumerate(names):
        write(data / name, seed)
    for _ in range(2):
        table, read = rescan(data, names)
        assert table["status"].to_pylist() == ["ok", "crashed"]
    assert not read  # `a` is remembered, and the other never comes to an end


def test_a_file_written_just_before_it_was_read_is_compared_by_its_content(tmp_path):
    data = tmp_path / "data"
    write(data / NAMES[0], 1)
    first, _ = rescan(data, NAMES[:1], opening=read_and_note)
    second, read = rescan(data, NAMES[:1], opening=read_and_note)
    assert read == {NAMES[0]: "unchanged"}
    assert second.equals(first)


def test_a_full_disk_costs_the_cache_alone(data, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ScanCache, "_write", full)
    table, _ = rescan(data, NAMES[1:])
    assert table.num_rows == 4
    assert "nothing is remembered" in caplog.text
