# Exact sums of floats: a superaccumulator (Neal 2015, "Fast exact summation using small and large
# superaccumulators"), filled a block at a time by slices (the splitting of Ogita, Rump and Oishi 2005).
#
# With 2^(E-1) <= max |x| < 2^E over a block, every |x| >= 2^(E-28) is a multiple of 2^(E-80). Scaled by
# 2^-E it is the sum of four slices, slice i a multiple of u_i = 2^(-20 i): the first at most 2^20 u_1 in
# size, the others 2^19 u_i, as each is rounded to nearest. Products of two slices are integers below
# 2^41 in their unit, and a block has 2^12 rows: all sums are integers below 2^53 in their unit, so
# float64 adds them exactly, in any order. Smaller values are set aside and go round again with their
# own E; each round takes at least 28 binades, and most blocks need one.

cdef enum:
    SLICE_LANES = 8
    FLOAT_LANES = 16                # with 8, gcc unrolls the short loop over lanes and takes rows instead, transposed
    SUPER_LIMBS = 72                # bits 2^-2368 to 2^2240: squares of float64, 2^-2148 to 2^2048, n < 2^63
    SUPER_OFFSET = 2368             # the first bit is worth 2^-2368: 2 (-1074) - 160 > -2368


cdef struct Super:
    # the positive and the negative parts, so that adding never borrows
    uint64_t plus[SUPER_LIMBS]
    uint64_t minus[SUPER_LIMBS]


cdef struct SuperPair:
    Super sum
    Super squares


cdef void super_add(Super* total, double value, int exponent) noexcept nogil:
    """total += value * 2^exponent, for an integer value below 2^53."""
    cdef uint64_t* limbs
    cdef uint64_t magnitude = <uint64_t> fabs(value), part, carry
    cdef int bit = exponent + SUPER_OFFSET, i = bit >> 6, shift = bit & 63
    if magnitude == 0:
        return
    if value < 0:
        limbs = total.minus
    else:
        limbs = total.plus
    part = magnitude << shift
    limbs[i] += part
    carry = limbs[i] < part
    # what the shift moves into the next limb is below 2^53, so the carry cannot overflow it
    part = (magnitude >> (64 - shift) if shift else 0) + carry
    while part:
        i += 1
        limbs[i] += part
        part = limbs[i] < part


cdef inline void slice_add(double x, double* s, double* q) noexcept nogil:
    """Adds the four slices of |x| < 1 to s, and their products by weight to q."""
    cdef double a = (x + 1.5 * 4294967296.0) - 1.5 * 4294967296.0                     # 2^32 = 2^52 u_1
    cdef double b, c, d
    x = x - a
    b = (x + 1.5 * 4096.0) - 1.5 * 4096.0                                             # 2^12 = 2^52 u_2
    x = x - b
    c = (x + 1.5 * 0.00390625) - 1.5 * 0.00390625                                     # 2^-8 = 2^52 u_3
    d = x - c
    s[0] = s[0] + a
    s[SLICE_LANES] = s[SLICE_LANES] + b
    s[2 * SLICE_LANES] = s[2 * SLICE_LANES] + c
    s[3 * SLICE_LANES] = s[3 * SLICE_LANES] + d
    q[0] = q[0] + a * a
    q[SLICE_LANES] = q[SLICE_LANES] + a * b
    q[2 * SLICE_LANES] = q[2 * SLICE_LANES] + ((a * c + a * c) + b * b)
    q[3 * SLICE_LANES] = q[3 * SLICE_LANES] + (a * d + b * c)
    q[4 * SLICE_LANES] = q[4 * SLICE_LANES] + ((b * d + b * d) + c * c)
    q[5 * SLICE_LANES] = q[5 * SLICE_LANES] + c * d
    q[6 * SLICE_LANES] = q[6 * SLICE_LANES] + d * d


cdef void slice_block(const double* x, int64_t n, double scale, double scale2, double* sums,
                      double* squares) noexcept nogil:
    # the lanes are arrays of this function, so that the compiler knows that they do not overlap x
    cdef double s[4 * SLICE_LANES]
    cdef double q[7 * SLICE_LANES]
    cdef int64_t i, whole = n // SLICE_LANES
    cdef int lane, rest = <int> (n % SLICE_LANES)
    memset(s, 0, sizeof(s))
    memset(q, 0, sizeof(q))
    for i in range(whole):
        for lane in range(SLICE_LANES):
            slice_add(x[SLICE_LANES * i + lane] * scale * scale2, s + lane, q + lane)
    for lane in range(rest):
        slice_add(x[SLICE_LANES * whole + lane] * scale * scale2, s + lane, q + lane)
    add_lanes(s, SLICE_LANES, 4, sums)
    add_lanes(q, SLICE_LANES, 7, squares)


cdef void add_lanes(const double* lanes, int n_lanes, int n, double* out) noexcept nogil:
    cdef int i, lane
    for i in range(n):
        out[i] = 0.0
        for lane in range(n_lanes):
            out[i] += lanes[i * n_lanes + lane]


cdef inline int64_t magnitude_bits(double x) noexcept nogil:
    return <int64_t> (hensa_bits(x) & <uint64_t> 0x7FFFFFFFFFFFFFFF)


cdef uint64_t largest_magnitude(const double* x, int64_t n) noexcept nogil:
    """The bits of the largest |x|; as integers they are ordered like the values, NaN on top."""
    # four maxima, of a quarter of the values each, as each waits for the one before
    cdef int64_t i, quarter = n >> 2, a, b, c, d, top = 0, top_b = 0, top_c = 0, top_d = 0
    for i in range(quarter):
        a = magnitude_bits(x[i])
        b = magnitude_bits(x[quarter + i])
        c = magnitude_bits(x[2 * quarter + i])
        d = magnitude_bits(x[3 * quarter + i])
        top = a if a > top else top
        top_b = b if b > top_b else top_b
        top_c = c if c > top_c else top_c
        top_d = d if d > top_d else top_d
    for i in range(4 * quarter, n):
        a = magnitude_bits(x[i])
        top = a if a > top else top
    top = top_b if top_b > top else top
    top = top_c if top_c > top else top
    return <uint64_t> (top_d if top_d > top else top)


cdef int64_t set_aside(double* x, int64_t n, double limit, double* small) noexcept nogil:
    """Moves 0 < |x| < limit to `small`, leaving zeros; `small` may be `x` if it was copied from there."""
    cdef int64_t i, count = 0
    cdef double value
    for i in range(n):
        value = x[i]
        if fabs(value) < limit and value != 0.0:
            x[i] = 0.0
            small[count] = value
            count += 1
    return count


cdef int64_t count_small(const double* x, int64_t n, double limit) noexcept nogil:
    cdef int64_t i, count = 0
    for i in range(n):
        count += <int64_t> (fabs(x[i]) < limit) & <int64_t> (x[i] != 0.0)
    return count


cdef void add_slices(const double* sums, const double* squares, int slices, int exponent,
                     SuperPair* total) noexcept nogil:
    cdef int i, weight
    for i in range(slices):
        super_add(&total.sum, ldexp(sums[i], 20 * (i + 1)), exponent - 20 * (i + 1))
    for i in range(2 * slices - 1):
        # the weights 3, 5 and 7 stand for two equal products each
        weight = 1 if i & 1 else 0
        super_add(&total.squares, ldexp(squares[i], 20 * (i + 2)), 2 * exponent - 20 * (i + 2) + weight)


cdef bint super_block(const double* x, int64_t n, SuperPair* total, double* work, double* small) noexcept nogil:
    """Adds a block to the totals; False if it holds a NaN or an infinity. `work` and `small` are scratch for
    BLOCK values each; `work` may be `x`."""
    cdef uint64_t top
    cdef int exponent, half
    cdef int64_t left = n
    cdef double limit
    cdef double s[4]
    cdef double q[7]
    while left:
        n = left
        left = 0
        top = largest_magnitude(x, n)
        if top >> 52 == 0x7FF:
            return False
        if top == 0:
            return True
        # 2^(exponent-1) <= max |x| < 2^exponent
        exponent = <int> (top >> 52) - 1022
        if top >> 52 == 0:
            exponent = -1074
            while top:
                exponent += 1
                top >>= 1
        limit = ldexp(1.0, exponent - 28)
        if count_small(x, n, limit):
            if x != work:
                memcpy(work, x, <size_t> n * sizeof(double))
            x = work
            left = set_aside(work, n, limit, small)
        half = exponent // 2
        slice_block(x, n, ldexp(1.0, -half), ldexp(1.0, half - exponent), s, q)
        add_slices(s, q, 4, exponent, total)
        if left:
            memcpy(work, small, <size_t> left * sizeof(double))
            x = work
    return True


# float32: 24 bits, so that with |x| >= 2^(E-37) each is a multiple of 2^(E-60), the sum of three slices.

cdef inline void float_add(double x, double* s, double* q) noexcept nogil:
    """Adds the three slices of |x| < 1, a multiple of 2^-60; the last has at most 2^19 of its units, too."""
    cdef double a = (x + 1.5 * 4294967296.0) - 1.5 * 4294967296.0
    cdef double b, c
    x = x - a
    b = (x + 1.5 * 4096.0) - 1.5 * 4096.0
    c = x - b
    s[0] = s[0] + a
    s[FLOAT_LANES] = s[FLOAT_LANES] + b
    s[2 * FLOAT_LANES] = s[2 * FLOAT_LANES] + c
    q[0] = q[0] + a * a
    q[FLOAT_LANES] = q[FLOAT_LANES] + a * b
    q[2 * FLOAT_LANES] = q[2 * FLOAT_LANES] + ((a * c + a * c) + b * b)
    q[3 * FLOAT_LANES] = q[3 * FLOAT_LANES] + b * c
    q[4 * FLOAT_LANES] = q[4 * FLOAT_LANES] + c * c


cdef void float_slices(const uint32_t* x, int64_t n, double scale, double* sums, double* squares) noexcept nogil:
    cdef double s[3 * FLOAT_LANES]
    cdef double q[5 * FLOAT_LANES]
    cdef int64_t i, whole = n // FLOAT_LANES
    cdef int lane, rest = <int> (n % FLOAT_LANES)
    memset(s, 0, sizeof(s))
    memset(q, 0, sizeof(q))
    for i in range(whole):
        for lane in range(FLOAT_LANES):
            float_add(<double> hensa_float(x[FLOAT_LANES * i + lane]) * scale, s + lane, q + lane)
    for lane in range(rest):
        float_add(<double> hensa_float(x[FLOAT_LANES * whole + lane]) * scale, s + lane, q + lane)
    add_lanes(s, FLOAT_LANES, 3, sums)
    add_lanes(q, FLOAT_LANES, 5, squares)


cdef bint float_block(const uint32_t* x, int64_t n, SuperPair* total) noexcept nogil:
    """Adds a block of float32, as bits. False, and nothing added, if its values are more than 37 binades apart or not
    all finite, or the largest is near the smallest of float32."""
    cdef int64_t i
    cdef int32_t magnitude, less, top = 0, low = 0x7FFFFFFF
    cdef int biased
    cdef double s[3]
    cdef double q[5]
    for i in range(n):
        magnitude = <int32_t> (x[i] & <uint32_t> 0x7FFFFFFF)
        less = (magnitude - 1) & 0x7FFFFFFF         # a zero becomes the largest
        top = magnitude if magnitude > top else top
        low = less if less < low else low
    if top == 0:
        return True
    # 2^(biased - 127) <= max |x| < 2^(biased - 126)
    biased = top >> 23
    if biased == 0xFF or biased <= 36 or (low + 1) >> 23 < biased - 36:
        return False
    float_slices(x, n, ldexp(1.0, 126 - biased), s, q)
    add_slices(s, q, 3, biased - 126, total)
    return True


cdef object super_integer(const Super* total):
    """The total in units of 2^-SUPER_OFFSET."""
    return integer_of(total.plus, SUPER_LIMBS, False) - integer_of(total.minus, SUPER_LIMBS, False)
