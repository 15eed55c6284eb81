# Pass 1: the moments of columns.
#
# Exact: the integers (n, sum of x, sum of x^2). Every loop runs over a block of BLOCK = 2^12 rows
# with the narrowest lanes that cannot overflow there; after each block the lanes are added to
# totals of 192 bits (sums, two's complement) and 320 bits (sums of squares). No 128-bit type of any
# compiler is used: what does not fit 64 bits is split into 32-bit halves whose products and sums do.
#
# Welford: (count, mean, M2) of a block, merged by Chan, Golub and LeVeque (1979), eq. 1.5. Blocks sit
# at absolute row positions and are merged in the order of rows, so that neither chunks nor threads
# change a bit. The bound is in `welford_block`.

# ---------------------------------------------------------------- exact blocks

cdef struct Exact:
    uint64_t sum[SUM_LIMBS]
    uint64_t squares[SQUARES_LIMBS]


ctypedef fused byte_t:
    int8_t
    uint8_t

ctypedef fused short_t:
    int16_t
    uint16_t

ctypedef fused word_t:
    int32_t
    uint32_t

ctypedef fused long_t:
    int64_t
    uint64_t


cdef void exact_bytes(const byte_t* x, int64_t n, Exact* total) noexcept nogil:
    # |x| < 2^8: |sum| < 2^20, sum of squares < 2^28 in 32-bit lanes
    cdef int64_t i
    cdef int32_t s = 0
    cdef int32_t q = 0
    for i in range(n):
        s += <int32_t> x[i]
        q += <int32_t> x[i] * <int32_t> x[i]
    add_signed(total.sum, SUM_LIMBS, s, 0)
    add(total.squares, SQUARES_LIMBS, <uint64_t> q, 0)


cdef void exact_shorts(const short_t* x, int64_t n, Exact* total) noexcept nogil:
    # |x| < 2^16: |sum| < 2^28; x^2 < 2^32 is split in halves whose sums are < 2^28
    cdef int64_t i
    cdef int32_t s = 0
    cdef uint32_t square, low = 0, high = 0
    for i in range(n):
        s += <int32_t> x[i]
        square = <uint32_t> x[i] * <uint32_t> x[i]
        low += square & 0xFFFF
        high += square >> 16
    add_signed(total.sum, SUM_LIMBS, s, 0)
    add(total.squares, SQUARES_LIMBS, low + (<uint64_t> high << 16), 0)


cdef bint exact_small(const word_t* x, int64_t n, Exact* total) noexcept nogil:
    """Most words are small: with |x| < 2^19, |sum| < 2^31 and the sum of squares is below 2^50. False, and
    nothing added, if one is not."""
    cdef int64_t i
    cdef int32_t s = 0
    cdef int64_t q = 0
    cdef uint32_t spread = 0
    for i in range(n):
        if word_t is int32_t:
            spread |= <uint32_t> x[i] + <uint32_t> 0x80000      # below 2^20 exactly for |x| <= 2^19
        else:
            spread |= x[i] << 1 | x[i] >> 31 << 20
        s += <int32_t> x[i]
        q += <int64_t> <int32_t> x[i] * <int64_t> <int32_t> x[i]
    if spread >> 20:
        return False
    add_signed(total.sum, SUM_LIMBS, s, 0)
    add(total.squares, SQUARES_LIMBS, <uint64_t> q, 0)
    return True


cdef void exact_words(const word_t* x, int64_t n, Exact* total) noexcept nogil:
    # |x| < 2^32: |sum| < 2^44; x^2 < 2^64 is split in halves whose sums are < 2^44
    cdef int64_t i
    cdef int64_t s = 0
    cdef uint64_t square, low = 0, high = 0
    if exact_small(x, n, total):
        return
    for i in range(n):
        s += <int64_t> x[i]
        if word_t is int32_t:
            square = <uint64_t> (<int64_t> x[i] * <int64_t> x[i])
        else:
            square = <uint64_t> x[i] * <uint64_t> x[i]
        low += square & LOW32
        high += square >> 32
    add_signed(total.sum, SUM_LIMBS, s, 0)
    add(total.squares, SQUARES_LIMBS, low, 0)
    add(total.squares, SQUARES_LIMBS, high, 32)


cdef void exact_longs(const long_t* x, int64_t n, Exact* total) noexcept nogil:
    # Most long columns hold small numbers: a block of which every value fits int32 goes through
    # the loop above. Otherwise |x| = h 2^32 + l, x^2 = hh 2^64 + 2 hl 2^32 + ll, and each product is
    # split in 32-bit halves, whose sums are < 2^44.
    cdef int64_t i
    cdef uint64_t spread = 0, magnitude, h, l, product
    cdef uint64_t ll_low = 0, ll_high = 0, hl_low = 0, hl_high = 0, hh_low = 0, hh_high = 0
    cdef uint64_t sum_low = 0
    cdef int64_t sum_high = 0
    cdef int32_t words[BLOCK]
    for i in range(n):
        if long_t is int64_t:
            spread |= <uint64_t> x[i] + <uint64_t> 0x80000000   # below 2^32 exactly for the values of int32
        else:
            spread |= x[i] >> 31 << 32
    if spread >> 32 == 0:
        for i in range(n):
            words[i] = <int32_t> x[i]
        exact_words[int32_t](words, n, total)
        return
    for i in range(n):
        sum_low += <uint64_t> x[i] & LOW32
        if long_t is int64_t:
            sum_high += x[i] >> 32
            magnitude = <uint64_t> 0 - <uint64_t> x[i] if x[i] < 0 else <uint64_t> x[i]
        else:
            sum_high += <int64_t> (x[i] >> 32)
            magnitude = x[i]
        h = magnitude >> 32
        l = magnitude & LOW32
        product = l * l
        ll_low += product & LOW32
        ll_high += product >> 32
        product = h * l
        hl_low += product & LOW32
        hl_high += product >> 32
        product = h * h
        hh_low += product & LOW32
        hh_high += product >> 32
    add(total.sum, SUM_LIMBS, sum_low, 0)
    add_signed(total.sum, SUM_LIMBS, sum_high, 32)
    add(total.squares, SQUARES_LIMBS, ll_low, 0)
    add(total.squares, SQUARES_LIMBS, ll_high + 2 * hl_low, 32)
    add(total.squares, SQUARES_LIMBS, 2 * hl_high + hh_low, 64)
    add(total.squares, SQUARES_LIMBS, hh_high, 96)


cdef void exact_decimals(const uint64_t* x, int64_t n, Exact* total) noexcept nogil:
    # decimal128: pairs of 64-bit words, low word first, two's complement. A block that fits int64
    # goes through the loop above; otherwise the magnitude is four 32-bit digits, the ten products of
    # which are added at their places.
    cdef int64_t i
    cdef int a, b
    cdef uint64_t spread = 0, low, high, product, negative
    cdef uint64_t digit[4]
    cdef int64_t longs[BLOCK]
    for i in range(n):
        spread |= x[2 * i + 1] ^ (<uint64_t> 0 - (x[2 * i] >> 63))
    if spread == 0:
        for i in range(n):
            longs[i] = <int64_t> x[2 * i]
        exact_longs[int64_t](longs, n, total)
        return
    for i in range(n):
        low = x[2 * i]
        high = x[2 * i + 1]
        add(total.sum, SUM_LIMBS, low, 0)
        add_signed(total.sum, SUM_LIMBS, <int64_t> high, 64)
        negative = <uint64_t> 0 - (high >> 63)
        high = (high ^ negative) + ((low == 0) & (negative & 1))
        low = (low ^ negative) + (negative & 1)
        digit[0] = low & LOW32
        digit[1] = low >> 32
        digit[2] = high & LOW32
        digit[3] = high >> 32
        for a in range(4):
            for b in range(a + 1):
                product = digit[a] * digit[b]
                add(total.squares, SQUARES_LIMBS, product, 32 * (a + b))
                if a != b:
                    add(total.squares, SQUARES_LIMBS, product, 32 * (a + b))


cdef void exact_block(int kind, const void* x, int64_t n, Exact* total) noexcept nogil:
    if kind == INT8:
        exact_bytes[int8_t](<const int8_t*> x, n, total)
    elif kind == UINT8 or kind == BOOL:
        exact_bytes[uint8_t](<const uint8_t*> x, n, total)
    elif kind == INT16:
        exact_shorts[int16_t](<const int16_t*> x, n, total)
    elif kind == UINT16:
        exact_shorts[uint16_t](<const uint16_t*> x, n, total)
    elif kind == INT32:
        exact_words[int32_t](<const int32_t*> x, n, total)
    elif kind == UINT32:
        exact_words[uint32_t](<const uint32_t*> x, n, total)
    elif kind == INT64:
        exact_longs[int64_t](<const int64_t*> x, n, total)
    elif kind == UINT64:
        exact_longs[uint64_t](<const uint64_t*> x, n, total)
    else:
        exact_decimals(<const uint64_t*> x, n, total)


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


cdef inline void welford_add(double e, double* s, double* s_low, double* m2, double* m2_low) noexcept nogil:
    """s += e and m2 += e^2, with what rounding loses in the second of each pair (two_sum)."""
    cdef double q = e * e, t = s[0] + e, v = t - s[0]
    s_low[0] = s_low[0] + ((s[0] - (t - v)) + (e - v))
    s[0] = t
    t = m2[0] + q
    v = t - m2[0]
    m2_low[0] = m2_low[0] + ((m2[0] - (t - v)) + (q - v))
    m2[0] = t


cdef Welford welford_block(const double* x, int64_t n) noexcept nogil:
    """Count, mean and M2 of one block in L1, by the corrected two-pass algorithm (Chan, Golub and
    LeVeque 1983, eq. 1.7): a first sum gives a pivot p near the mean, then with e = x - p
    mean = p + sum(e) / n and M2 = sum(e^2) - sum(e)^2 / n.

    Both sums are compensated (two_sum; Ogita, Rump and Oishi 2005), so that up to second order the
    result is the exact M2 of the data p + fl(x - p), with squares rounded once. sqrt(M2) is a
    seminorm of the data: rounding x - p moves it by at most u sqrt(sum e^2), u = 2^-53; rounding the
    squares moves it by at most u/2 of itself. Hence |SD error| <= 1.5 u SD before the last rounding:
    within 2 ulp. A wrong pivot costs nothing but these terms, and blocks merge in double-double.
    """
    cdef Welford r
    cdef double first = x[0], pivot
    cdef double s[LANES]
    cdef double s_low[LANES]
    cdef double m2[LANES]
    cdef double m2_low[LANES]
    cdef int64_t i, whole = n // LANES
    cdef int lane, rest = <int> (n % LANES)
    cdef Double2 total, squares, part
    for lane in range(LANES):
        s[lane] = 0.0
        s_low[lane] = 0.0
        m2[lane] = 0.0
        m2_low[lane] = 0.0
    for i in range(whole):
        for lane in range(LANES):
            s[lane] = s[lane] + (x[LANES * i + lane] - first)
    for lane in range(rest):
        s[lane] = s[lane] + (x[LANES * whole + lane] - first)
    pivot = 0.0
    for lane in range(LANES):
        pivot += s[lane]
        s[lane] = 0.0
    pivot = first + pivot / <double> n
    for i in range(whole):
        for lane in range(LANES):
            welford_add(x[LANES * i + lane] - pivot, s + lane, s_low + lane, m2 + lane, m2_low + lane)
    for lane in range(rest):
        welford_add(x[LANES * whole + lane] - pivot, s + lane, s_low + lane, m2 + lane, m2_low + lane)
    total.hi = total.lo = squares.hi = squares.lo = 0.0
    for lane in range(LANES):
        part.hi = s[lane]
        part.lo = s_low[lane]
        total = dd_add(total, part)
        part.hi = m2[lane]
        part.lo = m2_low[lane]
        squares = dd_add(squares, part)
    part = dd_over(dd_times(total, total), <double> n)
    part.hi = -part.hi
    part.lo = -part.lo
    r.count = <double> n
    r.m2 = dd_add(squares, part)
    part.hi = pivot
    part.lo = 0.0
    r.mean = dd_add(part, dd_over(total, <double> n))
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


# ---------------------------------------------------------------- rows that do not count

cdef void zero_nulls(const value_t* x, const uint8_t* valid, int64_t n, value_t* out) noexcept nogil:
    """A copy in which nulls are 0: they add nothing to a sum or a sum of squares."""
    cdef int64_t i
    for i in range(n):
        out[i] = x[i] if valid[i] else <value_t> 0


cdef const void* without_nulls(int kind, const void* x, const uint8_t* valid, int64_t n,
                               void* scratch) noexcept nogil:
    cdef int width = WIDTH[kind]
    cdef int64_t i
    if width <= 1:
        zero_nulls[uint8_t](<const uint8_t*> x, valid, n, <uint8_t*> scratch)
    elif width == 2:
        zero_nulls[uint16_t](<const uint16_t*> x, valid, n, <uint16_t*> scratch)
    elif width == 4:
        zero_nulls[uint32_t](<const uint32_t*> x, valid, n, <uint32_t*> scratch)
    elif width == 8:
        zero_nulls[uint64_t](<const uint64_t*> x, valid, n, <uint64_t*> scratch)
    else:
        for i in range(n):
            (<uint64_t*> scratch)[2 * i] = (<const uint64_t*> x)[2 * i] if valid[i] else 0
            (<uint64_t*> scratch)[2 * i + 1] = (<const uint64_t*> x)[2 * i + 1] if valid[i] else 0
    return scratch


cdef int64_t pack(const double* x, const uint8_t* valid, int64_t n, double* out) noexcept nogil:
    """The values that count, in order, side by side; `out` may be `x`."""
    cdef int64_t i, count = 0
    for i in range(n):
        out[count] = x[i]
        count += valid[i]
    return count


# ---------------------------------------------------------------- the pass

cdef struct Scratch:
    double window[2 * BLOCK]        # values copied together; decimal128 takes two words
    double clean[2 * BLOCK]         # the same without nulls, or as doubles
    uint8_t valid[BLOCK]
    uint64_t words[WINDOW_WORDS]


cdef enum:
    INTEGERS, WELFORD, SUPER        # how a measure is added up


cdef bint moments_block(const View* view, int method, int64_t row, int64_t n, bint masked, const uint64_t* words,
                        Exact* exact, Welford* state, SuperPair* supers, Scratch* scratch) noexcept nogil:
    """Adds one block of one column to its totals; False if its state would not be finite."""
    cdef const void* x = window(view, row, n, scratch.window)
    cdef const double* values
    cdef Welford block
    hensa_prefetch(<const uint8_t*> x + n * WIDTH[view.kind], n * WIDTH[view.kind])     # the next block
    if masked:
        bytes_of(words, n, scratch.valid)
    if method == INTEGERS:
        if masked:
            x = without_nulls(view.kind, x, scratch.valid, n, scratch.clean)
        exact_block(view.kind, x, n, exact)
        return True
    values = as_doubles(view.kind, x, n, scratch.clean)
    if masked:
        n = pack(values, scratch.valid, n, scratch.clean)
        values = scratch.clean
    if n == 0:
        return True
    if method == SUPER:
        return super_block(values, n, supers, scratch.clean, scratch.window)
    block = welford_block(values, n)
    if not (block.m2.hi - block.m2.hi == 0 and block.mean.hi - block.mean.hi == 0):
        return False
    welford_merge(state, &block)
    return True


cdef int64_t moments_pass(View** measures, Py_ssize_t n_measures, View** all_columns,
                          Py_ssize_t n_columns, const uint8_t* method, int64_t start, int64_t stop,
                          Exact* exact, Welford* states, SuperPair* supers, Scratch* scratch,
                          Py_ssize_t* bad_measure) noexcept nogil:
    """Adds the rows [start, stop) to the totals; returns the number of rows that count, or
    -1 - row when the block at `row` has a state that is not finite."""
    cdef int64_t row = start, end, at, n, here, counted, count = 0
    cdef Py_ssize_t i
    while row < stop:
        n = WINDOW - row % WINDOW
        if n > stop - row:
            n = stop - row
        end = row + n
        counted = rows_that_count(all_columns, n_columns, row, n, scratch.words)
        count += counted
        for i in range(n_measures if counted else 0):
            bad_measure[0] = i
            at = row
            while at < end:
                here = BLOCK if end - at > BLOCK else end - at
                if not moments_block(measures[i], method[i], at, here, counted < n, scratch.words + ((at - row) >> 6),
                                     exact + i, states + i, supers + i, scratch):
                    return -1 - at
                at += here
        row = end
    return count


def moments(list measures, list others, const uint8_t[::1] method, int64_t start, int64_t stop):
    """The moments of some measures over the rows [start, stop).

    Parameters
    ----------
    measures : list of Column
        The columns to add up.
    others : list of Column
        Further columns; a row that is null in any column is left out.
    method : uint8 array
        Of each measure: 0 for integers, 1 for Welford's method, 2 for exact floats.
    start, stop : int
        The rows; `start` is a multiple of WINDOW.

    Returns
    -------
    tuple
        The number of rows that count, and for each measure (sum, sum of squares) as int, of exact floats
        in units of 2**-2368, or (count, mean, mean's tail, M2, M2's tail) as float.

    Raises
    ------
    ArithmeticError
        With (measure, first row of the block): NaN, infinity, or squares beyond float64.
    """
    cdef Py_ssize_t n = len(measures), bad_measure = 0, i
    cdef View** views = views_of(measures + others)
    cdef Exact* exact = <Exact*> calloc(n + 1, sizeof(Exact))
    cdef Welford* states = <Welford*> calloc(n + 1, sizeof(Welford))
    cdef SuperPair* supers = NULL
    cdef Scratch* scratch = <Scratch*> malloc(sizeof(Scratch))
    cdef int64_t count
    cdef Py_ssize_t n_columns = n + len(others)
    cdef Welford* w
    try:
        if SUPER in method:
            supers = <SuperPair*> calloc(n, sizeof(SuperPair))
        if exact == NULL or states == NULL or scratch == NULL or (supers == NULL and SUPER in method):
            raise MemoryError
        with nogil:
            count = moments_pass(views, n, views, n_columns, &method[0], start, stop,
                                 exact, states, supers, scratch, &bad_measure)
        if count < 0:
            raise ArithmeticError(bad_measure, -1 - count)
        results = []
        for i in range(n):
            if method[i] == SUPER:
                results.append((super_integer(&supers[i].sum), super_integer(&supers[i].squares)))
            elif method[i] == WELFORD:
                w = states + i
                results.append((w.count, w.mean.hi, w.mean.lo, w.m2.hi, w.m2.lo))
            else:
                results.append((integer_of(exact[i].sum, SUM_LIMBS, True),
                                integer_of(exact[i].squares, SQUARES_LIMBS, False)))
        return count, results
    finally:
        free(views)
        free(exact)
        free(states)
        free(supers)
        free(scratch)


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
