import pytest

from .data import population
from .peers import REGISTRY

ROUNDS = {1_000: 100, 1_000_000: 10, 10_000_000: 5}


def pytest_addoption(parser):
    parser.addoption("--large", action="store_true", help="also run the benchmarks of 10 million rows")


def pytest_generate_tests(metafunc):
    if "rows" in metafunc.fixturenames:
        large = metafunc.config.getoption("--large")
        metafunc.parametrize("rows", [rows for rows in ROUNDS if large or rows < 10_000_000], scope="session")
    if "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", REGISTRY.values(), ids=REGISTRY)


@pytest.fixture(scope="session")
def table(rows):
    return population(rows)


@pytest.fixture
def timed(benchmark, peer, rows):
    """Time a function over and over, after one run that does not count."""

    def run(function, *arguments):
        benchmark.group = f"{benchmark.group or ''} {rows:,} rows"
        benchmark.extra_info.update(rows=rows, peer=peer.name, version=peer.version)
        return benchmark.pedantic(function, arguments, rounds=ROUNDS[rows], warmup_rounds=1)

    return run
