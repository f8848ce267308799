"""Great Expectations' Data Docs, made readable without a network and equal for equal data.

As they come, the pages load styles and scripts from seven hosts, and carry clocks and random ids.
Here they get a small style of their own (``data_docs.html``) in place of all that, and a policy by
which a browser runs no script that a label might smuggle in.
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

ALWAYS_THE_SAME = datetime(2000, 1, 1, tzinfo=UTC)
"""The run's time, which Data Docs show and name files by: outputs of a stage carry no clock."""

# What makes two equal Data Docs differ: the time the table was handed over, our own time in the
# local zone, random ids of foldable parts.
_LOADED_AT = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_RUN_AT = re.compile(r"(?:1999-12-31|2000-01-01)[T ]\d\d:\d\d:\d\d(?:Z| [\w+:-]+)")
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_USELESS = (
    re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<style\b.*?</style>", re.DOTALL | re.IGNORECASE),
    re.compile(r"<link\b[^>]*>", re.IGNORECASE),
    re.compile(r"<img\b[^>]*>", re.IGNORECASE),
    re.compile(r"<footer\b.*?</footer>", re.DOTALL | re.IGNORECASE),
    re.compile(r'\son[a-z]+="[^"]*"', re.IGNORECASE),
)
_REMOTE_LINK = re.compile(r'<a\b[^>]*\bhref="(?:https?:)?//[^>]*>(.*?)</a>', re.DOTALL)

_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data Docs</title>
</head>
<body>
<div class="container-fluid"><div class="row">
<h4>Data Docs of the validation</h4>
<div class="card">
<ul>
{items}
</ul>
</div>
</div></div>
</body>
</html>
"""


def make_plain(folder: Path) -> None:
    """Rewrite every page in ``folder``; nothing in it refers to another host afterwards."""
    style = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    shutil.rmtree(folder / "static", ignore_errors=True)
    _write_index(folder)
    for page in folder.rglob("*.html"):
        text = _without_chance(page.read_text(encoding="utf-8"))
        for useless in _USELESS:
            text = useless.sub("", text)
        text = _REMOTE_LINK.sub(r"\1", text).replace("</head>", f"{style}</head>", 1)
        page.write_text(text, encoding="utf-8")


def _write_index(folder: Path) -> None:
    """A list of the pages, which the original fills in by script."""
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*/*.html"))
    items = [
        f'<li><a href="{page}">{"Result" if page.startswith("validations/") else "Suite"}:'
        f" {page.split('/')[1].removesuffix('.html')}</a></li>"
        for page in pages
    ]
    text = _INDEX.format(items="\n".join(items))
    (folder / "index.html").write_text(text, encoding="utf-8")


def _without_chance(text: str) -> str:
    text = _LOADED_AT.sub(f"{ALWAYS_THE_SAME:%Y%m%dT%H%M%S.%fZ}", text)
    text = _RUN_AT.sub(f"{ALWAYS_THE_SAME:%Y-%m-%d}", text)
    ids: dict[str, str] = {}
    return _RANDOM_ID.sub(lambda found: ids.setdefault(found[0], f"part-{len(ids)}"), text)
