"""Files behind an address, read through fsspec within limits; no message tells its secrets."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pipeline.data.sources.members import Member, beyond
from pipeline.data.sources.names import redacted
from pipeline.errors import ConfigurationError, DataRefused, PipelineError, did_you_mean
from pipeline.params import LimitParams

_WRAPPERS = "blockcache cached dir filecache generic reference simplecache tar zip libarchive"
_LOCAL = frozenset(f"arrow_hdfs asynclocal data file git jlab jupyter local {_WRAPPERS}".split())
"""Protocols of fsspec that wrap others, or read this machine."""
_CONNECT, _SILENCE = 30, 120
"""Seconds until a connection that does not come about, or falls silent, is given up."""
_DEEPEST = 32
_WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further try to get a file or a listing."""
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of HTTP that may be others in a moment."""


class Remote:
    """The file system behind ``address``.

    Raises:
        ConfigurationError: the address is of no kind that can be downloaded.
        PipelineError: on opening and on reading; a driver is missing, or the connection failed.
    """

    def __init__(self, address: str, limits: LimitParams) -> None:
        import fsspec

        self.shown, self._address, self._limits = redacted(address), address, limits
        self._bytes, self._lock = 0, threading.Lock()
        scheme = urlsplit(address).scheme.lower()
        self._http = scheme in {"http", "https"}
        _check_scheme(scheme, address, self.shown)
        with self._named_errors():
            self._files, self.path = fsspec.core.url_to_fs(
                address, skip_instance_cache=True, **(_http_options() if self._http else {})
            )

    def is_folder(self) -> bool:
        if self._http or self._address.endswith("/"):
            return self._address.endswith("/")
        with self._named_errors():
            return bool(self._files.isdir(self.path))

    def beside(self, name: str) -> str:
        """The path of ``name``, relative to the folder that the address lies in."""
        path = re.sub(r"[?#].*", "", self.path) if self._http else self.path
        folder, _, _ = path.rpartition("/")
        return f"{folder}/{quote(name) if self._http else name}"

    def walk(self) -> Iterator[tuple[str, Member]]:
        """The path and the description of each file below the address.

        A size that the server does not tell is 0.
        """
        root = self.path.rstrip("/") + "/"
        folders, seen = [root], {root}
        while folders:
            folder = folders.pop()
            with self._named_errors():
                entries = _patiently(partial(self._files.ls, folder, detail=True))
                found = sorted(entries, key=lambda info: info["name"])
            for info in found:
                path = str(info["name"])
                if path.strip("/") == folder.strip("/"):
                    continue  # the mark that some stores keep for a folder
                below = path.lstrip("/").removeprefix(root.lstrip("/"))
                if below == path.lstrip("/"):
                    raise DataRefused(
                        f"{self.shown}: lists {redacted(path)!r}, which lies elsewhere"
                    )
                if self._http and re.search("[?#]", below):
                    continue  # a page's own links, such as one to sort it
                if info["type"] == "directory":
                    inner = path.rstrip("/") + "/"
                    if inner not in seen and below.count("/") < _DEEPEST:
                        seen.add(inner)
                        folders.append(inner)
                else:
                    name = unquote(below) if self._http else below
                    yield path, Member(name, info["size"] or 0)

    def fetch(self, path: str, target: Path, *, most: int, size: int = 0) -> None:
        """Copy the file at ``path`` to ``target``; on failure nothing is left there.

        Raises:
            DataRefused: it has more than ``most`` bytes, or all together more than is allowed.
            PipelineError: it is missing, came only in part, or is not of the ``size`` announced.
        """
        try:
            with self._named_errors():
                _patiently(partial(self._copy, path, target, most))
            if size and target.stat().st_size != size:
                raise PipelineError(
                    f"'{self.shown}': {redacted(path)!r} came with {target.stat().st_size:,} of"
                    f" {size:,} bytes; try again"
                )
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _copy(self, path: str, target: Path, most: int) -> None:
        from fsspec.callbacks import Callback

        remote, got = self, 0

        class Counted(Callback):
            def relative_update(self, inc: int = 1) -> None:
                nonlocal got
                got += inc
                remote._add(inc)
                if got > most:
                    key = "bytes" if most == remote._limits.bytes else "file_bytes"
                    what = f"{redacted(path)!r} has more than {most:,} bytes"
                    raise DataRefused(beyond(remote.shown, what, key, remote._limits))

        try:
            self._files.get_file(path, str(target), callback=Counted())
        except Exception:
            self._add(-got)  # it may be tried again
            raise

    def _add(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            if self._bytes > self._limits.bytes:
                what = f"more than {self._limits.bytes:,} bytes"
                raise DataRefused(beyond(self.shown, what, "bytes", self._limits))

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Drivers raise what they like; it becomes one message without secrets."""
        try:
            yield
        except PipelineError:
            raise
        except FileNotFoundError:
            raise ConfigurationError(
                f"'{self.shown}': nothing is there; correct the address"
            ) from None
        except ImportError as error:
            raise _missing_driver(self.shown, error) from None
        except Exception as error:  # noqa: BLE001 (its words may hold secrets: not chained)
            cause = self._without_secrets(" ".join(str(error).split()))[:300]
            raise PipelineError(
                f"'{self.shown}': cannot be downloaded ({type(error).__name__}"
                f"{': ' if cause else ''}{cause}); is the address right, and the network there?"
            ) from None

    def _without_secrets(self, text: str) -> str:
        parts = urlsplit(self._address)
        for secret in (parts.query, parts.username, parts.password):
            for form in {secret, unquote(secret or "")} - {None, ""}:
                text = text.replace(str(form), "***")
        return redacted(text)


def _patiently(ask: Callable[[], Any]) -> Any:
    """What ``ask`` gives; asked again after a while where server or connection failed."""
    for wait in _WAITS:
        try:
            return ask()
        except Exception as error:
            if not _passes(error):
                raise
        time.sleep(wait)
    return ask()


def _passes(error: Exception) -> bool:
    """Whether another try may succeed: by the answer's status, or where there was none."""
    import aiohttp

    if (status := getattr(error, "status", None)) is not None:
        return status in _PASSING
    if isinstance(error, aiohttp.ClientConnectorError):
        return False  # no such host, or nobody who answers there
    broken = aiohttp.ClientPayloadError | aiohttp.ClientConnectionError
    return isinstance(error, ConnectionError | TimeoutError | broken)


def _check_scheme(scheme: str, address: str, shown: str) -> None:
    from fsspec.registry import known_implementations

    if "::" in address:
        raise ConfigurationError(f"'{shown}': chained addresses are not followed; name one")
    if scheme in _LOCAL:
        raise ConfigurationError(f"'{shown}': not a remote address; name the path itself")
    if scheme not in known_implementations:
        near = did_you_mean(scheme, known_implementations) or "; correct it"
        raise ConfigurationError(f"'{shown}': no kind of address '{scheme}://' is known{near}")


def _missing_driver(shown: str, error: ImportError) -> PipelineError:
    cause = error.__cause__
    module = (cause.name if isinstance(cause, ImportError) else error.name) or "its driver"
    package = module.partition(".")[0]
    return PipelineError(f"'{shown}': needs the package '{package}'; run 'pip install {package}'")


def _http_options() -> dict[str, Any]:
    import aiohttp

    async def on_redirect(_session: object, _context: object, params: Any) -> None:
        check_redirect(str(params.url), params.response.headers.get("Location", ""))

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(on_redirect)
    wait = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
    return {"client_kwargs": {"trace_configs": [trace], "timeout": wait, "trust_env": True}}


def check_redirect(address: str, target: str) -> None:
    """See that a redirect stays with HTTP, and with HTTPS where it began so.

    Raises:
        PipelineError: it does not.
    """
    start, to = urlsplit(address).scheme, urlsplit(target).scheme or urlsplit(address).scheme
    if to not in {"http", "https"} or (start == "https" and to == "http"):
        raise PipelineError(
            f"'{redacted(address)}': redirects from {start}:// to {to}://, which is not followed;"
            " name the final address yourself if it is to be trusted"
        )
