"""Near duplicates: what is found of planted copies, and how long the search for close hashes takes.

The planted copies lie among all solar cells, which look alike, so that what is found wrongly counts
too. cleanvision and imagededup get the same folder, and work as they come.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data_images import cells, write_listing
from benchmarks.data_scan import scan_anew
from benchmarks.peers import peer_python, peer_version
from benchmarks.results import PROJECT, Row, beside
from pipeline.data.manifest import read_table
from pipeline.data.scanning.fingerprint import fingerprints, picture
from pipeline.data.scanning.pixel_measures import lit, shrink
from pipeline.workspace import Workspace

RADIUS = 8
PEERS = ("cleanvision", "imagededup")
Pairs = set[tuple[str, str]]


def rows(images: int = 50_000, repeats: int = 5, planted: int = 300) -> list[dict[str, Any]]:
    """Recall and precision on ``planted`` copies of each kind; seconds among ``images`` hashes."""
    return [asdict(row) for row in (*_found_rows(planted), *_search_rows(images, repeats))]


def _found_rows(planted: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        plant(workspace, planted)
        images = workspace.data / "images"
        names = sorted(path.name for path in images.iterdir())
        found = {"ours": _our_pairs(workspace)}
        for peer in PEERS:
            found[peer] = {_sorted(*pair) for pair in _peer_once(peer, str(images))["pairs"]}
    table = []
    for kind in (None, *KINDS):
        true = {_sorted(_original(name), name) for name in names if _is_copy(name, kind)}
        recalls = {who: len(pairs & true) for who, pairs in found.items()}
        case = f"{len(true):,} planted copies" + (f", {kind}" if kind else "")
        table += _beside(case, "recall", recalls, dict.fromkeys(found, len(true)))
    right = {who: sum(_of_one_cell(*pair) for pair in pairs) for who, pairs in found.items()}
    count = {who: len(pairs) for who, pairs in found.items()}
    return [*table, *_beside(f"pairs found among {len(names):,} images", "precision", right, count)]


def plant(workspace: Workspace, planted: int) -> None:
    """All cells, and ``planted`` copies of each kind, each of another cell where there are enough.

    A copy of ``cell0001.png`` is named ``cell0001-KIND.…``.
    """
    images = workspace.data / "images"
    images.mkdir(parents=True)
    for path in cells():
        shutil.copy(path, images / path.name)
    chance = random.Random(0)
    for kind, copy in KINDS.items():
        for path in chance.sample(cells(), planted):
            with Image.open(path) as cell:
                copy(cell.copy(), images / f"{path.stem}-{kind}", chance)
    write_listing(workspace)


def _with(path: Path, extension: str) -> Path:
    return path.with_name(path.name + extension)


def _jpeg(cell: Image.Image, path: Path, chance: random.Random) -> None:
    cell.save(_with(path, ".jpg"), quality=chance.randint(30, 95))


def _webp(cell: Image.Image, path: Path, chance: random.Random) -> None:
    cell.save(_with(path, ".webp"), quality=chance.randint(30, 95))


def _resized(cell: Image.Image, path: Path, chance: random.Random) -> None:
    side = round(300 * math.exp(chance.uniform(math.log(0.3), math.log(2))))
    cell.resize((side, side), Image.Resampling.BICUBIC).save(_with(path, ".png"))


def _turned(cell: Image.Image, path: Path, chance: random.Random) -> None:
    orientation, turn = chance.choice(
        [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    cell.transpose(turn).save(_with(path, ".jpg"), quality=90, exif=exif)


def _cropped(cell: Image.Image, path: Path, _: random.Random) -> None:
    cell.crop((6, 6, 294, 294)).save(_with(path, ".png"))


def _toned(cell: Image.Image, path: Path, chance: random.Random) -> None:
    gain, offset = chance.uniform(0.85, 1), chance.uniform(-5, 5)
    cell.point(lambda level: round(level * gain + offset)).save(_with(path, ".png"))


def _coloured(cell: Image.Image, path: Path, _: random.Random) -> None:
    cell.convert("RGB").save(_with(path, ".jpg"), quality=90)


KINDS: dict[str, Callable[[Image.Image, Path, random.Random], None]] = {
    "JPEG 30 to 95": _jpeg,
    "WebP 30 to 95": _webp,
    "× 0.3 to 2": _resized,
    "turned by EXIF": _turned,
    "cropped by 2 %": _cropped,
    "toned": _toned,
    "grey to RGB": _coloured,
}


def _original(name: str) -> str:
    return f"{name[:8]}.png"


def _is_copy(name: str, kind: str | None) -> bool:
    return name != _original(name) and (kind is None or Path(name).stem[9:] == kind)


def _of_one_cell(first: str, second: str) -> bool:
    return _original(first) == _original(second)


def _sorted(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first < second else (second, first)


def _our_pairs(workspace: Workspace) -> Pairs:
    scan_anew(workspace)
    manifest = read_table(workspace.manifest)
    clusters: dict[int, list[str]] = {}
    for name, cluster in zip(
        manifest["file_name"].to_pylist(), manifest["near_cluster"].to_pylist(), strict=True
    ):
        clusters.setdefault(cluster, []).append(Path(name).name)
    return _pairs_of(clusters.values())


def _pairs_of(clusters: Iterable[Collection[str]]) -> Pairs:
    return {_sorted(*pair) for cluster in clusters for pair in combinations(cluster, 2)}


def _peer_once(peer: str, *arguments: str) -> dict[str, Any]:
    script = PROJECT / "benchmarks" / "near_once.py"
    return _run([peer_python(), str(script), peer, *arguments])


def _run(command: list[str]) -> dict[str, Any]:
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": path, "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _beside(case: str, metric: str, hits: dict[str, int], of: dict[str, int]) -> list[Row]:
    """A row beside each peer; an interval (Wilson, 95 %) for ours."""
    share = {who: hits[who] / max(1, of[who]) for who in hits}
    low, high = _wilson(hits["ours"], max(1, of["ours"]))
    return [
        Row(
            case,
            metric,
            "",
            round(share["ours"], 4),
            low=round(low, 4),
            high=round(high, 4),
            peer=round(share[peer], 4),
            peer_name=peer_version(peer),
            ratio=round(share["ours"] / share[peer], 3) if share[peer] else None,
        )
        for peer in PEERS
    ]


def _wilson(hits: int, count: int) -> tuple[float, float]:
    z = statistics.NormalDist().inv_cdf(0.975)
    share = hits / count
    middle = share + z * z / (2 * count)
    width = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - width) / scale), min(1.0, (middle + width) / scale)


def _search_rows(count: int, repeats: int) -> list[Row]:
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hashes.npy")
        np.save(path, some_hashes(count))
        for _ in range(repeats):
            search = [sys.executable, "-m", "benchmarks.search_once", str(path), str(RADIUS)]
            own, peer = _run(search), _peer_once("search", str(path), str(RADIUS))
            if own["pairs"] != peer["pairs"]:
                raise RuntimeError(f"{own['pairs']} pairs found, by imagededup {peer['pairs']}")
            ours.append(own["seconds"])
            theirs.append(peer["seconds"])
    case = f"all pairs within {RADIUS} bits among {count:,} hashes"
    return [beside(case, "time", "s", ours, theirs, peer_version("imagededup"), digits=4)]


def some_hashes(count: int) -> np.ndarray:
    """Half of them spread evenly, half around those of the solar cells, as look-alikes are."""
    rng = np.random.default_rng(0)
    known = []
    for path in cells():
        with Image.open(path) as cell:
            known.append(int(fingerprints([picture(shrink(lit(cell)))])[0][0], 16))
    around = rng.choice(np.array(known, np.uint64), count // 2)
    flips = rng.random((len(around), 64)) < 0.1
    around ^= np.packbits(flips, axis=1).view(np.uint64)[:, 0]
    spread = rng.integers(0, 2**64, count - len(around), dtype=np.uint64)
    hashes = np.unique(np.concatenate([around, spread]))
    return rng.permutation(hashes)
