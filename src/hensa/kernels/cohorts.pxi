# Cohorts: the same two passes with a population per cohort. Each row has a code, 0 <= code < n_cohorts.
# These loops are scalar: reading and writing the cohort's own numbers is what they wait for, so those of the row ROWS_AHEAD
# are asked for.

cdef enum:
    ROWS_AHEAD = 64                      # rows


# ---------------------------------------------------------------- keys

def span_of(Column column, int64_t start, int64_t stop, int32_t[::1] low_bits=None):
    """The least and the greatest value of rows [start, stop), also under nulls; None if they do not fit int64, or there are
    no rows. The lower 32 bits of each are kept, if asked for."""
    cdef int64_t row = start, i, n, low = 0x7FFFFFFFFFFFFFFF, high = -low - 1
    cdef const int64_t* x = NULL
    cdef int32_t* bits
    cdef bint kept = low_bits is not None
    cdef int64_t window_[2 * TILE]
    cdef int64_t longs[TILE]
    with nogil:
        while row < stop:
            n = TILE if stop - row > TILE else stop - row
            x = as_longs(column.view.kind, window(&column.view, row, n, window_), n, longs)
            if x == NULL:
                break
            if kept and x != longs:
                # read once: whoever owns the values may change them meanwhile
                memcpy(longs, x, n * sizeof(int64_t))
                x = longs
            for i in range(n):
                low = x[i] if x[i] < low else low
                high = x[i] if x[i] > high else high
            if kept:
                bits = &low_bits[row]
                for i in range(n):
                    bits[i] = <int32_t> x[i]
            row += n
    return None if x == NULL else (low, high)


def add_digits(const int32_t[::1] low_bits, uint32_t low, int64_t span, int32_t[::1] codes, int64_t start, int64_t stop):
    """Makes the code of rows [start, stop) code * span + value - low, which is below 2^31, from the lower 32 bits of values
    and of the least."""
    cdef int64_t i
    with nogil:
        for i in range(start, stop):
            codes[i] = <int32_t> (<uint32_t> codes[i] * <uint32_t> span + (<uint32_t> low_bits[i] - low))


def mark(const int32_t[::1] codes, uint8_t[::1] present, int64_t start, int64_t stop):
    """Sets what is present at the codes of rows [start, stop) to 1; reading it first leaves other threads their caches."""
    cdef int64_t i
    with nogil:
        for i in range(start, stop):
            if not present[codes[i]]:
                present[codes[i]] = 1


def renumber(int32_t[::1] codes, const int32_t[::1] number, int64_t start, int64_t stop):
    """Replaces the codes of rows [start, stop) by their numbers."""
    cdef int64_t i
    with nogil:
        for i in range(start, stop):
            codes[i] = number[codes[i]]


# ---------------------------------------------------------------- pass 1

cdef inline void add_long(Exact* total, int64_t x) noexcept nogil:
    """One value with |x| < 2^32 to the totals of a cohort."""
    cdef uint64_t extension = <uint64_t> (x >> 63), carry, square = <uint64_t> x * <uint64_t> x
    total.sum[0] += <uint64_t> x
    carry = total.sum[0] < <uint64_t> x
    total.sum[1] += extension
    total.sum[2] += extension + (total.sum[1] < extension)
    total.sum[1] += carry
    total.sum[2] += total.sum[1] < carry
    total.squares[0] += square
    carry = total.squares[0] < square
    total.squares[1] += carry
    total.squares[2] += total.squares[1] < carry


cdef void add_narrow_by(const value_t* x, const int32_t* code, const uint8_t* valid, int64_t n, Exact* totals,
                        Py_ssize_t n_measures) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if valid == NULL or valid[i]:
            add_long(totals + code[i] * n_measures, <int64_t> x[i])


cdef void add_wide_by(int kind, const void* x, const int32_t* code, const uint8_t* valid, int64_t n, Exact* totals,
                      Py_ssize_t n_measures) noexcept nogil:
    cdef int64_t i
    cdef uint64_t one[2]
    cdef Int128 value
    for i in range(n):
        if valid == NULL or valid[i]:
            value = integer_at(kind, x, i)
            if value.high == <uint64_t> 0 - (value.low >> 63) and value.low + LOW32 <= 2 * LOW32:
                add_long(totals + code[i] * n_measures, <int64_t> value.low)
            else:
                one[0] = value.low
                one[1] = value.high
                exact_block(DECIMAL128, one, 1, totals + code[i] * n_measures)


cdef void add_by(int kind, const void* x, const int32_t* code, const uint8_t* valid, int64_t n, Exact* totals,
                 Py_ssize_t n_measures) noexcept nogil:
    if kind == INT8:
        add_narrow_by[int8_t](<const int8_t*> x, code, valid, n, totals, n_measures)
    elif kind == INT16:
        add_narrow_by[int16_t](<const int16_t*> x, code, valid, n, totals, n_measures)
    elif kind == INT32:
        add_narrow_by[int32_t](<const int32_t*> x, code, valid, n, totals, n_measures)
    elif kind == UINT8 or kind == BOOL:
        add_narrow_by[uint8_t](<const uint8_t*> x, code, valid, n, totals, n_measures)
    elif kind == UINT16:
        add_narrow_by[uint16_t](<const uint16_t*> x, code, valid, n, totals, n_measures)
    elif kind == UINT32:
        add_narrow_by[uint32_t](<const uint32_t*> x, code, valid, n, totals, n_measures)
    else:
        add_wide_by(kind, x, code, valid, n, totals, n_measures)


def moments_by(list measures, list others, const int32_t[::1] codes, int64_t start, int64_t stop,
               int64_t[:, :, ::1] totals, int64_t[::1] counts):
    """Adds the rows [start, stop) to the totals of their cohorts.

    Parameters
    ----------
    measures : list of Column
        Columns of integers or decimals.
    others : list of Column
        Further columns; a row that is null in any column is left out.
    codes : int32 array
        Every row's cohort.
    start, stop : int
        The rows.
    totals : int64 array, shape (cohorts, measures, 8)
        Added to: sum (3 words, two's complement) and sum of squares (5 words), low words first.
    counts : int64 array
        Added to: the rows of each cohort that count.
    """
    cdef Py_ssize_t n_measures = len(measures), n_columns = n_measures + len(others), j
    cdef View** views = views_of(measures + others)
    cdef Scratch* scratch = <Scratch*> hensa_allocate(sizeof(Scratch))
    cdef Exact* exact = <Exact*> &totals[0, 0, 0] if totals.shape[0] and n_measures else NULL
    cdef const int32_t* code
    cdef const uint8_t* valid
    cdef int64_t row = start, n, i
    try:
        if scratch == NULL:
            raise MemoryError
        with nogil:
            while row < stop:
                n = BLOCK if stop - row > BLOCK else stop - row
                code = &codes[row]
                valid = NULL
                if rows_that_count(views, n_columns, row, n, scratch.words) < n:
                    bytes_of(scratch.words, n, scratch.valid)
                    valid = scratch.valid
                for i in range(n):
                    counts[code[i]] += 1 if valid == NULL else valid[i]
                for j in range(n_measures):
                    add_by(views[j].kind, window(views[j], row, n, scratch.window), code, valid, n,
                           exact + j, n_measures)
                row += n
    finally:
        free(views)
        hensa_release(scratch)


cdef void add_small_by(const int64_t* x, const int32_t* code, int64_t n, int64_t ahead, int64_t most, int64_t* totals,
                       Py_ssize_t stride) noexcept nogil:
    """The codes of `ahead` rows may be read; 0: nothing is asked for."""
    cdef int64_t i, value
    cdef int64_t* own
    for i in range(n):
        if i + ROWS_AHEAD < ahead:
            hensa_prefetch(totals + code[i + ROWS_AHEAD] * stride, stride * sizeof(int64_t))
        own = totals + code[i] * stride
        value = x[i]
        value = value if value < most else most
        value = value if value > -most else -most
        own[0] += value
        own[1] += value * value


def small_moments_by(list measures, list others, const int32_t[::1] codes, int64_t start, int64_t stop, int64_t most,
                     int64_t[:, :, ::1] totals, int64_t[::1] counts):
    """The same for integers whose squares add up to less than 2^63, also under nulls.

    Parameters
    ----------
    measures, others, codes, start, stop, counts
        Of `moments_by`.
    most : int
        The greatest size of a value. Whoever owns the values may have changed them since they were looked at: those
        beyond count as this, so that totals remain those of some values.
    totals : int64 array, shape (cohorts, measures, 2)
        Added to: sum and sum of squares.
    """
    cdef Py_ssize_t n_measures = len(measures), n_columns = n_measures + len(others), j
    cdef View** views = views_of(measures + others)
    cdef int64_t* first = &totals[0, 0, 0] if totals.shape[0] and n_measures else NULL
    cdef const int32_t* code
    cdef const int64_t* x
    cdef int64_t row = start, n, i
    cdef bint masked
    cdef int64_t window_[2 * TILE]
    cdef int64_t longs[TILE]
    cdef uint64_t words[TILE_WORDS]
    cdef uint8_t valid[TILE]
    try:
        with nogil:
            while row < stop:
                n = TILE if stop - row > TILE else stop - row
                code = &codes[row]
                masked = rows_that_count(views, n_columns, row, n, words) < n
                if masked:
                    bytes_of(words, n, valid)
                for j in range(n_measures):
                    x = as_longs(views[j].kind, window(views[j], row, n, window_), n, longs)
                    if x == NULL:               # only if somebody changes the values meanwhile
                        x = longs
                    if masked:
                        zero_nulls[int64_t](x, valid, n, longs)
                        x = longs
                    add_small_by(x, code, n, stop - row if j == 0 else 0, most, first + 2 * j,
                                 2 * n_measures)
                for i in range(n):
                    if i + ROWS_AHEAD < stop - row:
                        hensa_prefetch(&counts[code[i + ROWS_AHEAD]], sizeof(int64_t))
                    counts[code[i]] += valid[i] if masked else 1
                row += n
    finally:
        free(views)


def doubles(Column column, double[::1] out):
    """The values of a column as float64; decimals without their scale, anything under nulls."""
    cdef int64_t row = 0, n
    cdef const double* values
    cdef Scratch* scratch = <Scratch*> hensa_allocate(sizeof(Scratch))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        while row < column.view.length:
            n = BLOCK if column.view.length - row > BLOCK else column.view.length - row
            values = as_doubles(column.view.kind, window(&column.view, row, n, scratch.window), n, scratch.clean)
            memcpy(&out[row], values, n * sizeof(double))
            row += n
    hensa_release(scratch)


def welford_by(const double[::1] values, const int64_t[::1] offsets):
    """Welford states of runs of values: run i is values[offsets[i]:offsets[i + 1]].

    Returns
    -------
    list of tuple
        (count, mean, tail, M2, tail) of each run.
    """
    cdef int64_t i, at, n
    cdef Welford total, block
    states = []
    for i in range(offsets.shape[0] - 1):
        memset(&total, 0, sizeof(Welford))
        at = offsets[i]
        while at < offsets[i + 1]:
            n = BLOCK if offsets[i + 1] - at > BLOCK else offsets[i + 1] - at
            block = welford_block(&values[at], n, 0)
            welford_merge(&total, &block)
            at += n
        states.append((total.count, total.mean.hi, total.mean.lo, total.m2.hi, total.m2.lo))
    return states


def exact_floats_by(const double[::1] values, const int64_t[::1] offsets):
    """Exact (sum, sum of squares) of runs of finite values, in units of 2**-2368: run i is
    values[offsets[i]:offsets[i + 1]]."""
    cdef int64_t i, at, n
    cdef Scratch* scratch = <Scratch*> hensa_allocate(sizeof(Scratch))
    cdef SuperPair* total = <SuperPair*> malloc(sizeof(SuperPair))
    sums = []
    try:
        if scratch == NULL or total == NULL:
            raise MemoryError
        for i in range(offsets.shape[0] - 1):
            memset(total, 0, sizeof(SuperPair))
            at = offsets[i]
            while at < offsets[i + 1]:
                n = BLOCK if offsets[i + 1] - at > BLOCK else offsets[i + 1] - at
                super_block(&values[at], n, total, scratch.clean, scratch.window)
                at += n
            sums.append((super_integer(&total.sum), super_integer(&total.squares)))
        return sums
    finally:
        hensa_release(scratch)
        free(total)


# ---------------------------------------------------------------- pass 2

cdef void add_measure_by(int loop, const double* x, const int32_t* code, int64_t n, int64_t ahead,
                         const double* constants, Py_ssize_t stride, double centre, double* s, double* m) noexcept nogil:
    """The loops of terms.pxi with the cohort's constants: k, f, c and the c of the single score. The first of them asks
    for all constants of the rows ROWS_AHEAD; the codes of `ahead` rows may be read."""
    cdef int64_t i
    cdef const double* own
    cdef double t
    for i in range(n):
        if loop == FIRST and i + ROWS_AHEAD < ahead:
            hensa_prefetch(constants + code[i + ROWS_AHEAD] * stride, stride * sizeof(double))
        own = constants + code[i] * stride
        if loop == SINGLE:
            s[i] = centre + ((x[i] - own[0]) - own[1]) * own[3]
            continue
        t = ((x[i] - own[0]) - own[1]) * own[2]
        s[i] = t + (centre if loop == FIRST else s[i])
        m[i] = fabs(t) + (0.0 if loop == FIRST else m[i])


cdef const double* differences_by(int kind, const void* x, const int32_t* code, int64_t n, const uint64_t* k,
                                  Py_ssize_t stride, double* out) noexcept nogil:
    """x - k, rounded once."""
    cdef int64_t i
    cdef Int128 own
    for i in range(n):
        own.low = k[code[i] * stride]
        own.high = k[code[i] * stride + 1]
        out[i] = difference(integer_at(kind, x, i), own)
    return out


cdef double LIMIT = 2305843009213693952.0           # 2^61
cdef double ULP = 2.220446049250313e-16             # 2^-52
cdef double TINY = 5e-324                           # 2^-1074

cdef struct Small:
    int64_t sum
    int64_t squares


cdef bint small_of(const int64_t* words, Py_ssize_t n_words, int64_t count, Small* small) noexcept nogil:
    """One measure's totals of `moments_by` or, of two words, of `small_moments_by`. False unless n squares < 2^61, as
    float64 computes it, and so sum^2 (Cauchy and Schwarz), and every n x^2."""
    cdef const Exact* total = <const Exact*> words
    cdef uint64_t sign, beyond = 0
    cdef int w
    small.sum = words[0]
    small.squares = words[1]
    if n_words > 2:
        small.squares = <int64_t> total.squares[0]
        sign = <uint64_t> 0 - (total.sum[0] >> 63)
        beyond = (total.sum[1] ^ sign) | (total.sum[2] ^ sign) | total.squares[0] >> 63
        for w in range(1, SQUARES_LIMBS):
            beyond |= total.squares[w]
    return beyond == 0 and <double> count * <double> small.squares < LIMIT


def constants_by(const int64_t[:, :, ::1] totals, const int64_t[::1] counts, const double[::1] weights, double scale,
                 int64_t ddof, double smallest, int64_t start, int64_t stop, double[:, :, ::1] numbers, double[::1] e0,
                 uint8_t[::1] found):
    """The constants of pass 2 for cohorts of small sums, by the float64 operations of hensa.judge.

    Parameters
    ----------
    totals, counts
        Of `moments_by` or `small_moments_by`.
    weights : float64 array
        What an SD of each measure adds to the score.
    scale : float
        What an SD adds to the score of one measure.
    ddof : int
        The variance divides by count - ddof.
    smallest : float
        Below it, a coefficient leaves every row to integers.
    start, stop : int
        The cohorts.
    numbers : float64 array, shape (cohorts, measures, 4)
        Written: k, f, c and the c of the single score, or zeros.
    e0 : float64 array
        Added to: the part of the error bound.
    found : uint8 array
        Written: 0 for a cohort whose constants are not found here, 1, or 2 where some measure is constant.
    """
    cdef int64_t code, n, k, rest, spread
    cdef Py_ssize_t j, n_measures = totals.shape[1]
    cdef Small total
    cdef double sd, c
    cdef double* own
    with nogil:
        for code in range(start, stop):
            n = counts[code]
            found[code] = n > ddof
            for j in range(n_measures):
                memset(&numbers[code, j, 0], 0, 4 * sizeof(double))
                if not small_of(&totals[code, j, 0], totals.shape[2], n, &total):
                    found[code] = 0
            for j in range(n_measures if found[code] else 0):
                small_of(&totals[code, j, 0], totals.shape[2], n, &total)
                own = &numbers[code, j, 0]
                k = total.sum // n
                rest = total.sum - k * n
                if rest < 0:                # C division truncates
                    k -= 1
                    rest += n
                own[0] = <double> k
                own[1] = <double> rest / <double> n
                spread = n * total.squares - total.sum * total.sum
                if spread == 0:
                    found[code] = 2
                    continue
                sd = sqrt(<double> spread / <double> (n * (n - ddof)))
                own[2] = weights[j] / sd
                own[3] = scale / sd
                c = fabs(own[2])
                if c > smallest:
                    e0[code] += c * (own[1] * ULP + TINY)
                elif weights[j] != 0.0:
                    e0[code] = INFINITY


cdef uint64_t BY_SCORES = <uint64_t> 1 << 32        # no code of a cohort


cdef uint64_t divisor_of(uint64_t a, uint64_t b) noexcept nogil:
    """The greatest common divisor."""
    while b != 0:
        a, b = b, a % b
    return a


# With d = n x - sum and P = n squares - sum^2, z = d sqrt((n - ddof) / (n P)). Integers compared with 2^61 are off by less
# than 2^-50 of themselves, so all below are less than 2^62 in size.

cdef bint deviation_of(int64_t x, const int64_t* words, Py_ssize_t n_words, int64_t count, uint64_t* pair) noexcept nogil:
    """d and P of one value; False if an integer might not fit."""
    cdef Small total
    if not small_of(words, n_words, count, &total) or <double> count * fabs(<double> x) >= LIMIT:
        return False
    pair[0] = <uint64_t> (count * x - total.sum)
    pair[1] = <uint64_t> (count * total.squares - total.sum * total.sum)
    return True


cdef bint square_of_score(int64_t count, int64_t ddof, uint64_t* square) noexcept nogil:
    """From d and P in their place, z^2 in lowest terms: its numerator with the sign of z, then its denominator. False if
    an integer might not fit."""
    cdef double n = <double> count
    cdef uint64_t d = square[0], spread = square[1], above, below, divisor
    cdef bint negative
    if d == 0 or spread == 0:
        square[0] = 0
        square[1] = 1
        return True
    negative = d >> 63
    if negative:
        d = 0 - d
    if <double> d * <double> d * n >= LIMIT or n * <double> spread >= LIMIT:
        return False
    above = d * d * <uint64_t> (count - ddof)
    below = <uint64_t> count * spread
    divisor = divisor_of(above, below)
    above = above // divisor
    square[0] = 0 - above if negative else above
    square[1] = below // divisor
    return True
