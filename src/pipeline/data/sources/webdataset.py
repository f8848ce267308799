"""WebDataset shards: tars where files of one key, ``0001.jpg`` and ``0001.cls``, are a sample."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.console import progress
from pipeline.data.sources import tar
from pipeline.data.sources.compression import Unpacked
from pipeline.data.sources.members import Plan, plan, useful, write_member
from pipeline.data.sources.names import is_text
from pipeline.data.sources.source import IMAGE_SUFFIXES, Listing, Request, is_system
from pipeline.data.sources.table import is_carriable
from pipeline.data.sources.typed_table import json_object
from pipeline.errors import ConfigurationError, DataRefused

FORM = "WebDataset shards (x.tar, a folder of them, or x-{000..007}.tar)"

_LABEL_KINDS = ("cls", "json", "txt")
_LARGEST_TEXT = 1 << 20
_LOOKED_AT = 50
"""Members by which a tar is known for a shard."""
_MOST_SHARDS = 100_000


@dataclass
class _Sample:
    key: str
    image: str | None = None
    """The path of its image below the scratch folder."""
    texts: dict[str, bytes] = field(default_factory=dict)
    """What its members of `_LABEL_KINDS` hold."""


def claims(request: Request) -> bool:
    if request.address.startswith("pipe:"):
        raise ConfigurationError(
            f"'{request.shown}': a command is never run for its output; name the tar files"
        )
    path = request.folder
    if RANGE.search(path.name):
        return not path.exists()
    if path.is_dir():
        inner = sorted(p for p in path.iterdir() if not is_system(p.name))
        tars = [p for p in inner if p.suffix == ".tar"]
        data = any(p.is_dir() or useful(request.table)(p.name) for p in inner)
        return bool(tars) and not data and _is_shard(tars[0], request)
    return path.is_file() and path.suffix == ".tar" and _is_shard(path, request)


def read(request: Request) -> Listing:
    """Write the images to the scratch folder; the labels are ``cls``, ``json`` or ``txt``.

    ``cls`` is the label. Where there is none it is ``label`` of the ``json``, whose other single
    values are columns, or else the ``txt``.

    Raises:
        ConfigurationError: a shard that the range names is missing.
        DataRefused: a shard is damaged or cannot be trusted, a sample has no label or several
            images, or a key is there twice.
    """
    shards = _planned(request, _shards(request))
    folder = request.scratch / "shards"
    folder.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    skipped: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    with progress("unpack", len(shards), "shards") as step:
        for shard, planned in shards.items():
            skipped += planned.skipped
            refused += planned.refused
            # In several shards keys may be equal; each shard then has a folder of its own.
            inner = shard.name.removesuffix(".tar") if len(shards) > 1 else ""
            rows += _read_shard(request, shard, planned, folder, inner, refused)
            step.advance()
    names = list(dict.fromkeys(["file_name", "label", *(key for row in rows for key in row)]))
    return Listing(
        folder=folder.resolve(),
        columns={name: [row.get(name, "") for row in rows] for name in names},
        origin=f"{len(shards):,} shards" if len(shards) > 1 else next(iter(shards)).name,
        skipped=skipped,
        refused=refused,
        shown=request.shown,
    )


RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def _shards(request: Request) -> list[Path]:
    """The files that the address names, in order."""
    path = request.folder
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix == ".tar" and not is_system(p.name))
    if not RANGE.search(request.address):
        return [path]
    shards = [request.base / Path(name).expanduser() for name in expanded(request.address)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ConfigurationError(
            f"'{request.shown}': {len(missing):,} of {len(shards):,} shards are missing, first"
            f" '{missing[0]}'; correct the range"
        )
    return shards


def expanded(address: str) -> list[str]:
    """``x-{00..02}.tar`` as x-00.tar, x-01.tar and x-02.tar.

    Raises:
        ConfigurationError: there is none, or more than anyone has.
    """
    parts = RANGE.split(address)
    ranges = []
    for first, last in zip(parts[1::3], parts[2::3], strict=True):
        if int(last) - int(first) >= _MOST_SHARDS:
            raise ConfigurationError(f"'{address}': more than {_MOST_SHARDS:,} shards")
        width = len(first) if first.startswith("0") else 0
        ranges.append([f"{number:0{width}}" for number in range(int(first), int(last) + 1)])
    names = [
        "".join(itertools.chain(*zip(parts[::3], [*chosen, ""], strict=True)))
        for chosen in itertools.islice(itertools.product(*ranges), _MOST_SHARDS)
    ]
    if not names:
        raise ConfigurationError(f"'{address}': the range is empty; write the lower number first")
    return names


def _is_shard(path: Path, request: Request) -> bool:
    """Whether some image among the first members has a label of the same key.

    Beside an image in a folder only ``cls`` is one: a text there may as well be a caption, and the
    folder the class.
    """
    kinds: dict[str, set[str]] = {}
    try:
        with Unpacked(path, request.limits, request.shown) as stream:
            for entry in itertools.islice(tar.entries(stream), _LOOKED_AT):
                if entry.member.kind == "file":
                    key, kind = _key(entry.member.name)
                    kinds.setdefault(key, set()).add(kind)
    except DataRefused:
        return False
    return any(
        any(map(_is_image, there))
        and not there.isdisjoint({"cls"} if "/" in key.removeprefix("./") else _LABEL_KINDS)
        for key, there in kinds.items()
    )


def _planned(request: Request, shards: list[Path]) -> dict[Path, Plan]:
    """What of each shard will be written; the limits are for all of them together."""
    plans: dict[Path, Plan] = {}
    before: Plan | None = None
    for shard in shards:
        shown, limits = shard.name, request.limits
        with _named(shown), Unpacked(shard, limits, shown) as stream:
            members = (entry.member for entry in tar.entries(stream))
            before = plan(members, limits, shown, wanted=_is_part, before=before)
        plans[shard] = before
    return plans


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Name the shard in what is said of its members."""
    try:
        yield
    except DataRefused as error:
        said = str(error)
        raise DataRefused(said if said.startswith(shown) else f"{shown}: {said}") from error


def _read_shard(
    request: Request,
    shard: Path,
    planned: Plan,
    folder: Path,
    inner: str,
    refused: Counter[str],
) -> list[dict[str, str]]:
    shown = shard.name
    samples: dict[str, _Sample] = {}
    with _named(shown), Unpacked(shard, request.limits, shown) as stream:
        for position, entry in enumerate(tar.entries(stream)):
            if name := planned.files.get(position):
                _take(samples, entry, name, folder, inner)
    rows = []
    for sample in samples.values():
        if sample.image is None:
            refused["samples without an image"] += 1
        else:
            rows.append({"file_name": sample.image, **_said(sample, shown)})
    return rows


def _take(
    samples: dict[str, _Sample], entry: tar.Entry, name: str, folder: Path, inner: str
) -> None:
    """Add a member to its sample: write an image, keep what says its label."""
    key, kind = _key(name)
    sample = samples.setdefault(key, _Sample(key))
    if not _is_image(kind):
        if entry.member.size > _LARGEST_TEXT:
            raise DataRefused(f"{name!r} has {entry.member.size:,} bytes, too many for a label")
        sample.texts[kind] = b"".join(iter(lambda: entry.read(1 << 16), b""))
        return
    if sample.image is not None:
        raise DataRefused(
            f"the sample {key!r} has several images ({sample.image} and {name}); make shards with"
            " one image for each key"
        )
    sample.image = str(PurePosixPath(inner, name))
    path = folder / sample.image
    path.parent.mkdir(parents=True, exist_ok=True)
    write_member(path, entry.member.size, entry.read, repr(name))


def _said(sample: _Sample, shown: str) -> dict[str, str]:
    """The label and the extra columns of a sample."""
    place = f"{shown}: {sample.key!r}"
    said = (
        json_object(sample.texts["json"], f"{place}.json", nested=True)
        if "json" in sample.texts
        else {}
    )
    said.pop("file_name", None)
    kind = next((k for k in ("cls", "txt") if k in sample.texts), None)
    if kind and (kind == "cls" or "label" not in said):
        try:
            said["label"] = sample.texts[kind].decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataRefused(f"{place}.{kind}: not UTF-8 text; correct it") from error
    if "label" not in said:
        raise DataRefused(
            f"{place}: no label; expected a member .cls, .txt, or .json with the key 'label'"
        )
    for key, value in said.items():
        readable = is_text(value) if key == "label" else is_carriable(value)
        if not key.strip() or not is_text(key) or not readable:
            raise DataRefused(f"{place}: {key[:60]!r} is {value[:60]!r}, which is no line of text")
    return said


def _key(name: str) -> tuple[str, str]:
    """The sample a member belongs to, and what it is of it: up to, and from, the first dot."""
    folder, slash, last = name.rpartition("/")
    key, _, kind = last.partition(".")
    return f"{folder}{slash}{key}", kind.lower()


def _is_image(kind: str) -> bool:
    return PurePosixPath(f"x.{kind}").suffix in IMAGE_SUFFIXES


def _is_part(path: str) -> bool:
    _, kind = _key(path)
    return _is_image(kind) or kind in _LABEL_KINDS
