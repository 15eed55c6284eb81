"""Every contestant does the same job as exact arithmetic: `pytest bench/test_peers.py`."""

import numpy as np
import pyarrow as pa
import pytest

import hensa

from . import data
from .peers import PERMILLE, REGISTRY, Hensa, NumPy, check, exact


@pytest.fixture(scope="session")
def truth(table):
    return exact(table)


@pytest.fixture(scope="module")
def spread():
    table = data.spread()
    return table, exact(table)


def referrers(new_referrals, ad_users, friend_points):
    columns = (pa.array(new_referrals, pa.int32()), pa.array(ad_users, pa.int32()), pa.array(friend_points, pa.int64()))
    return pa.table(dict(zip((*data.MEASURES, data.BASE), columns, strict=True)))


def test_the_rates_are_those_of_the_built_in_program():
    rates = hensa.Program.load("hapitas-friend").rates
    assert [int(threshold) for threshold in rates.thresholds] == list(range(101))
    assert [share * 1000 for share in rates.shares] == PERMILLE.tolist()


def test_exact_scores_two_rows_one_sd_from_the_mean_at_49_and_51():
    truth = exact(referrers([0, 2], [10, 20], [1_000, 1_999]))
    assert truth.moments == (1.0, 1.0, 15.0, 5.0)
    assert truth.score.tolist() == [49.0, 51.0]
    assert truth.rate.tolist() == [0.098, 0.110]
    assert truth.reward.tolist() == [98, 1_999 * 110 // 1000]
    assert truth.undecidable.all()


def test_exact_puts_the_ones_of_a_tie_on_a_whole_score():
    for z in (2, 7, 30):
        table = data.tie(z, ones=20)
        ones = table[data.MEASURES[0]].to_numpy() == 1
        truth = exact(table)
        assert set(truth.score[ones]) == {50 + z}
        assert np.array_equal(truth.undecidable, ones)


def test_the_seeded_population_has_no_row_that_float_scores_cannot_decide(truth):
    assert not truth.undecidable.any()


def test_a_contestant_agrees_on_the_seeded_population(peer, table, truth):
    assert check(peer, table, truth).wrong == 0


def test_a_contestant_agrees_on_every_step(peer, spread):
    table, truth = spread
    assert len(set(truth.rate)) == len(PERMILLE)
    assert check(peer, table, truth).wrong == 0


@pytest.mark.parametrize(("name", "floors"), [("hensa", True), ("Numba", True), ("Numba, tuned by hand", False)])
def test_negative_bases_are_rounded_down_but_not_by_an_unsigned_division(name, floors):
    table = referrers([0, 2], [10, 20], [-1_001, -1_999])
    truth = exact(table)
    assert truth.reward.tolist() == [-99, -220]  # floors of -98.098 and of -219.89
    peer = REGISTRY[name]
    assert np.array_equal(peer.arrays(peer.job(peer.prepare(table)))[2], truth.reward) == floors


@pytest.mark.parametrize("name", [name for name, peer in REGISTRY.items() if isinstance(peer, Hensa)])
def test_hensa_puts_every_tie_on_its_step(name):
    for z in range(2, 31):
        agreement = check(REGISTRY[name], data.tie(z, ones=20))
        assert (agreement.undecidable, agreement.wrong) == (20, 0)


@pytest.mark.parametrize("column", ["score", "rate", "reward"])
def test_check_refuses_a_contestant_that_is_off_in_one_row(column):
    class Off(NumPy):
        name = "off"

        def pass2(self, rows, population):
            result = super().pass2(rows, population)
            result[column][7] += 1e-9 if column == "score" else 1
            return result

    with pytest.raises(AssertionError, match=f"off: {column} differs in 1 rows, first in row 7"):
        check(Off(), data.population(1_000))


def test_check_refuses_a_contestant_with_the_sample_sd():
    class Sample(NumPy):
        name = "sample"

        def pass1(self, rows):
            return tuple(value for column in rows[:2] for value in (column.mean(), column.std(ddof=1)))

    with pytest.raises(AssertionError, match="sample: moment"):
        check(Sample(), data.population(1_000))
