# Pass 1: the moments of columns, exactly (integers.pxi, floats.pxi) or by Welford's method (welford.pxi).

# ---------------------------------------------------------------- rows that do not count

ctypedef fused cleared_t:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    int64_t
    double


cdef void zero_nulls(const cleared_t* x, const uint8_t* valid, int64_t n, cleared_t* out) noexcept nogil:
    """A copy in which nulls are 0: they add nothing to a sum or a sum of squares."""
    # masks, not a choice: gcc reads what a choice does not take only where a vector of it can be masked
    cdef int64_t i
    for i in range(n):
        if cleared_t is double:
            out[i] = hensa_double(hensa_bits(x[i]) & (<uint64_t> 0 - <uint64_t> valid[i]))
        else:
            out[i] = x[i] & <cleared_t> (<cleared_t> 0 - <cleared_t> valid[i])


cdef void zero_pairs(const uint64_t* x, const uint8_t* valid, int64_t n, uint64_t* out) noexcept nogil:
    cdef int64_t i
    cdef uint64_t mask
    for i in range(n):
        mask = <uint64_t> 0 - <uint64_t> valid[i]
        out[2 * i] = x[2 * i] & mask
        out[2 * i + 1] = x[2 * i + 1] & mask


cdef const void* without_nulls(int kind, const void* x, const uint8_t* valid, int64_t n,
                               void* scratch) noexcept nogil:
    cdef int width = WIDTH[kind]
    if width <= 1:
        zero_nulls[uint8_t](<const uint8_t*> x, valid, n, <uint8_t*> scratch)
    elif width == 2:
        zero_nulls[uint16_t](<const uint16_t*> x, valid, n, <uint16_t*> scratch)
    elif width == 4:
        zero_nulls[uint32_t](<const uint32_t*> x, valid, n, <uint32_t*> scratch)
    elif width == 8:
        zero_nulls[uint64_t](<const uint64_t*> x, valid, n, <uint64_t*> scratch)
    else:
        zero_pairs(<const uint64_t*> x, valid, n, <uint64_t*> scratch)
    return scratch


cdef void fill_nulls(const double* x, const uint8_t* valid, int64_t n, double fill, double* out) noexcept nogil:
    cdef int64_t i
    cdef uint64_t mask, bits = hensa_bits(fill)
    for i in range(n):
        mask = <uint64_t> 0 - <uint64_t> valid[i]
        out[i] = hensa_double((hensa_bits(x[i]) & mask) | (bits & ~mask))


# ---------------------------------------------------------------- the pass

cdef struct Scratch:
    double window[2 * BLOCK]        # values copied together; decimal128 takes two words
    double clean[2 * BLOCK]         # the same without nulls, or as doubles
    uint8_t valid[BLOCK]
    uint64_t words[WINDOW_WORDS]
    uint64_t true_words[BLOCK_WORDS]


cdef enum:
    INTEGERS, WELFORD, SUPER        # how a measure is added up


cdef bint moments_block(const View* view, int method, int64_t row, int64_t n, bint masked, const uint64_t* words,
                        Exact* exact, Welford* state, SuperPair* supers, Scratch* scratch) noexcept nogil:
    """Adds one block of one column to its totals; False if its state would not be finite."""
    cdef const void* x
    cdef const double* values
    cdef Welford block
    cdef int64_t ones, first = 0, fills = 0
    if view.kind == BOOL and method == INTEGERS:
        if masked:
            memcpy(scratch.true_words, words, sizeof(scratch.true_words))
        else:
            all_ones(n, scratch.true_words)
        ones = rows_that_are_true(view, row, n, scratch.true_words)
        add(exact.sum, SUM_LIMBS, <uint64_t> ones, 0)
        add(exact.squares, SQUARES_LIMBS, <uint64_t> ones, 0)
        return True
    x = window(view, row, n, scratch.window)
    if masked:
        bytes_of(words, n, scratch.valid)
    if method == INTEGERS:
        if masked:
            x = without_nulls(view.kind, x, scratch.valid, n, scratch.clean)
        exact_block(view.kind, x, n, exact)
        return True
    if method == SUPER:
        if masked:
            x = without_nulls(view.kind, x, scratch.valid, n, scratch.clean + BLOCK)
        return exact_floats(view.kind, x, n, supers, scratch.clean, scratch.window + BLOCK)
    values = as_doubles(view.kind, x, n, scratch.clean)
    if masked:
        while first < n and not scratch.valid[first]:
            first += 1
        if first == n:
            return True
        # rows before the first that counts are no part of the block
        values += first
        n -= first
        fills = n - count_ones(words, (first + n + 63) >> 6)
        fill_nulls(values, scratch.valid + first, n, values[0], scratch.clean)
        values = scratch.clean
    block = welford_block(values, n, fills)
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


def moments(list columns, bytes method, int64_t start, int64_t stop):
    """The moments of some measures over the rows [start, stop).

    Parameters
    ----------
    columns : list of Column
        The measures, and further columns; a row that is null in any column is left out.
    method : bytes
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
    cdef Py_ssize_t n = len(method), n_columns = len(columns), bad_measure = 0, i
    cdef View** views = views_of(columns)
    cdef Exact* exact = <Exact*> calloc(n + 1, sizeof(Exact))
    cdef Welford* states = <Welford*> calloc(n + 1, sizeof(Welford))
    cdef SuperPair* supers = NULL
    cdef Scratch* scratch = <Scratch*> hensa_allocate(sizeof(Scratch))
    cdef int64_t count
    cdef const uint8_t* ways = method
    cdef Welford* w
    try:
        if SUPER in method:
            supers = <SuperPair*> calloc(n, sizeof(SuperPair))
        if exact == NULL or states == NULL or scratch == NULL or (supers == NULL and SUPER in method):
            raise MemoryError
        with nogil:
            count = moments_pass(views, n, views, n_columns, ways, start, stop,
                                 exact, states, supers, scratch, &bad_measure)
        if count < 0:
            raise ArithmeticError(bad_measure, -1 - count)
        results = []
        for i in range(n):
            if ways[i] == SUPER:
                results.append((super_integer(&supers[i].sum), super_integer(&supers[i].squares)))
            elif ways[i] == WELFORD:
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
        hensa_release(scratch)
