"""Fixtures and options for every test."""

import signal

import pytest

from hensa import kernels

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
