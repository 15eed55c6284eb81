# Cohorts: the same two passes with a population per cohort. Each row has a code, 0 <= code < n_cohorts.
# These loops are scalar: reading and writing the cohort's own numbers is what they wait for.

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
               uint64_t[:, :, ::1] totals, int64_t[::1] counts):
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
    totals : uint64 array, shape (cohorts, measures, 8)
        Added to: sum (3 words, two's complement) and sum of squares (5 words), low words first.
    counts : int64 array
        Added to: the rows of each cohort that count.
    """
    cdef Py_ssize_t n_measures = len(measures), n_columns = n_measures + len(others), j
    cdef View** views = views_of(measures + others)
    cdef Scratch* scratch = <Scratch*> malloc(sizeof(Scratch))
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
        free(scratch)


def doubles(Column column, double[::1] out):
    """The values of a column as float64; decimals without their scale, anything under nulls."""
    cdef int64_t row = 0, n
    cdef const double* values
    cdef Scratch* scratch = <Scratch*> malloc(sizeof(Scratch))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        while row < column.view.length:
            n = BLOCK if column.view.length - row > BLOCK else column.view.length - row
            values = as_doubles(column.view.kind, window(&column.view, row, n, scratch.window), n, scratch.clean)
            memcpy(&out[row], values, n * sizeof(double))
            row += n
    free(scratch)


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
    cdef Scratch* scratch = <Scratch*> malloc(sizeof(Scratch))
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
        free(scratch)
        free(total)


# ---------------------------------------------------------------- pass 2

cdef void add_measure_by(int loop, const double* x, const int32_t* code, int64_t n, const double* constants,
                         Py_ssize_t stride, double centre, double* s, double* m) noexcept nogil:
    """The loops of score.pxi with the cohort's constants: k, f, c and the c of the single score."""
    cdef int64_t i
    cdef const double* own
    cdef double t
    for i in range(n):
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


cdef uint64_t BY_SCORES = <uint64_t> 1 << 32        # no code of a cohort


cdef uint64_t divisor_of(uint64_t a, uint64_t b) noexcept nogil:
    """The greatest common divisor."""
    while b != 0:
        a, b = b, a % b
    return a


cdef bint square_of_score(int64_t x, const Exact* total, int64_t count, int64_t ddof, uint64_t* square) noexcept nogil:
    """z^2 of one value in lowest terms, its numerator with the sign of z, then its denominator.

    With d = n x - sum and P = n squares - sum^2, z^2 = d^2 (n - ddof) / (n P). False if an integer might not fit: those
    compared with 2^61 are off by less than 2^-50 of themselves. sum^2 <= n squares (Cauchy and Schwarz), so all that is
    subtracted below is less than 2^62 in size.
    """
    cdef double limit = 2305843009213693952.0, n = <double> count
    cdef uint64_t sign = <uint64_t> 0 - (total.sum[0] >> 63), d, spread, above, below, divisor
    cdef bint negative
    cdef int w
    if total.sum[1] != sign or total.sum[2] != sign:
        return False
    for w in range(1, SQUARES_LIMBS):
        if total.squares[w] != 0:
            return False
    if n * <double> total.squares[0] >= limit or n * fabs(<double> x) >= limit:
        return False
    d = <uint64_t> count * <uint64_t> x - total.sum[0]
    spread = <uint64_t> count * total.squares[0] - total.sum[0] * total.sum[0]
    if d == 0 or spread == 0:
        square[0] = 0
        square[1] = 1
        return True
    negative = d >> 63
    if negative:
        d = 0 - d
    if <double> d * <double> d * n >= limit or n * <double> spread >= limit:
        return False
    above = d * d * <uint64_t> (count - ddof)
    below = <uint64_t> count * spread
    divisor = divisor_of(above, below)
    above = above // divisor
    square[0] = 0 - above if negative else above
    square[1] = below // divisor
    return True
