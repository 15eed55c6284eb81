# Welford's method: (count, mean, M2) of a block, merged by Chan, Golub and LeVeque (1979), eq. 1.5. Blocks sit at absolute
# row positions and are merged in the order of rows, so that neither chunks nor threads change a bit. The bound is in
# `welford_block`.

# ---------------------------------------------------------------- double-double

cdef struct Double2:
    double hi
    double lo


cdef inline Double2 two_sum(double a, double b) noexcept nogil:
    """a + b exactly (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    cdef Double2 r
    cdef double v
    r.hi = a + b
    v = r.hi - a
    r.lo = (a - (r.hi - v)) + (b - v)
    return r


cdef inline Double2 two_product(double a, double b) noexcept nogil:
    """a * b exactly, without a fused multiply-add (Dekker 1971), for |a|, |b| < 2^995."""
    cdef Double2 r
    cdef double t = a * 134217729.0, a1 = t - (t - a), a2 = a - a1, b1, b2
    t = b * 134217729.0
    b1 = t - (t - b)
    b2 = b - b1
    r.hi = a * b
    r.lo = ((a1 * b1 - r.hi) + a1 * b2 + a2 * b1) + a2 * b2
    return r


cdef inline Double2 dd_add(Double2 a, Double2 b) noexcept nogil:
    """a + b with a relative error below 2^-102 of |a| + |b|."""
    cdef Double2 s = two_sum(a.hi, b.hi)
    cdef Double2 t = two_sum(a.lo, b.lo)
    s = two_sum(s.hi, s.lo + t.hi)
    return two_sum(s.hi, s.lo + t.lo)


cdef inline Double2 dd_times(Double2 a, Double2 b) noexcept nogil:
    cdef Double2 p = two_product(a.hi, b.hi)
    return two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi))


cdef inline Double2 dd_over(Double2 a, double b) noexcept nogil:
    """a / b by one correction of the rounded quotient."""
    cdef double q = a.hi / b
    cdef Double2 p = two_product(q, b)
    return two_sum(q, (((a.hi - p.hi) - p.lo) + a.lo) / b)


# ---------------------------------------------------------------- Welford blocks

cdef struct Welford:
    double count
    Double2 mean
    Double2 m2


cdef struct Deviations:             # sums over x = p + a units + b
    Longs digits                    # of a, as float64 that hold it
    Longs squares                   # of (a + 2^26)^2, modulo 2^64
    Doubles b[LANES]                # of b and of (2 a units + b) b; value i goes to lane i modulo LANES in every build
    Doubles products[LANES]
    Doubles least
    Doubles greatest


cdef void range_of(const double* x, int64_t n, Deviations* sums) noexcept nogil:
    cdef int64_t i
    cdef Doubles low = sums.least, high = sums.greatest, value
    for i in range(n // WIDE):
        value = hensa_load_doubles(x + WIDE * i)
        low = hensa_least(value, low)
        high = hensa_greatest(value, high)
    sums.least = low
    sums.greatest = high


cdef void deviations(const double* x, int64_t n, double less, double pivot, double one, Deviations* sums) noexcept nogil:
    # one = 1.5 2^52 + 2^26 units, less = one - p
    cdef int64_t i, k, piece
    cdef Doubles down = hensa_all_doubles(less), up = hensa_all_doubles(one + pivot), value, t, rest
    cdef Longs a = sums.digits, aa = sums.squares, bits
    cdef Doubles b[LANES]
    cdef Doubles products[LANES]
    for k in range(LANES // WIDE):
        b[k] = sums.b[k]
        products[k] = sums.products[k]
    for i in range(n // LANES):
        hensa_prefetch(x + BLOCK, 8 * LANES)
        for k in range(LANES // WIDE):
            value = hensa_load_doubles(x + WIDE * k)
            t = value + down                            # rounds to units: p + a units + one - p
            bits = hensa_bits_of(t)
            a += bits
            aa += hensa_products(bits, bits)
            rest = value - (t - down)                   # b
            b[k] = b[k] + rest
            products[k] = products[k] + rest * (value + (t - up))
        x += LANES
    sums.digits = a
    sums.squares = aa
    for k in range(LANES // WIDE):
        sums.b[k] = b[k]
        sums.products[k] = products[k]


cdef Double2 lanes_total(const Doubles* lanes) noexcept nogil:
    cdef int i
    cdef double values[LANES]
    cdef Double2 total, part
    memcpy(values, lanes, sizeof(values))
    total.hi = total.lo = part.lo = 0.0
    for i in range(LANES):
        part.hi = values[i]
        total = dd_add(total, part)
    return total


cdef Welford welford_block(const double* x, int64_t n, int64_t fills) noexcept nogil:
    """Count, mean and M2 of one block, of which `fills` values equal the first and do not count.

    With p near the first value, M2 = sum (x - p)^2 - (sum (x - p))^2 / n (Chan, Golub and LeVeque 1983, eq. 1.7).
    Here x = p + a unit + b exactly: adding 1.5 2^52 units - p rounds x - p to whole units, a, and leaves
    |b| <= unit / 2; (x - p)^2 = (a unit)^2 + (2 a unit + b) b. With R = max - min and max |x| < 2^E the unit is the
    power of two with 2^24 < R / unit <= 2^25, but at least 2^(E - 50), so that all these steps are exact. Then
    |a| <= 2^25 + 1: the sums of a and a^2 are exact in integers. Of the rest only the product, 2 a unit + b and the
    additions round, by u = 2^-53 each:
    - where the unit is 2^(E - 50), R < 2^(E - 25), so all |x| > 2^(E - 2) are multiples of v = 2^(E - 54); |b| <= 8 v and
      |2 a unit + b| <= 2^31 v, products below 2^34 v^2, so nothing rounds at all.
    - else |(2 a unit + b) b| < 1.01 R unit <= 1.01 2^-24 R^2, the sum of all in a lane of 2^9 values below 2^-14 R^2, and
      its error below 2^9 u times that; 8 lanes: below 2^-2 u R^2. The sum of b is off by at most 8 2^9 u 2^9 unit / 2 <=
      2^-4 u R, which moves (sum (x - p))^2 / n by 2^-3 u R^2, as |x - p| <= R.
    R^2 <= 2 M2, by the least and the greatest value alone. So M2 is off by less than 0.8 u of itself, and the SD
    by less than 0.4 u; blocks merge in double-double, and with the last rounding the SD is within 1 ulp.
    """
    cdef Welford r
    cdef Deviations sums
    cdef double last[LANES]
    cdef double lanes[LANES]
    cdef double first = x[0], low = first, high = first, one, less, pivot, extent
    cdef int64_t rest = n % LANES, whole = n - rest, i, a, same = 0
    cdef uint64_t aa
    cdef int unit, exponent
    cdef Double2 total, squares, part
    r.count = <double> (n - fills)
    r.mean.hi = r.m2.hi = first
    r.mean.lo = r.m2.lo = 0.0
    memset(&sums, 0, sizeof(Deviations))
    for i in range(LANES):
        last[i] = x[whole + i] if i < rest else first
    sums.least = sums.greatest = hensa_all_doubles(first)
    range_of(x, whole, &sums)
    range_of(last, LANES, &sums)
    memcpy(lanes, &sums.least, sizeof(Doubles))
    for i in range(WIDE):
        low = lanes[i] if lanes[i] < low else low
    memcpy(lanes, &sums.greatest, sizeof(Doubles))
    for i in range(WIDE):
        high = lanes[i] if lanes[i] > high else high
    extent = high - low
    if extent == 0:
        for i in range(n):
            same += x[i] == first
        r.m2.hi = 0.0 if same == n else 1.0 / 0.0           # or it holds a NaN
        return r
    high = high if high > -low else -low
    if not (extent - extent == 0 and high < 1e300):         # infinite, NaN, or with squares beyond float64
        r.m2.hi = 1.0 / 0.0
        return r
    frexp(extent, &unit)
    frexp(high, &exponent)
    unit = unit - 25 if unit - 25 > exponent - 50 else exponent - 50
    unit = unit if unit > -1074 else -1074
    one = ldexp(6755399441055744.0 + 67108864.0, unit)
    less = one - first
    pivot = one - less
    deviations(x, whole, less, pivot, one, &sums)
    if rest:
        deviations(last, LANES, less, pivot, one, &sums)
        fills += LANES - rest
        n += LANES - rest
    a = <int64_t> (hensa_sum(sums.digits) - <uint64_t> n * hensa_bits(one))
    aa = hensa_sum(sums.squares) - (<uint64_t> a << 27) - (<uint64_t> n << 52)
    total = lanes_total(sums.b)
    squares = lanes_total(sums.products)
    # the fills are a = 0 and b = first - p
    part = two_product(first - pivot, <double> -fills)
    total = dd_add(total, part)
    squares = dd_add(squares, dd_times(part, two_sum(first - pivot, 0.0)))
    total = dd_add(total, two_sum(ldexp(<double> a, unit), 0.0))
    part = two_sum(ldexp(<double> (aa >> 32), 2 * unit + 32), ldexp(<double> (aa & LOW32), 2 * unit))
    squares = dd_add(squares, part)
    part = dd_times(total, dd_over(total, r.count))
    part.hi = -part.hi
    part.lo = -part.lo
    r.m2 = dd_add(squares, part)
    part.hi = pivot
    part.lo = 0.0
    r.mean = dd_add(part, dd_over(total, r.count))
    return r


cdef void welford_merge(Welford* a, const Welford* b) noexcept nogil:
    """a += b (Chan, Golub and LeVeque 1979, eq. 1.5): with d = mean_b - mean_a and n = n_a + n_b,
    mean = mean_a + d n_b / n and M2 = M2_a + M2_b + d^2 n_a n_b / n."""
    cdef Double2 d, t, share
    cdef double n
    if b.count == 0:
        return
    if a.count == 0:
        a[0] = b[0]
        return
    n = a.count + b.count
    t.hi = -a.mean.hi
    t.lo = -a.mean.lo
    d = dd_add(b.mean, t)
    t.hi = b.count
    t.lo = 0.0
    share = dd_over(t, n)                        # n_b / n
    a.mean = dd_add(a.mean, dd_times(d, share))
    t.hi = a.count
    a.m2 = dd_add(dd_add(a.m2, b.m2), dd_times(dd_times(d, d), dd_times(share, t)))
    a.count = n


cdef void to_doubles(const value_t* x, int64_t n, double* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <double> x[i]


cdef void decimals_to_doubles(const uint64_t* x, int64_t n, double* out) noexcept nogil:
    cdef int64_t i
    cdef Int128 zero
    zero.low = zero.high = 0
    for i in range(n):
        out[i] = difference(integer_at(DECIMAL128, x, i), zero)


cdef const double* as_doubles(int kind, const void* x, int64_t n, double* scratch) noexcept nogil:
    if kind == FLOAT64:
        return <const double*> x
    if kind == FLOAT32:
        to_doubles[float](<const float*> x, n, scratch)
    elif kind == INT8:
        to_doubles[int8_t](<const int8_t*> x, n, scratch)
    elif kind == UINT8 or kind == BOOL:
        to_doubles[uint8_t](<const uint8_t*> x, n, scratch)
    elif kind == INT16:
        to_doubles[int16_t](<const int16_t*> x, n, scratch)
    elif kind == UINT16:
        to_doubles[uint16_t](<const uint16_t*> x, n, scratch)
    elif kind == INT32:
        to_doubles[int32_t](<const int32_t*> x, n, scratch)
    elif kind == UINT32:
        to_doubles[uint32_t](<const uint32_t*> x, n, scratch)
    elif kind == INT64:
        to_doubles[int64_t](<const int64_t*> x, n, scratch)
    elif kind == UINT64:
        to_doubles[uint64_t](<const uint64_t*> x, n, scratch)
    else:
        decimals_to_doubles(<const uint64_t*> x, n, scratch)
    return scratch


def merge(const double[:, ::1] states):
    """Merges Welford states (count, mean, tail, M2, tail) in order; returns one such tuple."""
    cdef Welford total, part
    cdef Py_ssize_t i
    memset(&total, 0, sizeof(Welford))
    for i in range(states.shape[0]):
        part.count = states[i, 0]
        part.mean.hi = states[i, 1]
        part.mean.lo = states[i, 2]
        part.m2.hi = states[i, 3]
        part.m2.lo = states[i, 4]
        welford_merge(&total, &part)
    return total.count, total.mean.hi, total.mean.lo, total.m2.hi, total.m2.lo
