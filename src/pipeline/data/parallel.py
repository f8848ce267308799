"""Work on files in several processes, such that a file which kills its process costs only itself.

A decoder is C code that reads bytes of unknown origin: it may crash, or be killed for the memory it
takes. The names go out in chunks; where a process dies, the chunks that were out are done anew in
one process alone, halved until the guilty file stands by itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Result = TypeVar("Result")
Chunk = tuple[str, ...]

_CHUNK = 32
_CHUNKS_OUT_PER_WORKER = 3  # enough to keep a worker busy, few enough to do anew after a crash


def map_files(
    task: Callable[[Chunk], Result],
    names: Sequence[str],
    lost: Callable[[str], Result],
    *,
    workers: int | None = None,
) -> Iterator[tuple[Chunk, Result]]:
    """Yield ``(chunk, task(chunk))`` until every name was in a chunk once, in no fixed order.

    ``task`` runs in other processes, so it and what it returns have to be picklable; what it raises
    is raised here. Where one file ended its process, ``((name,), lost(name))`` is yielded.
    ``workers`` is by default the number of processors this process may use.
    """
    chunks = deque(tuple(names[i : i + _CHUNK]) for i in range(0, len(names), _CHUNK))
    count = min(workers or _processors(), len(chunks))
    while chunks:
        suspects = yield from _quickly(task, chunks, count)
        yield from _carefully(task, suspects, lost)


def _quickly(
    task: Callable[[Chunk], Result], chunks: deque[Chunk], workers: int
) -> Generator[tuple[Chunk, Result], None, list[Chunk]]:
    """Take from ``chunks`` until they are done, or a process died; return what was out then."""
    out: dict[Future[Result], Chunk] = {}
    with _pool(workers) as pool:
        try:
            while chunks or out:
                while chunks and len(out) < _CHUNKS_OUT_PER_WORKER * workers:
                    future = pool.submit(task, chunks[0])
                    out[future] = chunks.popleft()
                for future in wait(out, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield out.pop(future), result
        except BrokenProcessPool:
            return list(out.values())
    return []


def _carefully(
    task: Callable[[Chunk], Result], suspects: list[Chunk], lost: Callable[[str], Result]
) -> Iterator[tuple[Chunk, Result]]:
    """One chunk after the other in one process; a chunk that kills it is halved."""
    left = deque(suspects)
    while left:
        guilty: Chunk | None = None
        with _pool(1) as pool:
            while left and guilty is None:
                chunk = left.popleft()
                try:
                    yield chunk, pool.submit(task, chunk).result()
                except BrokenProcessPool:
                    guilty = chunk
        if guilty is not None and len(guilty) > 1:
            middle = len(guilty) // 2
            left.extendleft((guilty[middle:], guilty[:middle]))
        elif guilty is not None:
            yield guilty, lost(guilty[0])


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: a fork of a process with threads (Arrow's, a logger's) may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    warnings.simplefilter("ignore")  # what a file's warnings mean, its measures say
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
