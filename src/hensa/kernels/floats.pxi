# Exact sums of floats: a superaccumulator (Neal 2015, "Fast exact summation using small and large
# superaccumulators"), filled a block at a time by slices (the splitting of Ogita, Rump and Oishi 2005).
#
# With 2^(E-1) <= max |x| < 2^E over a block, every |x| >= 2^(E-28) is a multiple of 2^(E-80). Scaled by
# 2^-E it is the sum of four slices, slice i a multiple of u_i = 2^(-20 i): the first at most 2^20 u_1 in
# size, the others 2^19 u_i, as each is rounded to nearest. Products of two slices are integers below
# 2^41 in their unit, and a block has 2^12 rows: all sums are integers below 2^53 in their unit, so
# float64 adds them exactly, in any order. Smaller values are set aside and go round again with their
# own E; each round takes at least 28 binades. Most blocks never come here: see the digits below.

cdef enum:
    SLICE_LANES = 8
    SUPER_LIMBS = 72                # bits 2^-2368 to 2^2240: squares of float64, 2^-2148 to 2^2048, n < 2^63
    SUPER_OFFSET = 2368             # the first bit is worth 2^-2368: 2 (-1074) - 160 > -2368


cdef struct Super:
    # the positive and the negative parts, so that adding never borrows
    uint64_t plus[SUPER_LIMBS]
    uint64_t minus[SUPER_LIMBS]


cdef struct SuperPair:
    Super sum
    Super squares
    int window                      # the E of the block before; any is right, and most blocks have the same


cdef void super_add(Super* total, int64_t value, int exponent) noexcept nogil:
    """total += value * 2^exponent, for |value| < 2^63."""
    cdef uint64_t* limbs
    cdef uint64_t magnitude = <uint64_t> (value if value >= 0 else -value), part, carry
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
    # what the shift moves into the next limb is below 2^63, so the carry cannot overflow it
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
        super_add(&total.sum, <int64_t> ldexp(sums[i], 20 * (i + 1)), exponent - 20 * (i + 1))
    for i in range(2 * slices - 1):
        # the weights 3, 5 and 7 stand for two equal products each
        weight = 1 if i & 1 else 0
        super_add(&total.squares, <int64_t> ldexp(squares[i], 20 * (i + 2)), 2 * exponent - 20 * (i + 2) + weight)


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


# Most blocks take a shorter way, by integers. With |x| < 2^E, x = a u_1 + b u_2 + c u_3, units u_i = 2^(E + 1 - 26 i), where
# a is x / u_1 rounded, b / u_2 what is left, and so on: |a|, |b|, |c| <= 2^25. Rounding is by adding 1.5 2^52 + 2^25
# units, after which the low word of the float64 holds the digit + 2^25, ready for products of integers. Sums of
# products over a block are at most 2^62, so they are known from their values modulo 2^64. That x had no larger and
# nothing is left of it in the end is seen afterwards; where not, or for other reasons, slices do what digits did not.
# E is that of the block before, as sums are exact for any. float32 has 24 bits, and two digits do for most blocks.

cdef double DIGIT = 6755399474610176.0          # 1.5 2^52 + 2^25
cdef uint64_t DIGIT_BIAS = 0x2000000            # 2^25


cdef inline int64_t true_sum(Longs biased, uint64_t start, int64_t n) noexcept nogil:
    """The sum of n digits, from that of float64 which hold them; start is the bits of one that holds 0."""
    return <int64_t> (hensa_sum(biased) - <uint64_t> n * start)


cdef inline int64_t true_products(Longs biased, int64_t a, int64_t b, int64_t n) noexcept nogil:
    """The sum of n products of two digits from that of the biased ones, a and b being the sums of the digits:
    (x + B) (y + B) = x y + B x + B y + B^2."""
    return <int64_t> (hensa_sum(biased) - DIGIT_BIAS * (<uint64_t> a + <uint64_t> b + <uint64_t> n * DIGIT_BIAS))


cdef bint double_digits(const double* x, int64_t n, int e, SuperPair* total) noexcept nogil:
    """Adds whole pieces of float64. False, and nothing added, if three digits below 2^e are not all of them."""
    cdef double m1 = ldexp(DIGIT, e - 25), m2 = ldexp(DIGIT, e - 51), m3 = ldexp(DIGIT, e - 77)
    cdef Doubles one = hensa_all_doubles(m1), two = hensa_all_doubles(m2), three = hensa_all_doubles(m3)
    cdef Longs zero = hensa_all(hensa_bits(m1) - DIGIT_BIAS)
    cdef Doubles value, t
    cdef Longs a, b, c
    cdef Longs sa = hensa_all(0), sb = hensa_all(0), sc = hensa_all(0), spread = hensa_all(0), left = hensa_all(0)
    cdef Longs aa = hensa_all(0), ab = hensa_all(0), ac = hensa_all(0)
    cdef Longs bb = hensa_all(0), bc = hensa_all(0), cc = hensa_all(0)
    cdef int64_t i, piece, sum_a, sum_b, sum_c, rows = n
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD // 8, 8 * PIECE)
        for i in range(PIECE // WIDE):
            value = hensa_load_doubles(x + WIDE * i)
            t = value + one
            a = hensa_bits_of(t)
            value = value - (t - one)
            t = value + two
            b = hensa_bits_of(t)
            value = value - (t - two)
            t = value + three
            c = hensa_bits_of(t)
            left |= hensa_bits_of(value - (t - three))
            spread |= a - zero
            sa += a
            sb += b
            sc += c
            aa += hensa_products(a, a)
            ab += hensa_products(a, b)
            ac += hensa_products(a, c)
            bb += hensa_products(b, b)
            bc += hensa_products(b, c)
            cc += hensa_products(c, c)
        x += PIECE
    if hensa_sum(spread >> 26) or hensa_sum(left >> 32) or hensa_sum(left & LOW32):
        return False
    sum_a = true_sum(sa, hensa_bits(m1), rows)
    sum_b = true_sum(sb, hensa_bits(m2), rows)
    sum_c = true_sum(sc, hensa_bits(m3), rows)
    super_add(&total.sum, sum_a, e - 25)
    super_add(&total.sum, sum_b, e - 51)
    super_add(&total.sum, sum_c, e - 77)
    super_add(&total.squares, true_products(aa, sum_a, sum_a, rows), 2 * e - 50)
    super_add(&total.squares, true_products(ab, sum_a, sum_b, rows), 2 * e - 75)
    super_add(&total.squares, true_products(ac, sum_a, sum_c, rows), 2 * e - 101)
    super_add(&total.squares, true_products(bb, sum_b, sum_b, rows), 2 * e - 102)
    super_add(&total.squares, true_products(bc, sum_b, sum_c, rows), 2 * e - 127)
    super_add(&total.squares, true_products(cc, sum_c, sum_c, rows), 2 * e - 154)
    return True


cdef bint float_digits(const uint32_t* x, int64_t n, int e, SuperPair* total) noexcept nogil:
    """The same for float32, as bits, and two digits."""
    cdef double m1 = ldexp(DIGIT, e - 25), m2 = ldexp(DIGIT, e - 51)
    cdef Doubles one = hensa_all_doubles(m1), two = hensa_all_doubles(m2)
    cdef Longs zero = hensa_all(hensa_bits(m1) - DIGIT_BIAS)
    cdef Doubles value, t
    cdef Longs a, b, sa = hensa_all(0), sb = hensa_all(0), spread = hensa_all(0), left = hensa_all(0)
    cdef Longs aa = hensa_all(0), ab = hensa_all(0), bb = hensa_all(0)
    cdef int64_t i, piece, sum_a, sum_b
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD // 4, 4 * PIECE)
        for i in range(PIECE // WIDE):
            value = hensa_load_floats(x + WIDE * i)
            t = value + one
            a = hensa_bits_of(t)
            value = value - (t - one)
            t = value + two
            b = hensa_bits_of(t)
            left |= hensa_bits_of(value - (t - two))
            spread |= a - zero
            sa += a
            sb += b
            aa += hensa_products(a, a)
            ab += hensa_products(a, b)
            bb += hensa_products(b, b)
        x += PIECE
    if hensa_sum(spread >> 26) or hensa_sum(left >> 32) or hensa_sum(left & LOW32):
        return False
    sum_a = true_sum(sa, hensa_bits(m1), n)
    sum_b = true_sum(sb, hensa_bits(m2), n)
    super_add(&total.sum, sum_a, e - 25)
    super_add(&total.sum, sum_b, e - 51)
    super_add(&total.squares, true_products(aa, sum_a, sum_a, n), 2 * e - 50)
    super_add(&total.squares, true_products(ab, sum_a, sum_b, n), 2 * e - 75)
    super_add(&total.squares, true_products(bb, sum_b, sum_b, n), 2 * e - 102)
    return True


cdef bint digits(int kind, const void* x, int64_t n, int e, SuperPair* total) noexcept nogil:
    if kind == FLOAT32:
        return float_digits(<const uint32_t*> x, n, e, total)
    return double_digits(<const double*> x, n, e, total)


cdef bint digits_block(int kind, const void* x, int64_t n, double* work, SuperPair* total) noexcept nogil:
    """Adds whole pieces of floats by digits, if their digits do. `work` is scratch for BLOCK values."""
    cdef uint64_t top
    if digits(kind, x, n, total.window, total):
        return True
    top = largest_magnitude(as_doubles(kind, x, n, work), n)
    # largest digits have a binade to spare, and all units are normal numbers
    if not 100 < <int> (top >> 52) < 1900:
        return False
    total.window = <int> (top >> 52) - 1021
    return digits(kind, x, n, total.window, total)


cdef bint exact_floats(int kind, const void* x, int64_t n, SuperPair* total, double* work,
                       double* small) noexcept nogil:
    """Adds a block to the totals; False if it holds a NaN or an infinity. `work` and `small` are scratch for BLOCK values
    each; `work` may be `x`."""
    cdef int64_t rest = n % PIECE, whole = n - rest
    cdef double last[PIECE]
    cdef const void* end = <const uint8_t*> x + whole * WIDTH[kind]
    if whole and not (digits_block(kind, x, whole, small, total)
                      or super_block(as_doubles(kind, x, whole, work), whole, total, work, small)):
        return False
    if rest:
        memset(last, 0, sizeof(last))
        memcpy(last, end, <size_t> (rest * WIDTH[kind]))
        if not (digits_block(kind, last, PIECE, small, total)
                or super_block(as_doubles(kind, last, PIECE, work), PIECE, total, work, small)):
            return False
    return True


cdef object super_integer(const Super* total):
    """The total in units of 2^-SUPER_OFFSET."""
    return integer_of(total.plus, SUPER_LIMBS, False) - integer_of(total.minus, SUPER_LIMBS, False)
