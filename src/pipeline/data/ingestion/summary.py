"""What an ingest did, for the terminal and, in full, for a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.highlighter import RegexHighlighter

from pipeline.artifacts import write_json
from pipeline.console import logger
from pipeline.workspace import Workspace

_EXAMPLES = 2
"""Of the things counted in one line."""

_MOST_CLASSES = 20

_LONGEST_NAME = 40


@dataclass
class Summary:
    """Filled in while an ingest goes on; `tell` ends it."""

    what: str
    """``added``, ``replaced`` or ``relabelled``: the first word."""
    source: str
    notes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    """What became of files or rows, and of how many."""
    classes: Sequence[str] = ()
    """The order of the classes after the ingest."""
    before: Mapping[str, int] | None = None
    """Images per class before it, ``""``: without a label; ``None``: there was no version."""
    after: Mapping[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """Whole lists, for the file alone."""

    def count(self, number: int, what: str, examples: Sequence[str] = ()) -> None:
        """Note that ``number`` things, unless none, are ``what``; the first are shown."""
        if number:
            self.counts[what] = number
            self.examples[what] = [*examples[:_EXAMPLES], *["…"] * (len(examples) > _EXAMPLES)]

    def count_reasons(self, left_out: Counter[str], refused: Counter[str]) -> None:
        for verb, reasons in (("left out", left_out), ("refused", refused)):
            self.details[verb.replace(" ", "_")] = dict(sorted(reasons.items()))
            for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
                self.count(number, f"{verb}: {reason}")

    def tell(self, workspace: Workspace, *, new: str, old: str | None) -> None:
        """Log the summary, and write it in full to `last_summary`."""
        path = last_summary(workspace)
        in_full = f"in full: {path.relative_to(workspace.root)}"
        try:
            write_json(path, self._record(new, old))
        except OSError as error:  # the version is in place, whatever becomes of this file
            in_full = f"{path.relative_to(workspace.root)} could not be written ({error.strerror})"
        if new == old:
            end = [f"nothing changed: data/ is that version already ({new})", in_full]
        else:
            end = [
                *([f"before:  {old}"] if old else []),
                f"now:     {new}",
                f"written: data/, data.dvc; {in_full}",
                *self._next(),
            ]
        logger.info("%s", self.text(end), extra={"highlighter": _Colours()})

    def text(self, end: Sequence[str]) -> str:
        head = [f"{self.what}: {self.source}", *(f"  {note}" for note in self.notes)]
        width = max((len(f"{number:,}") for number in self.counts.values()), default=0)
        counts: list[str] = []
        for what, number in self.counts.items():
            counts.append(f"  {number:>{width},}  {what}")
            counts += [f"  {'':{width}}    {example}" for example in self.examples[what]]
        blocks = [head, counts, self._table(), [f"  {line}" for line in end]]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def _table(self) -> list[str]:
        """Images per class; of many classes those that changed most."""
        before, after = self.before or {}, self.after
        names = [*self.classes, *sorted(before.keys() - {*self.classes, ""})]
        if len(names) > _MOST_CLASSES:
            names.sort(key=lambda n: (-abs(after.get(n, 0) - before.get(n, 0)), -after.get(n, 0)))
        rows = [(_short(name), before.get(name, 0), after.get(name, 0)) for name in names]
        if more := rows[_MOST_CLASSES:]:
            counts = (sum(row[1] for row in more), sum(row[2] for row in more))
            rows[_MOST_CLASSES:] = [(f"{len(more):,} more classes", *counts)]
        if before.get("") or after.get(""):
            rows.append(("without label", before.get("", 0), after.get("", 0)))
        rows.append(("all", sum(before.values()), sum(after.values())))
        wide = max(cell_len(name) for name, _, _ in rows)
        first = self.before is None
        lines = [f"  {_padded('class', wide)}  {'images' if first else 'before':>9}"]
        lines[0] += "" if first else f"  {'after':>9}"
        for name, old, new in rows:
            numbers = [f"{new:,}"] if first else [f"{old:,}", f"{new:,}", _change(new - old)]
            cells = "".join(f"  {number:>9}" for number in numbers)
            lines.append(f"  {_padded(name, wide)}{cells}".rstrip())
        return lines

    def _next(self) -> list[str]:
        lines = ["next:    commit data.dvc, then 'make run' or 'dvc repro'"]
        if self.what != "replaced":
            lines.append("keep:    'dvc push', since no source gives this version again")
        return lines

    def _record(self, new: str, old: str | None) -> dict[str, Any]:
        return {
            "what": self.what,
            "source": self.source,
            "notes": list(self.notes),
            "version": {"before": old, "after": new},
            "classes": list(self.classes),
            "images": {
                "before": dict(self.before) if self.before is not None else None,
                "after": dict(self.after),
            },
            "counts": self.counts,
            **self.details,
        }


class _Colours(RegexHighlighter):
    """Of a summary on a terminal; each group is named for its style."""

    highlights: ClassVar[list[str]] = [
        r"^(?P<bold>\w+): ",
        r"(?m)^ +(?P<bold>[\d,]+)  ",
        r"(?m)^ +[\d,]+  (?P<yellow>in conflict|refused|keep another label)",
        r"(?m)^  (?P<dim>class +(images|before +after))$",
        r"(?m) (?P<green>\+[\d,]+)$",
        r"(?m) (?P<red>-[\d,]+)$",
        r"(?P<cyan>[0-9a-f]{32}\.dir)",
        r"(?m)^  (?P<bold>next|keep): ",
    ]


def images_per_class(classes: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """Those without a label under ``""``; a label that is no class under its own name."""
    counted = Counter(label if label.strip() else "" for label in labels)
    return {name: counted[name] for name in [*classes, *sorted(counted.keys() - {*classes})]}


def last_summary(workspace: Workspace) -> Path:
    """Where the summary of the last ingest lies, as JSON."""
    return workspace.root / ".pipeline" / "ingest" / "last.json"


def _change(number: int) -> str:
    return f"{number:+,}" if number else ""


def _short(name: str) -> str:
    return name if cell_len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _padded(name: str, width: int) -> str:
    return name + " " * (width - cell_len(name))
