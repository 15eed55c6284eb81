"""Populations to score: seeded, of any size, with the heavy tails that referral counts have."""

import numpy as np
import pyarrow as pa

MEASURES = ("new_referrals", "ad_users")
BASE = "friend_points"
SEED = 2019
COUNT_LIMIT = 100_000  # keeps every sum of squares of 10^8 rows inside int64, which the Numba peer relies on


def population(
    rows: int, *, seed: int = SEED, measure: pa.DataType | None = None, base: pa.DataType | None = None
) -> pa.Table:
    """Make a population of referrers, one chunk per column.

    Newcomers follow a Pareto law (most referrers bring none or one, a few bring thousands), ad users another one plus
    a share of the newcomers, and points are log-normal per ad user.

    Parameters
    ----------
    rows
        How many referrers.
    seed
        The same seed and rows give the same table.
    measure, base
        Arrow types of the two measures and of the base; int32 and int64 when not given. Values that a type cannot
        hold are an error.

    Examples
    --------
    >>> population(3).column_names
    ['new_referrals', 'ad_users', 'friend_points']
    >>> population(1_000).equals(population(1_000))
    True
    """
    random = np.random.default_rng(seed)
    newcomers = np.minimum(random.pareto(1.2, rows), COUNT_LIMIT).astype(np.int64)
    ad_users = np.minimum(3 * random.pareto(1.4, rows) + newcomers // 2, COUNT_LIMIT).astype(np.int64)
    points = (ad_users * random.lognormal(5.5, 1.0, rows)).astype(np.int64)
    types = (measure or pa.int32(), measure or pa.int32(), base or pa.int64())
    columns = (pa.array(values).cast(type_) for values, type_ in zip((newcomers, ad_users, points), types, strict=True))
    return pa.table(dict(zip((*MEASURES, BASE), columns, strict=True)))


def spread(rows: int = 500_000, outliers: int = 400) -> pa.Table:
    """Make a population whose scores reach every one of the 101 steps: zeros, and a few outliers from -V to V.

    The outliers are evenly spaced, so the SD is close to V·sqrt(outliers / (3·rows)) and the scores reach 50 ± 61.
    """
    random = np.random.default_rng(SEED)
    values = np.zeros(rows, dtype=np.int32)
    values[random.choice(rows, outliers, replace=False)] = np.linspace(-30_000, 30_000, outliers)
    points = random.integers(0, 1_000_000, rows)
    return pa.table(dict(zip((*MEASURES, BASE), (values, values // 2, points), strict=True)))


def tie(z: int, ones: int = 2_000) -> pa.Table:
    """Make a population whose ones score exactly 50 + z: `ones` ones and `ones`·z² zeros as both measures, shuffled.

    With p = 1/(1 + z²) the share of ones, (1 - p)/sqrt(p(1 - p)) = sqrt((1 - p)/p) = z.
    """
    values = np.zeros(ones * (1 + z * z), dtype=np.int32)
    values[:ones] = 1
    np.random.default_rng(z).shuffle(values)
    points = np.full(len(values), 1_000, dtype=np.int64)
    return pa.table(dict(zip((*MEASURES, BASE), (values, values, points), strict=True)))
