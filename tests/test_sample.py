"""Synthetic populations: their shape, and that a seed and a position give a row for ever."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hensa.errors import DataError
from hensa.sample import BLOCK, sample


def expected_rows(n, seed):
    """The first rows in plain Python, from the raw bits of NumPy's PCG64, whose stream NumPy promises not to change."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0,))).random_raw(4 * n).tolist()
    lowest = 4.641588833612779e-06

    def tail(u, scale):
        share = lowest + (1 - lowest) * u
        return int(scale / (math.sqrt(share) * math.sqrt(math.sqrt(share))) - scale)

    rows = []
    for i in range(n):
        u = [raw // 2**11 / 2**53 for raw in bits[4 * i : 4 * i + 4]]
        new = tail(u[0], 1.0)
        friends = new + 1 + tail(u[1], 4.0)
        users = int((friends + 1) * u[2])
        points = int(users * (50 / math.sqrt(1e-4 + (1 - 1e-4) * u[3])))
        assert users <= friends
        rows.append({"referrer_id": i + 1, "new_referrals": new, "ad_users": users, "friend_points": points})
    return rows


@pytest.mark.parametrize("seed", [0, 1, 2**64 + 3])
def test_the_rows_are_those_that_plain_python_derives_from_the_seed(seed):
    assert sample(2000, seed).read_all().to_pylist() == expected_rows(2000, seed)


def test_the_columns_have_their_names_and_types():
    assert sample(1).schema == pa.schema(
        [
            ("referrer_id", pa.int64()),
            ("new_referrals", pa.int32()),
            ("ad_users", pa.int32()),
            ("friend_points", pa.int64()),
        ]
    )


@pytest.mark.parametrize(
    ("few", "many"), [(0, 1), (1, 1000), (BLOCK - 1, BLOCK), (BLOCK, BLOCK + 1), (BLOCK + 7, 2 * BLOCK)]
)
def test_a_smaller_sample_is_the_start_of_a_larger_one(few, many):
    assert sample(many, 5).read_all().slice(0, few).equals(sample(few, 5).read_all())


def test_blocks_and_seeds_differ():
    column = sample(2 * BLOCK, 0).read_all()["friend_points"]
    assert not column.slice(0, BLOCK).equals(column.slice(BLOCK))
    assert not column.slice(0, BLOCK).equals(sample(BLOCK, 1).read_all()["friend_points"])


def test_identifiers_count_from_one_through_all_blocks():
    rows = sample(BLOCK + 10).read_all()
    assert rows["referrer_id"].to_pylist() == list(range(1, BLOCK + 11))


def test_rows_come_a_block_at_a_time_and_only_when_read():
    first = sample(10**12).read_next_batch()
    assert first.num_rows == BLOCK


def test_no_rows_are_a_table_of_no_rows():
    assert sample(0).read_all().num_rows == 0


@pytest.mark.parametrize(("n", "seed", "named"), [(-1, 0, "n is -1"), (1, -2, "seed is -2")])
def test_negative_arguments_are_refused(n, seed, named):
    with pytest.raises(DataError, match=named):
        sample(n, seed)


def test_nearly_all_bring_few_and_a_handful_bring_thousands():
    new = sample(BLOCK).read_all()["new_referrals"]
    below_10, thousands = (pc.sum(mask).as_py() for mask in (pc.less(new, 10), pc.greater_equal(new, 1000)))
    # P(count < 10) = 1 - 11**(-4/3), and (1001**(-4/3) - 10_000**(-4/3)) of 2**20 rows are about 100. Both counts are
    # binomial: five of their SDs are allowed.
    few = 1 - 11 ** (-4 / 3)
    assert abs(below_10 - BLOCK * few) < 5 * (BLOCK * few * (1 - few)) ** 0.5
    assert 50 < thousands < 150
    assert pc.max(new).as_py() < 10_000


def test_points_follow_the_ad_users():
    rows = sample(BLOCK).read_all()
    users, points = (rows[name].to_numpy().astype(float) for name in ("ad_users", "friend_points"))
    assert ((points >= 50 * users) & ((points > 0) == (users > 0))).all()
    assert np.corrcoef(users, points)[0, 1] > 0.5
