"""Fixtures and options for every test."""

import os
import shutil
import signal
from importlib import import_module

import pytest
from hypothesis import HealthCheck, settings

from hensa import kernels

# No deadlines, as machines are busy; a second look at what has been tested with more; and hours of fuzzing: pytest
# --hypothesis-profile=NAME
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile(
    "fuzz", max_examples=200_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)

# A shell starts `pytest &` with Ctrl-C ignored, and the processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take longer than a few seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes long: run with --long"))


def pytest_report_header() -> str:
    return f"hensa kernels: {', '.join(kernels.builds)} (in use: {kernels.name})"


@pytest.fixture(params=kernels.builds)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each build that this CPU runs in turn is the one in use; a build that is missing fails."""
    monkeypatch.setattr(kernels, "active", kernels.load(request.param))
    monkeypatch.setattr(kernels, "name", request.param)
    return request.param


QUIET = ["disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update"]


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium: the one that HENSA_BROWSER names, which must be there, or the one that the system has."""
    wanted = os.environ.get("HENSA_BROWSER")
    path = wanted or shutil.which("chromium") or shutil.which("google-chrome")
    if wanted:
        sync_api = import_module("playwright.sync_api")
    else:
        sync_api = pytest.importorskip("playwright.sync_api", reason="there is no playwright to drive a browser")
    if path is None:
        pytest.skip("there is no browser: neither a command chromium nor google-chrome")
    flags = [f"--{flag}" for flag in [*QUIET, "disable-sync", "no-sandbox"]]
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=flags) as browser,
    ):
        yield browser
