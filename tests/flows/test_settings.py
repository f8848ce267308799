"""Prefect's settings: hardened, alone with this project, and a password nobody else reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows import settings
from pipeline.errors import ConfigurationError, PipelineError

from .conftest import PROJECT


def test_the_password_is_made_once_and_is_its_owner_s_alone(tmp_path):
    first = settings.auth(tmp_path)
    assert settings.auth(tmp_path) == first
    user, _, password = first.partition(":")
    assert user == "pipeline"
    assert len(password) >= 32
    assert settings.auth_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert settings.home(tmp_path).stat().st_mode & 0o777 == 0o700
    assert [path.name for path in settings.home(tmp_path).iterdir()] == ["auth"]
    assert settings.auth(tmp_path / "other") != first


def test_processes_that_start_at_once_agree_on_the_password(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: settings.auth(tmp_path), range(32)))) == 1


def test_a_password_that_others_may_read_is_refused(tmp_path):
    settings.auth(tmp_path)
    settings.auth_file(tmp_path).chmod(0o644)
    with pytest.raises(PipelineError, match="chmod 600"):
        settings.auth(tmp_path)


def test_an_empty_password_is_refused(tmp_path):
    settings.auth(tmp_path)
    settings.auth_file(tmp_path).write_text("\n")
    with pytest.raises(PipelineError, match="user:password"):
        settings.auth(tmp_path)


def test_what_the_user_s_environment_says_about_prefect_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_somebody")
    monkeypatch.setenv("PREFECT_API_URL", "https://example.org/api")
    environment = settings.client_environment(4321, tmp_path)
    assert "PREFECT_API_KEY" not in environment
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"


def test_prefect_reads_the_hardened_settings(tmp_path):
    code = """
from flows import settings
from pathlib import Path
import sys
settings.apply(4321, Path(sys.argv[1]))
from prefect.settings import get_current_settings
now = get_current_settings()
print(now.home, now.api.url, now.server.ephemeral.enabled, now.results.default_serializer)
print(now.server.analytics_enabled)
print(now.api.auth_string.get_secret_value() == settings.auth(now.home.parent))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "src")])},
        capture_output=True,
        text=True,
    )
    home = tmp_path / ".prefect"
    expected = f"{home} http://127.0.0.1:4321/api False json False True"
    assert done.stdout.split() == expected.split(), done.stderr


def test_a_server_is_for_its_own_address_alone(tmp_path):
    environment = settings.server_environment(4321, tmp_path)
    assert environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    origins = environment["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert origins == ["http://127.0.0.1:4321", "http://localhost:4321"]
    assert environment["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert str(tmp_path) in environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"]


def test_loopback_is_reached_past_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org")
    hosts = settings.client_environment(4321, tmp_path)["NO_PROXY"].split(",")
    assert hosts == ["example.org", "127.0.0.1", "localhost"]


@pytest.mark.parametrize(("error", "shown"), [(ConfigurationError, False), (ValueError, True)])
def test_only_a_defect_is_logged_with_its_traceback(error, shown):
    try:
        raise error("wrong")
    except error:
        record = logging.makeLogRecord({"exc_info": sys.exc_info()})
    assert settings.WithoutTraceback().filter(record)
    assert bool(record.exc_info) is shown
