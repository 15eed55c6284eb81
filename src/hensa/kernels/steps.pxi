# From scores, or stages, to what the program's table says of them: steps, rates and rewards.

cdef struct Table:
    # What the program says to every row. Of stages only what is looked up by count.
    double centre
    int64_t centre_count            # of the score centre, and that score
    double centre_score
    double lift
    # Thresholds T_1 < ... < T_K; `count` of a row says how many of them its score reaches.
    int64_t n_thresholds
    const double* thresholds
    # The axis of scores is cut into equal buckets, narrower than the gaps between thresholds. Within
    # a bucket, and `margin` beyond it on both sides, lies at most one threshold, `cut` (infinity: none;
    # NaN: several, so that no comparison with it holds); `below` thresholds lie before that.
    const double* cut
    const int64_t* below
    double origin                   # bucket = (score - origin) * per_unit, to the nearest integer
    double per_unit
    double last_bucket
    bint even                       # the cut of bucket b is within 2^-32 widths of its middle, b thresholds below it;
    double middle                   # half a width above the first
    double margin
    double bound
    const double* rate              # rate[count]
    const uint16_t* step            # step[count]
    bint step_below                 # whether there is one below the first threshold
    double unit                     # reward = base * rate[count] * unit + shift, to the nearest integer ...
    double shift
    bint fits                       # ... for |base| <= 2^base_bits
    int base_bits
    const int64_t* numerator_long   # reward = floor((base * numerator[count] + addend) / denominator)
    int64_t addend_long
    int64_t denominator_long
    int64_t cap_long                # 2^63 - 1: none
    bint longs_suffice              # denominator * numerator + addend < 2^62


cdef void find_buckets(hensa_table s, int64_t n, double origin, double per_unit, double last,
                       hensa_longs bucket) noexcept nogil:
    # monotone in s up to a rounding that is far below the margin
    cdef int64_t i
    cdef double b
    for i in range(n):
        b = (s[i] - origin) * per_unit
        b = b if b > 0.0 else 0.0      # also a NaN
        b = b if b < last else last
        bucket[i] = <int64_t> (hensa_bits(b + MAGIC) - MAGIC_BITS)


cdef void look_up(hensa_table table, hensa_long_table index, int64_t n, hensa_doubles out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[index[i]]


cdef void count_thresholds(hensa_table s, hensa_table cut, hensa_long_table below, hensa_long_table bucket,
                           int64_t n, hensa_longs count) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        count[i] = below[bucket[i]] + <int64_t> (s[i] >= cut[i])


cdef int64_t near_cuts(hensa_table s, hensa_table cut, int64_t n, double e) noexcept nogil:
    """How many s may be within their error, at most e, of a threshold; a NaN is near."""
    cdef int64_t i, far = 0
    for i in range(n):
        far += <int64_t> (fabs(s[i] - cut[i]) > e)
    return n - far


cdef int64_t count_evenly(hensa_table s, int64_t n, double middle, double per_unit, double last, double e,
                          hensa_longs count) noexcept nogil:
    """The counts for an even table, and how many s may be near, from the distance to the middle between two thresholds
    alone. e, in widths, has 2^-31 for the places of the thresholds and for rounding. A NaN is not near, but beyond."""
    cdef int64_t i, far = 0
    cdef double place, b, limit = 0.5 - e
    for i in range(n):
        place = (s[i] - middle) * per_unit
        place = place if place > -1.0 else -1.0
        place = place if place < last else last
        b = place + MAGIC
        far += <int64_t> (fabs(place - (b - MAGIC)) < limit)
        count[i] = <int64_t> (hensa_bits(b) - MAGIC_BITS) + 1
    return n - far


cdef void find_errors(hensa_table s, hensa_table m, int64_t n, double bound, double e0, hensa_doubles e) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        e[i] = bound * (m[i] + fabs(s[i])) + e0


cdef int64_t count_near(hensa_table s, hensa_table cut, hensa_table e, int64_t n, double margin) noexcept nogil:
    """How many rows are nearer to their cut than their error, or where that does not say it."""
    cdef int64_t i, far = 0
    for i in range(n):
        far += <int64_t> (fabs(s[i] - cut[i]) > e[i]) & <int64_t> (e[i] < margin)
    return n - far


cdef int64_t list_near(hensa_table s, hensa_table cut, hensa_table e, int64_t n, double margin,
                       hensa_longs near) noexcept nogil:
    cdef int64_t i, found = 0
    for i in range(n):
        near[found] = i
        found += 1 - (<int64_t> (fabs(s[i] - cut[i]) > e[i]) & <int64_t> (e[i] < margin))
    return found


cdef bint place_by_bisection(double s, double e, const Table* table, int64_t* count) noexcept nogil:
    """The count of one row, for any thresholds; False if it may be within its error of one."""
    cdef int64_t low = 0, high = table.n_thresholds, middle
    while low < high:
        middle = (low + high) >> 1
        if table.thresholds[middle] <= s:
            low = middle + 1
        else:
            high = middle
    count[0] = low
    # written so that a NaN is near
    return (low == 0 or s - table.thresholds[low - 1] > e) and \
        (low == table.n_thresholds or table.thresholds[low] - s > e) and s - s == 0


cdef void look_up_steps(const uint16_t* table, hensa_long_table count, int64_t n, uint16_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[count[i]]


cdef class Tables:
    """A `Table`, made by hensa.lookup once for many calls.

    Parameters
    ----------
    constants : dict
        Its numbers and arrays; those of `reward` only where rewards are paid, and those of scores not for stages.
    """
    cdef Table table
    cdef dict constants             # keeps the arrays alive

    def __cinit__(self, dict constants):
        cdef const double[::1] doubles
        cdef const uint16_t[::1] shorts
        cdef const int64_t[::1] longs
        self.constants = constants
        doubles = constants["thresholds"]
        self.table.n_thresholds = doubles.shape[0]
        self.table.thresholds = &doubles[0]
        doubles = constants["rate"]
        self.table.rate = &doubles[0]
        shorts = constants["step"]
        self.table.step = &shorts[0]
        self.table.step_below = constants["step_below"]
        if "cut" in constants:
            self.table.centre = constants["centre"]
            self.table.centre_count = constants["centre_count"]
            self.table.centre_score = constants["centre_score"]
            self.table.lift = constants["lift"]
            self.table.bound = constants["bound"]
            doubles = constants["cut"]
            self.table.cut = &doubles[0]
            longs = constants["below"]
            self.table.below = &longs[0]
            self.table.origin = constants["origin"]
            self.table.per_unit = constants["per_unit"]
            self.table.last_bucket = doubles.shape[0] - 1
            self.table.even = constants["even"]
            self.table.middle = constants["middle"]
            self.table.margin = constants["margin"]
        if "unit" in constants:
            self.table.unit = constants["unit"]
            self.table.shift = constants["shift"]
            self.table.fits = constants["fits"]
            self.table.base_bits = constants["base_bits"]
            longs = constants["numerator_long"]
            self.table.numerator_long = &longs[0]
            self.table.addend_long = constants["addend_long"]
            self.table.denominator_long = constants["denominator_long"]
            self.table.cap_long = constants["cap_long"]
            self.table.longs_suffice = constants["longs_suffice"]


# ---------------------------------------------------------------- stages

cdef enum:
    MINIMUMS = 4                    # compared in one loop

cdef struct Minimums:
    # A value x reaches stage[i] if x - k >= at[i], where k is 0 unless that needs integers beyond float64;
    # unused places have the stage 0.
    int64_t criterion
    Mean mean                       # k
    double at[MINIMUMS]
    double stage[MINIMUMS]


cdef void reach(hensa_table x, int64_t n, const Minimums* minimums, hensa_doubles s) noexcept nogil:
    """Raises s to the highest stage that x reaches."""
    cdef int64_t i
    cdef double at0 = minimums.at[0], at1 = minimums.at[1], at2 = minimums.at[2], at3 = minimums.at[3]
    cdef double stage0 = minimums.stage[0], stage1 = minimums.stage[1]
    cdef double stage2 = minimums.stage[2], stage3 = minimums.stage[3]
    cdef double a, b
    for i in range(n):
        a = s[i]
        b = stage0 if x[i] >= at0 else 0.0
        a = b if b > a else a
        b = stage1 if x[i] >= at1 else 0.0
        a = b if b > a else a
        b = stage2 if x[i] >= at2 else 0.0
        a = b if b > a else a
        b = stage3 if x[i] >= at3 else 0.0
        s[i] = b if b > a else a


cdef bint all_finite(hensa_table x, int64_t n) noexcept nogil:
    cdef int64_t i, finite = 0
    for i in range(n):
        finite += <int64_t> (x[i] - x[i] == 0.0)
    return finite == n


cdef void to_counts(hensa_table s, int64_t n, hensa_longs count) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        count[i] = <int64_t> (hensa_bits(s[i] + MAGIC) - MAGIC_BITS)


cdef void to_stages(hensa_long_table count, int64_t n, uint16_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <uint16_t> count[i]


cdef void look_back(hensa_long_table previous, hensa_long_table count, int64_t n, int64_t n_stages,
                    bint* wrong, bint* risen) noexcept nogil:
    """Whether some previous is no stage, and whether some row is on a higher stage than before."""
    cdef int64_t i
    cdef uint64_t signs = 0, rises = 0
    for i in range(n):
        signs |= <uint64_t> previous[i] | <uint64_t> n_stages - <uint64_t> previous[i]
        rises |= <uint64_t> previous[i] - <uint64_t> count[i]
    wrong[0] = signs >> 63
    risen[0] = rises >> 63


cdef void find_bonuses(hensa_long_table previous, hensa_long_table count, int64_t n, hensa_long_table bonus,
                       hensa_longs out) noexcept nogil:
    """The bonuses of the stages after `previous` up to `count`; `bonus` are those up to each stage, and ascend."""
    cdef int64_t i, points
    for i in range(n):
        points = bonus[count[i]] - bonus[previous[i]]
        out[i] = points if points > 0 else 0


cdef bint add_bonuses(hensa_long_table bonus, int64_t n, int64_t cap, hensa_longs reward) noexcept nogil:
    """False when a sum is beyond int64; bonuses are not negative."""
    cdef int64_t i, total, over = 0
    for i in range(n):
        total = <int64_t> (<uint64_t> reward[i] + <uint64_t> bonus[i])
        over |= <int64_t> (total < reward[i])
        reward[i] = total if total < cap else cap
    return over == 0


# ---------------------------------------------------------------- rewards

cdef void to_longs(const value_t* x, int64_t n, int64_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <int64_t> x[i]


cdef const int64_t* as_longs(int kind, const void* x, int64_t n, int64_t* scratch) noexcept nogil:
    """The base as int64, or NULL when some value does not fit."""
    cdef int64_t i
    cdef uint64_t spread = 0
    cdef const uint64_t* u = <const uint64_t*> x
    if kind == INT64:
        return <const int64_t*> x
    if kind == INT8:
        to_longs[int8_t](<const int8_t*> x, n, scratch)
    elif kind == INT16:
        to_longs[int16_t](<const int16_t*> x, n, scratch)
    elif kind == INT32:
        to_longs[int32_t](<const int32_t*> x, n, scratch)
    elif kind == UINT8 or kind == BOOL:
        to_longs[uint8_t](<const uint8_t*> x, n, scratch)
    elif kind == UINT16:
        to_longs[uint16_t](<const uint16_t*> x, n, scratch)
    elif kind == UINT32:
        to_longs[uint32_t](<const uint32_t*> x, n, scratch)
    elif kind == UINT64:
        for i in range(n):
            spread |= u[i] >> 63
            scratch[i] = <int64_t> u[i]
    else:
        for i in range(n):
            spread |= u[2 * i + 1] ^ (<uint64_t> 0 - (u[2 * i] >> 63))
            scratch[i] = <int64_t> u[2 * i]
    return NULL if spread else scratch


cdef bint rewards_fast(hensa_long_table base, hensa_table rate, int64_t n, const Table* table,
                       hensa_longs out) noexcept nogil:
    """base * rate * unit, rounded, in float64; docs/exactness.md proves it exact. False when some base is too large."""
    cdef int64_t i
    cdef uint64_t spread = 0, limit = <uint64_t> 1 << table.base_bits
    cdef double unit = table.unit, shift = table.shift, points
    for i in range(n):
        spread |= <uint64_t> base[i] + limit
        points = (hensa_double(<uint64_t> base[i] + MAGIC_BITS) - MAGIC) * (rate[i] * unit) + shift
        out[i] = <int64_t> (hensa_bits(points + MAGIC) - MAGIC_BITS)
    return spread >> (table.base_bits + 1) == 0 and table.fits


cdef void cap_rewards(int64_t n, int64_t cap, hensa_longs reward) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        reward[i] = reward[i] if reward[i] < cap else cap


cdef bint reward_long(int64_t base, int64_t numerator, const Table* table, int64_t* out) noexcept nogil:
    """The same for one row in int64: with base = q denominator + r, base * numerator / denominator =
    q numerator + r numerator / denominator. False when it may not fit int64."""
    cdef int64_t den = table.denominator_long, q = base // den, r = base - q * den, whole, part
    if r < 0:                       # C division truncates
        q -= 1
        r += den
    part = r * numerator + table.addend_long
    whole = part // den
    if part - whole * den < 0:
        whole -= 1
    # |whole| < 2^62; so is q numerator if its float64 value, within 2^-51 of it, is below 2^61.9
    if fabs(<double> q * <double> numerator) > 4.0e18:
        return False
    whole += q * numerator
    out[0] = whole if whole < table.cap_long else table.cap_long
    return True
