"""Pass 1, the moments of both measures: `pytest bench/test_pass1.py [--large]`."""

import pytest


@pytest.mark.benchmark(group="pass 1,")
def test_pass1(timed, peer, table):
    rows = peer.prepare(table)
    population = timed(peer.pass1, rows)
    assert len(peer.moments(population)) == 4
