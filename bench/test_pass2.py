"""Pass 2, score, rate and reward: with pass 1 before it, and on a population known beforehand."""

import pytest


@pytest.mark.benchmark(group="both passes,")
def test_both_passes(timed, peer, table):
    result = timed(peer.job, peer.prepare(table))
    assert {len(column) for column in peer.arrays(result)} == {table.num_rows}


@pytest.mark.benchmark(group="pass 2 on a given population,")
def test_pass2_on_a_given_population(timed, peer, table):
    rows = peer.prepare(table)
    result = timed(peer.pass2, rows, peer.pass1(rows))
    assert {len(column) for column in peer.arrays(result)} == {table.num_rows}
