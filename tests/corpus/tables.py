"""Tables that are hard to read, each beside a.png, b.png and c.png."""

from __future__ import annotations

import codecs
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.case import BAD, CAT, DOG, Case, write_files

IMAGES = {"a.png": CAT, "b.png": DOG, "c.png": BAD}
ALL = tuple(IMAGES)

Make = Callable[[Path], Path]


def of_bytes(content: bytes, name: str = "metadata.csv") -> Make:
    """A folder with images and a table."""

    def make(folder: Path) -> Path:
        write_files(folder, IMAGES)
        write_files(folder.parent, {"outside.png": BAD})
        (folder / name).write_bytes(content)
        return folder

    return make


def csv(*lines: str, header: str = "file_name,label", encoding: str = "utf-8") -> Make:
    return of_bytes("".join(f"{line}\n" for line in (header, *lines)).encode(encoding))


def alone(make: Make, name: str) -> Make:
    """The table itself is the address."""
    return lambda folder: make(folder) / name


def jsonl(*rows: object) -> Make:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    return of_bytes("".join(f"{line}\n" for line in lines).encode(), "metadata.jsonl")


def named(name: str, label: object = "x", **more: object) -> dict[str, object]:
    return {"file_name": name, "label": label, **more}


def parquet(**columns: pa.Array | list[object]) -> Make:
    def make(folder: Path) -> Path:
        of_bytes(b"", "notes.txt")(folder)
        table = pa.table({"file_name": list(ALL), "label": ["x", "y", "x"], **columns})
        pq.write_table(table, folder / "metadata.parquet")
        return folder

    return make


def two_tables(folder: Path) -> Path:
    jsonl(named("a.png"))(folder)
    return csv("a.png,x", "b.png,y")(folder)


def split_tables(folder: Path) -> Path:
    for split, name, label in (("train", "a.png", "x"), ("validation", "b.png", "y")):
        write_files(folder / split, {name: IMAGES[name]})
        (folder / split / "metadata.csv").write_text(f"file_name,label\n{name},{label}\n")
    return folder


def split_names(folder: Path) -> Path:
    write_files(folder, {"train/a.png": CAT, "test/b.png": DOG})
    (folder / "metadata.csv").write_text("file_name,label\ntrain/a.png,x\ntest/b.png,y\n")
    return folder


ROWS = ("a.png,x", "b.png,y", "c.png,x")
LABELS = {"label": ["x", "y", "x"]}

TEXT = (
    Case("CSV", csv(*ROWS), kept=ALL, columns=LABELS),
    Case("CSV as the address", alone(csv(*ROWS), "metadata.csv"), kept=ALL, columns=LABELS),
    Case("BOM", csv(*ROWS, encoding="utf-8-sig"), kept=ALL, columns=LABELS),
    Case("UTF-16", csv(*ROWS, encoding="utf-16"), kept=ALL, columns=LABELS),
    Case("UTF-16 the other way", of_bytes(codecs.BOM_UTF16_BE + "\n".join(
         ("file_name,label", *ROWS)).encode("utf-16-be")), kept=ALL, columns=LABELS),
    Case("UTF-16 without BOM", csv(*ROWS, encoding="utf-16-le"), "without its mark"),
    Case("Latin-1", csv("a.png,caf\u00e9", encoding="latin-1"), "neither UTF-8 nor UTF-16"),
    Case("UTF-16 cut short", of_bytes("file_name,label\na.png,x".encode("utf-16")[:-1]), "neither"),
    Case("semicolons", csv("a.png;x", "b.png;y", header="file_name;label"), kept=("a.png", "b.png"),
         columns={"label": ["x", "y"]}, reasons=("does not name",)),
    Case("tabs", csv("a.png\tx", "b.png\ty", header="file_name\tlabel"), kept=("a.png", "b.png"),
         reasons=("does not name",)),
    Case("TSV as the address", alone(of_bytes(b"file_name\tlabel\na.png\tx,y\nb.png\tz\n", "t.tsv"),
         "t.tsv"), kept=("a.png", "b.png"), columns={"label": ["x,y", "z"]},
         reasons=("does not name",)),
    Case("semicolons, another header", csv("a.png;x", header="name;label"), "by semicolons"),
    Case("Windows line ends", of_bytes(b"file_name,label\r\na.png,x\r\nb.png,y\r\nc.png,x\r\n"),
         kept=ALL, columns=LABELS),
    Case("blank lines", csv("", "a.png,x", "", "b.png,y", "c.png,x"), kept=ALL, columns=LABELS),
    Case("newline in a cell", csv('a.png,x,"1\n2"', 'b.png,y,', 'c.png,x,""',
         header="file_name,label,note"), kept=ALL, columns={"note": ["1\n2", "", ""]}),
    Case("ragged, longer", csv("a.png,x", "b.png,y,z"), "line 3: 3 values, expected 2"),
    Case("ragged, shorter", csv("a.png,x", "b.png"), "line 3: 1 values, expected 2"),
    Case("duplicate header", csv("a.png,x,y", header="file_name,label,label"), "or there twice"),
    Case("empty header", csv("a.png,x,y", header="file_name,label,"), "'' is empty"),
    Case("header with an escape", csv("a.png,x,y", header="file_name,label,\x1b[2J"), "unprint"),
    Case("NUL", csv("a.png,x\0"), "has a NUL"),
    Case("open quote", csv('a.png,"x'), "line 2"),
    Case("quote in the middle", csv('a.png,"x"y'), "line 2"),
    Case("a huge cell", csv(f"a.png,{'x' * 200_000}"), "field larger than field limit"),
    Case("too many columns", csv("a.png,x", header="file_name," + ",".join(map(str, range(1_001)))),
         "1,002 columns"),
    Case("too many rows", csv(*(f"{i}.png,x" for i in range(10_001))), "more than 10,000 rows"),
    Case("empty file", of_bytes(b""), "empty; its first line names the columns"),
    Case("header alone", csv(), "no rows"),
    Case("no file_name", csv("a.png,x", header="filename,label"), "did you mean 'filename'?"),
    Case("007 and NA", csv("a.png,007", "b.png,NA", "c.png,null"), kept=ALL,
         columns={"label": ["007", "NA", "null"]}),
    Case("1e3 and TRUE", csv("a.png,1e3", "b.png,TRUE", "c.png,1.0"), kept=ALL,
         columns={"label": ["1e3", "TRUE", "1.0"]}),
    Case("formulas", csv("a.png,=cmd|' /C calc'!A0", "b.png,@x", "c.png,+1"), kept=ALL,
         columns={"label": ["=cmd|' /C calc'!A0", "@x", "+1"]}),
    Case("path above", csv("a.png,x", "../outside.png,y"), "line 3: '../outside.png' is no path"),
    Case("path up and down", csv("x/../../source/a.png,y"), "is no path inside"),
    Case("absolute path", csv("a.png,x", "/etc/hostname,y"), "is no path inside"),
    Case("file address", csv("file:///etc/hostname,y"), "is no path inside"),
    Case("web address", csv("https://example.org/a.png,y"), "is no path inside"),
    Case("Windows path", csv("C:\\b.png,y"), "is no path inside"),
    Case("backslash path", csv("images\\b.png,y"), "is no path inside"),
    Case("empty path", csv(",y"), "is no path inside"),
    Case("folder as path", csv(".,y"), "is no path inside"),
    Case("long path", csv(f"{'b' * 300}.png,y"), "too long"),
    Case("listed twice", csv("a.png,x", "./a.png,y"), "'a.png' is listed twice, first in line 2"),
    Case("missing file", csv("a.png,x", "d.png,y"), "1 of 2 files are missing: 'd.png' (line 3"),
    Case("missing folder", csv("a.png,x", "sub/b.png,y"), "no folder 'sub'"),
    Case("unlisted file", csv("a.png,x", "b.png,y"), kept=("a.png", "b.png"),
         reasons=("images that the table does not name",)),
    Case("unlisted beside the table", alone(csv("a.png,x", "b.png,y"), "metadata.csv"),
         kept=("a.png", "b.png"), reasons=("images that the table does not name",)),
    Case("path above, table as the address", alone(csv("../outside.png,y"), "metadata.csv"),
         "is no path inside"),
    Case("two tables", two_tables, "keep one of them"),
    Case("a table for each split", split_tables, kept=("train/a.png", "validation/b.png"),
         columns={"split": ["train", "val"], "label": ["x", "y"]}),
    Case("splits in the names", split_names, kept=("train/a.png", "test/b.png"),
         columns={"split": ["train", "test"]}),
)  # fmt: skip

TYPED = (
    Case("JSON lines", jsonl(named("a.png"), named("b.png", "y"), named("c.png")), kept=ALL,
         columns=LABELS),
    Case("JSON lines as the address", alone(jsonl(named("a.png"), named("b.png"), named("c.png")),
         "metadata.jsonl"), kept=ALL),
    Case("JSON values", jsonl(named("a.png", 7), named("b.png", True), named("c.png", None)),
         kept=ALL, columns={"label": ["7", "true", ""]}),
    Case("JSON numbers keep their digits", jsonl('{"file_name": "a.png", "label": 1.0}',
         '{"file_name": "b.png", "label": 1e3}',
         '{"file_name": "c.png", "label": 12345678901234567890}'),
         kept=ALL, columns={"label": ["1.0", "1e3", "12345678901234567890"]}),
    Case("JSON without a key", jsonl(named("a.png"), named("b.png", age=3), named("c.png")),
         kept=ALL, columns={"age": ["", "3", ""]}),
    Case("JSON nested list", jsonl(named("a.png", ["x"])), "label is a list or an object"),
    Case("JSON nested object", jsonl(named("a.png", more={"x": 1})), "more is a list or an object"),
    Case("JSON array", jsonl(["a.png", "x"]), "expected one object"),
    Case("JSON key twice", jsonl('{"file_name": "a.png", "label": "x", "label": "y"}'), "twice"),
    Case("JSON NaN", jsonl('{"file_name": "a.png", "label": NaN}'), "NaN is no JSON"),
    Case("JSON half a character", jsonl('{"file_name": "a.png", "label": "\\ud800"}'), "half a"),
    Case("JSON NUL", jsonl('{"file_name": "a.png", "label": "\\u0000"}'), "has a NUL"),
    Case("JSON very deep", jsonl("[" * 100_000), "no JSON object"),
    Case("JSON of many keys", jsonl({f"k{i}": 1 for i in range(1_002)}), "1,000 different keys"),
    Case("JSON cut short", jsonl('{"file_name": "a.png", "la'), "line 1: no JSON object"),
    Case("JSON number as path", jsonl(named(7)), "are missing: '7'"),  # type: ignore[arg-type]
    Case("JSON path above", jsonl(named("../outside.png")), "is no path inside"),
    Case("Parquet", parquet(), kept=ALL, columns=LABELS),
    Case("Parquet as the address", alone(parquet(), "metadata.parquet"), kept=ALL, columns=LABELS),
    Case("Parquet types", parquet(
         whole=pa.array([1, None, 3], pa.int64()),
         share=pa.array([0.1, float("nan"), 3.0], pa.float64()),
         single=pa.array([0.1, None, 0.5], pa.float32()),
         true=[True, False, None],
         day=[dt.date(2024, 1, 31), None, None],
         kind=pa.array(["p", "q", "p"]).dictionary_encode()), kept=ALL,
         columns={"whole": ["1", "", "3"], "share": ["0.1", "", "3.0"],
                  "single": ["0.1", "", "0.5"], "true": ["true", "false", ""],
                  "day": ["2024-01-31", "", ""], "kind": ["p", "q", "p"]}),
    Case("Parquet list", parquet(tags=[["x"], [], None]), "the column 'tags' holds list"),
    Case("Parquet struct", parquet(image=[{"path": "a.png"}] * 3), "'image' holds struct"),
    Case("Parquet bytes", parquet(raw=[b"x"] * 3), "the column 'raw' holds binary"),
    Case("Parquet index of pandas", parquet(__index_level_0__=[4, 5, 6]), kept=ALL),
    Case("Parquet not UTF-8", parquet(note=pa.array([b"\xff"] * 3).view(pa.string())), "damaged"),
    Case("Parquet that is none", of_bytes(b"PAR1 not really", "metadata.parquet"), "no Parquet"),
)  # fmt: skip

CASES = (*TEXT, *TYPED)
