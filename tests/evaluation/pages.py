"""Reading pages: what they are made of, and how a browser shows them."""

from __future__ import annotations

import html
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "img", "br", "hr", "input"}
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


class Page(HTMLParser):
    """What a page is made of; fails on a tag that is closed in the wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_needs_nothing_else(text: str) -> None:
    """No script, no address, no image or link that is not in the page itself."""
    page = Page(text)
    assert not {"script", "iframe", "object"} & page.tags
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert all((image["src"] or "").startswith("data:") for image in page.images)
    assert all(image["alt"] for image in page.images)
    assert not re.findall(r"url\((?!#)", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= NAMESPACES


PROBE = """<script>addEventListener('load', () => {
  const panels = [...document.querySelectorAll('.matrix a')].map(link => {
    location.hash = link.hash;
    return getComputedStyle(document.querySelector(link.hash)).display;
  });
  parent.postMessage(JSON.stringify({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    broken: [...document.images].filter(image => !image.naturalWidth).length,
    images: document.images.length,
    sections: [...document.querySelectorAll('main > section')].map(each => each.id),
    unreachable: [...document.querySelectorAll('a[href], summary, [tabindex]')]
      .filter(each => each.tabIndex < 0).length,
    panels: panels,
    ink: getComputedStyle(document.querySelector('svg text')).fill}), '*')})</script>"""


def seen_by_a_browser(text: str, folder: Path, chromium: str, *, width: int) -> dict[str, Any]:
    """What a browser says of a page; fails if it has written to the console.

    The page itself runs no script; for this look it may, and reports to the page around it.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    (folder / "seen.html").write_text(text.replace("</body>", f"{PROBE}</body>"), "utf-8")
    # In a frame, because a headless window is never as narrow as a phone.
    (folder / "page.html").write_text(
        "<script>addEventListener('message', event => document.title = event.data)</script>"
        f"<iframe src=seen.html style='width: {width}px; height: 900px'></iframe>"
    )
    done = subprocess.run(
        [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000"),
            *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"),
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr
    return json.loads(html.unescape(title[1]))
