"""What a long step shows: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("pipeline")


def set_up_logging(*, verbose: bool = False) -> None:
    """Log lines of the pipeline to stderr: with colours on a terminal, plain elsewhere."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s", "%X"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


class Progress:
    """Counts items done; see `progress`."""

    def __init__(self, what: str, total: int, unit: str, seconds_between_lines: float) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._start = self._last = time.monotonic()
        self._interval = seconds_between_lines

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._interval and self.done < self.total:
            self._last = now
            logger.info("%s", self.line(now, note))

    def line(self, now: float, note: str = "") -> str:
        rate = self.done / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        end = f" · {note}" if note else ""
        return (
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}"
            f" · {rate:,.0f}/s · {left:,.0f} s left{end}"
        )

    def close(self) -> None:
        seconds = time.monotonic() - self._start
        rate = self.done / max(seconds, 1e-9)
        logger.info(
            "%s: %s %s in %.1f s (%s/s)",
            self.what,
            f"{self.done:,}",
            self.unit,
            seconds,
            f"{rate:,.0f}",
        )


class _Bar(Progress):
    def __init__(self, what: str, total: int, unit: str) -> None:
        from rich import progress as rich

        super().__init__(what, total, unit, seconds_between_lines=float("inf"))
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn(unit + " {task.fields[rate]} {task.fields[note]}"),
            rich.TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total, rate="", note="")
        self._bar.start()

    def advance(self, count: int = 1, note: str = "") -> None:
        super().advance(count, note)
        rate = self.done / max(time.monotonic() - self._start, 1e-9)
        self._bar.update(self._task, advance=count, rate=f"· {rate:,.0f}/s", note=note)

    def close(self) -> None:
        self._bar.stop()
        super().close()


@contextmanager
def progress(
    what: str, total: int, unit: str = "images", *, seconds_between_lines: float = 5.0
) -> Iterator[Progress]:
    """Show how far ``what`` is, its rate and the time left, and a summary line at the end.

    The body calls ``advance(count, note)``. On a terminal this is a bar; elsewhere a line every
    ``seconds_between_lines``.
    """
    step = (
        _Bar(what, total, unit)
        if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)
        else Progress(what, total, unit, seconds_between_lines)
    )
    try:
        yield step
    finally:
        step.close()
