"""How figures look, and how one figure becomes both a PNG and an SVG that follows the page.

A figure is drawn once, in the colours of `LIGHT`. The PNG keeps them, on white. In the SVG each
becomes a CSS variable of the same name, so the page that holds it decides, for light and for dark,
and its text takes the page's font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LIGHT = {
    "ink": "#1b1f27",
    "muted": "#667080",
    "line": "#d9dde4",
    "ground": "#fffffe",
    "c0": "#2f6690",
    "c1": "#c8602b",
    "c2": "#3d8b6d",
    "c3": "#8a5fa8",
    "c4": "#b08a1e",
    "c5": "#b4476b",
    "c6": "#4b8fb5",
    "c7": "#7a6a58",
}
"""Colours by the name of their CSS variable; no two are equal."""

SERIES = [colour for name, colour in LIGHT.items() if re.fullmatch(r"c\d", name)]
PNG_DPI = 180
PIXELS_A_POINT = 1.3
"""How large a figure may grow in a page: so that text has one size in all of them."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "text.parse_math": False,  # names of classes and columns may hold a dollar sign
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 5,
    "ytick.major.pad": 5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": LIGHT["ink"],
    "legend.handlelength": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: it can be read out, found and set in the page's font
    "svg.hashsalt": "pipeline",
    "svg.id": None,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, whatever the user's own matplotlib settings are."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        # The PNG shows a box for a script that DejaVu lacks; the SVG uses the reader's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def canvas(width: float = 4.7, height: float = 3.6) -> tuple[Figure, Axes]:
    """One pair of axes on a figure of the given inches, laid out to fit its labels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def png(figure: Figure) -> bytes:
    """``figure`` on white, for pages that are not ours."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None}
    )
    return buffer.getvalue()


def svg(figure: Figure, *, name: str, description: str) -> str:
    """``figure`` as an ``<svg>`` element for use inside a page.

    Its colours are ``var(--NAME)``; its ids begin with ``name``, so that several share a page;
    ``description`` is what a screen reader says.
    """
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)  # would rule the page
    width = float(figure.get_figwidth()) * 72 * PIXELS_A_POINT
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r' d="[^"]*"', _short_path, text)
    text = text.replace("font-family: 'DejaVu Sans'; ", "")
    for variable, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{variable})")
    sizes = f"min-width: {0.6 * width:.0f}px; max-width: {width:.0f}px"
    label = escape(description)
    opening = f'<svg class="figure" style="{sizes}" role="img" aria-label="{label}"'
    return _own_ids(text, name).replace("<svg", opening, 1).strip()


def _short_path(match: re.Match[str]) -> str:
    """A path without digits that no screen shows, on one line."""
    return " " + " ".join(re.sub(r"(\.\d\d)\d+", r"\1", match[0]).split())


def _own_ids(text: str, name: str) -> str:
    """Keep the ids that something refers to, and begin them with ``name``."""
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([^"]+)"', renamed, text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
