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


cdef double LIMIT = 2305843009213693952.0           # 2^61
cdef double ULP = 2.220446049250313e-16             # 2^-52
cdef double TINY = 5e-324                           # 2^-1074

cdef bint is_small(const Exact* total, int64_t count) noexcept nogil:
    """Whether n squares < 2^61, as float64 computes it, and so sum^2 (Cauchy and Schwarz), and every n x^2."""
    cdef uint64_t sign = <uint64_t> 0 - (total.sum[0] >> 63), beyond = (total.sum[1] ^ sign) | (total.sum[2] ^ sign)
    cdef int w
    for w in range(1, SQUARES_LIMBS):
        beyond |= total.squares[w]
    return beyond == 0 and <double> count * <double> total.squares[0] < LIMIT


def constants_by(const uint64_t[:, :, ::1] totals, const int64_t[::1] counts, const double[::1] weights, double scale,
                 int64_t ddof, double smallest, double[:, :, ::1] numbers, double[::1] e0, uint8_t[::1] found):
    """The constants of pass 2 for cohorts of small sums, by the float64 operations of hensa.judge.

    Parameters
    ----------
    totals, counts
        Of `moments_by`.
    weights : float64 array
        What an SD of each measure adds to the score.
    scale : float
        What an SD adds to the score of one measure.
    ddof : int
        The variance divides by count - ddof.
    smallest : float
        Below it, a coefficient leaves every row to integers.
    numbers : float64 array, shape (cohorts, measures, 4)
        Written: k, f, c and the c of the single score.
    e0 : float64 array
        Added to: the part of the error bound.
    found : uint8 array
        Written: 0 for a cohort whose constants are not found here, 1, or 2 where some measure is constant.
    """
    cdef int64_t code, n, k, sum_, rest, spread
    cdef Py_ssize_t j, n_measures = totals.shape[1]
    cdef const Exact* total
    cdef double sd, c
    cdef double* own
    with nogil:
        for code in range(totals.shape[0]):
            n = counts[code]
            found[code] = n > ddof
            for j in range(n_measures):
                if found[code] and not is_small(<const Exact*> &totals[code, j, 0], n):
                    found[code] = 0
            for j in range(n_measures if found[code] else 0):
                total = <const Exact*> &totals[code, j, 0]
                own = &numbers[code, j, 0]
                sum_ = <int64_t> total.sum[0]
                k = sum_ // n
                rest = sum_ - k * n
                if rest < 0:                # C division truncates
                    k -= 1
                    rest += n
                own[0] = <double> k
                own[1] = <double> rest / <double> n
                own[2] = own[3] = 0.0
                spread = n * <int64_t> total.squares[0] - sum_ * sum_
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


cdef bint square_of_score(int64_t x, const Exact* total, int64_t count, int64_t ddof, uint64_t* square) noexcept nogil:
    """z^2 of one value in lowest terms, its numerator with the sign of z, then its denominator.

    With d = n x - sum and P = n squares - sum^2, z^2 = d^2 (n - ddof) / (n P). False if an integer might not fit: those
    compared with 2^61 are off by less than 2^-50 of themselves, so all below are less than 2^62 in size.
    """
    cdef double n = <double> count
    cdef uint64_t d, spread, above, below, divisor
    cdef bint negative
    if not is_small(total, count) or n * fabs(<double> x) >= LIMIT:
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
    if <double> d * <double> d * n >= LIMIT or n * <double> spread >= LIMIT:
        return False
    above = d * d * <uint64_t> (count - ddof)
    below = <uint64_t> count * spread
    divisor = divisor_of(above, below)
    above = above // divisor
    square[0] = 0 - above if negative else above
    square[1] = below // divisor
    return True
