"""Where the runs are kept, and how the store is opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import params
from pipeline.artifacts import temporary_folder
from pipeline.errors import PipelineError
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is away should be noticed in seconds; what can wait retries by itself.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""MLflow's environment, unless the user has set it otherwise."""


_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class StoreAway(PipelineError):
    """The MLflow store cannot be used now: it cannot be opened, does not answer, or refuses."""


@dataclass(frozen=True)
class Store:
    """An open store and the experiment in it that this project's runs belong to."""

    uri: str
    client: MlflowClient
    experiment_id: str


def available() -> bool:
    """Whether MLflow is installed.

    Beside the project's folder ``mlflow/`` any ``import mlflow`` succeeds, so that does not tell;
    the library alone has an ``__init__.py``.
    """
    spec = importlib.util.find_spec("mlflow")
    return spec is not None and spec.origin is not None


def store_uri(workspace: Workspace) -> str:
    """``MLFLOW_TRACKING_URI`` where it is set, else the sqlite file in the project's ``mlflow/``.

    The address is absolute, so that experiments in temporary copies reach the same store.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri(workspace)


def own_uri(workspace: Workspace) -> str:
    """The address of the sqlite file in the project's ``mlflow/``."""
    return f"sqlite:///{_database(workspace)}"


def client(workspace: Workspace) -> MlflowClient:
    """MLflow's client for the store, which is made where there is none; see `open_store`."""
    return open_store(workspace).client


def open_store(workspace: Workspace) -> Store:
    """Open the store and find or make the experiment named ``register.model``.

    Raises:
        StoreAway: MLflow is not installed, the file cannot be used or the server does not answer.
        ConfigurationError: ``params.yaml`` cannot be read.
    """
    name = params.load(workspace.params).register_.model
    uri = store_uri(workspace)
    if not available():
        raise StoreAway("MLflow is not installed here; run 'make setup'")
    _set_environment()
    if uri == own_uri(workspace):
        create_database(workspace)
        location: str | None = (workspace.mlflow / "artifacts").as_uri()
    else:
        location = None  # another store knows where it keeps its artifacts
    with answering(uri):
        from mlflow.tracking import MlflowClient

        opened = MlflowClient(uri, uri)
        return Store(uri, opened, _experiment(opened, name, location))


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what is raised where the store at ``uri`` cannot be used now into `StoreAway`.

    What MLflow finds wrong with a request is no such thing, and stays what it is.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException, OSError) as error:
        if not _is_away(error):
            raise
        reason = first_line(error).partition(" Response body:")[0].rstrip(".")
        raise StoreAway(f"MLflow at {uri}: {reason}; {_advice(error)}") from error


def first_line(error: BaseException) -> str:
    """What ``error`` says: MLflow and what it stands on can say more than belongs into a log."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _is_away(error: BaseException | None) -> bool:
    """If network, database, files or rights are behind ``error``; MLflow has no class of it."""
    from requests.exceptions import RequestException
    from sqlalchemy.exc import DBAPIError

    while error is not None:
        if isinstance(error, RequestException | DBAPIError):
            return True
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return True
        if "out-of-date database schema" in str(error):
            return True
        status = _status(error)
        # MLflow's own 404, of a run or a model, has another code than that of a wrong address.
        if status in (401, 403, 429) or (status is not None and status >= 500):
            return True
        if getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND":
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(error: BaseException) -> int | None:
    """The HTTP status behind ``error``, or what would be one."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    if isinstance(error, RequestException):
        return None if error.response is None else error.response.status_code
    return error.get_http_status_code() if isinstance(error, MlflowException) else None


def _advice(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return "give yourself the right to use that"
    if _status(error) in (401, 403):
        return (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN,"
            " of somebody who may use it"
        )
    own = "unset that to use the project's own store"
    return f"start its server, correct MLFLOW_TRACKING_URI, or {own}"


@contextlib.contextmanager
def as_default(store: Store) -> Iterator[None]:
    """For those of MLflow's functions that look for the store in the environment alone."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = store.uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def create_database(workspace: Workspace) -> None:
    """Make the project's sqlite store where there is none; any number of processes may.

    MLflow's own set-up is not safe for two processes, and one that is killed in between leaves a
    store that never opens again. So the store is made under a lock and another name.

    Raises:
        StoreAway: the file is not a database, or cannot be written.
    """
    database = _database(workspace)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with _locked(database.with_name("mlflow.db-lock")):
            if database.exists():
                _check(database)
                return
            _set_environment()
            from mlflow.tracking import MlflowClient

            with temporary_folder("mlflow.db-", database.parent) as folder:
                new = folder / "mlflow.db"
                uri = f"sqlite:///{new}"
                MlflowClient(uri, uri).search_registered_models(max_results=1)
                new.replace(database)
    except (OSError, sqlite3.Error) as error:
        raise StoreAway(
            f"{database}: cannot be used as MLflow's store ({error}); free or unlock it, or move it"
            " away: 'python -m pipeline sync' makes the runs anew"
        ) from error


def _database(workspace: Workspace) -> Path:
    return workspace.mlflow / "mlflow.db"


def _check(database: Path) -> None:
    """MLflow itself would try again and again to open a file that is no database."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master")
        connection.rollback()


def _set_environment() -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _experiment(opened: MlflowClient, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = opened.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        opened.restore_experiment(found.experiment_id)
    return str(found.experiment_id)
