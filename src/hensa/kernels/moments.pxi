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

ctypedef fused long_t:
    int64_t
    uint64_t


# Signed integers are read as unsigned ones with the sign bit flipped, u = x + 2^k, so that one loop serves both and
# every product is one of unsigned numbers, which all instruction sets have for vectors:
#     sum of x = sum of u - n 2^k,    sum of x^2 = sum of u^2 - 2^(k+1) sum of u + n 2^(2k).

cdef void add_biased(Exact* total, uint64_t part, int shift, int k) noexcept nogil:
    """Adds part 2^shift of the sum of u; k = 0: u is x."""
    add(total.sum, SUM_LIMBS, part, shift)
    if k:
        subtract(total.squares, SQUARES_LIMBS, part, shift + k + 1)


cdef void remove_bias(Exact* total, int64_t n, int k) noexcept nogil:
    if k:
        subtract(total.sum, SUM_LIMBS, <uint64_t> n, k)
        add(total.squares, SQUARES_LIMBS, <uint64_t> n, 2 * k)


cdef void exact_bytes(const uint8_t* x, int64_t n, int k, Exact* total) noexcept nogil:
    # Two u < 2^8 at a time, as halves of 16 bits, for which vectors have sums of products: sums over a piece are < 2^16
    # in 16-bit lanes, sums of squares over a block < 2^28 in 32-bit lanes
    cdef int64_t i, piece
    cdef uint16_t flip = 0x8080 if k else 0
    cdef uint16_t pair, part
    cdef int16_t l, h
    cdef uint32_t s = 0
    cdef int32_t q = 0
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD, PIECE)
        part = 0
        for i in range(PIECE // 2):
            pair = hensa_short(x + 2 * i) ^ flip
            l = pair & 0xFF
            h = pair >> 8
            part += <uint16_t> l + <uint16_t> h
            q += <int32_t> l * <int32_t> l + <int32_t> h * <int32_t> h
        s += part
        x += PIECE
    add_biased(total, s, 0, k)
    add(total.squares, SQUARES_LIMBS, <uint64_t> q, 0)
    remove_bias(total, n, k)


cdef void exact_shorts(const int16_t* x, int64_t n, bint is_signed, Exact* total) noexcept nogil:
    # Unsigned ones are read as signed here, u = x - 2^15, as vectors have products of signed 16-bit numbers.
    # |u| <= 2^15: |sum| <= 2^27; u = h 2^8 + l with |h| <= 2^7, 0 <= l < 2^8: sums of products < 2^28
    cdef int64_t i, piece, sum_, squares
    cdef int16_t flip = 0 if is_signed else -32768
    cdef int16_t u, l, h
    cdef int32_t s = 0, ll = 0, hl = 0, hh = 0
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD // 2, 2 * PIECE)
        for i in range(PIECE):
            u = x[i] ^ flip
            l = u & 0xFF
            h = u >> 8
            s += <int32_t> u
            ll += <int32_t> l * <int32_t> l
            hl += <int32_t> h * <int32_t> l
            hh += <int32_t> h * <int32_t> h
        x += PIECE
    sum_ = s
    squares = <int64_t> ll + 512 * <int64_t> hl + 65536 * <int64_t> hh
    if not is_signed:
        squares += 65536 * sum_ + n * (<int64_t> 1 << 30)
        sum_ += n * 32768
    add_signed(total.sum, SUM_LIMBS, sum_, 0)
    add(total.squares, SQUARES_LIMBS, <uint64_t> squares, 0)


# Longer integers: pieces of which every u < 2^20, as most are, go through a loop of five instructions a vector; one that
# finds another value leaves the piece to the next loop, for u < 2^32, and that to the last.

cdef struct Lanes:
    Longs sum
    Longs squares                   # of u, or u's lower half, modulo 2^64
    Longs upper                     # the upper halves of these squares; over a block < 2^44
    int64_t n                       # rows


cdef struct UpperLanes:             # of u = h 2^32 + l
    Longs h
    Longs hl
    Longs hl_upper
    Longs hh
    Longs hh_upper


cdef void add_products(Exact* total, Longs products, Longs upper, int shift) noexcept nogil:
    """Adds sums of products to the squares: of the products modulo 2^64 and of their upper halves. What is left without
    the upper halves is below 2^52, so it is known from its value modulo 2^64."""
    cdef uint64_t high = hensa_sum(upper)
    add(total.squares, SQUARES_LIMBS, hensa_sum(products) - (high << 32), shift)
    add(total.squares, SQUARES_LIMBS, high, shift + 32)


cdef void add_small(Exact* total, const Lanes* lanes, int k) noexcept nogil:
    add_biased(total, hensa_sum(lanes.sum), 0, k)
    add_products(total, lanes.squares, lanes.upper, 0)
    remove_bias(total, lanes.n, k)


cdef bint small_words(const uint32_t* x, bint is_signed, Lanes* lanes) noexcept nogil:
    """One piece, if every 0 <= u < 2^20, u = x + 2^19 if x is signed; two words to a lane."""
    # The sign bits are flipped before 2^31 - 2^19 is taken off, so that only what is too small borrows from its
    # neighbour, and is then seen. Sums over a piece are < 2^28 in 32-bit halves, those of squares over a block < 2^52.
    cdef int64_t i
    cdef Longs flip = hensa_all(<uint64_t> 0x8000000080000000 if is_signed else 0)
    cdef Longs less = hensa_all(<uint64_t> 0x7FF800007FF80000 if is_signed else 0)
    cdef Longs u, h, s = hensa_all(0), q = hensa_all(0), spread = hensa_all(0)
    for i in range(PIECE // (2 * WIDE)):
        u = (hensa_load(x + 2 * WIDE * i) ^ flip) - less
        h = u >> 32
        spread |= u
        s += u
        q += hensa_products(u, u)
        q += hensa_products(h, h)
    if hensa_sum((spread & <uint64_t> 0xFFF00000FFF00000) >> 20):
        return False
    lanes.sum += (s & LOW32) + (s >> 32)
    lanes.squares += q
    lanes.n += PIECE
    return True


cdef void any_words(const uint32_t* x, bint is_signed, Lanes* lanes) noexcept nogil:
    cdef int64_t i
    cdef Longs flip = hensa_all(<uint64_t> 0x8000000080000000 if is_signed else 0)
    cdef Longs u, h, a, b, s = hensa_all(0), q = hensa_all(0), upper = hensa_all(0)
    for i in range(PIECE // (2 * WIDE)):
        u = hensa_load(x + 2 * WIDE * i) ^ flip
        h = u >> 32
        a = hensa_products(u, u)
        b = hensa_products(h, h)
        s += (u & LOW32) + h
        q += a + b
        upper += (a >> 32) + (b >> 32)
    lanes.sum += s
    lanes.squares += q
    lanes.upper += upper
    lanes.n += PIECE


cdef void exact_words(const uint32_t* x, int64_t n, bint is_signed, Exact* total) noexcept nogil:
    cdef int64_t piece
    cdef Lanes small, whole
    memset(&small, 0, sizeof(Lanes))
    memset(&whole, 0, sizeof(Lanes))
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD // 4, 4 * PIECE)
        if not small_words(x, is_signed, &small):
            any_words(x, is_signed, &whole)
        x += PIECE
    add_small(total, &small, 19 if is_signed else 0)
    add_small(total, &whole, 31 if is_signed else 0)


cdef bint small_longs(const uint64_t* x, bint is_signed, Lanes* lanes) noexcept nogil:
    """One piece, if every 0 <= u < 2^20, u = x + 2^19 if x is signed."""
    cdef int64_t i
    cdef Longs bias = hensa_all(<uint64_t> 1 << 19 if is_signed else 0)
    cdef Longs u, s = hensa_all(0), q = hensa_all(0), spread = hensa_all(0)
    for i in range(PIECE // WIDE):
        u = hensa_load(x + WIDE * i) + bias
        spread |= u
        s += u
        q += hensa_products(u, u)
    if hensa_sum(spread >> 20):
        return False
    lanes.sum += s
    lanes.squares += q
    lanes.n += PIECE
    return True


cdef bint long_words(const uint64_t* x, bint is_signed, Lanes* lanes) noexcept nogil:
    """One piece, if every 0 <= u < 2^32, u = x + 2^31 if x is signed."""
    cdef int64_t i
    cdef Longs bias = hensa_all(<uint64_t> 1 << 31 if is_signed else 0)
    cdef Longs u, square, s = hensa_all(0), q = hensa_all(0), upper = hensa_all(0), spread = hensa_all(0)
    for i in range(PIECE // WIDE):
        u = hensa_load(x + WIDE * i) + bias
        spread |= u
        s += u
        square = hensa_products(u, u)
        q += square
        upper += square >> 32
    if hensa_sum(spread >> 32):
        return False
    lanes.sum += s
    lanes.squares += q
    lanes.upper += upper
    lanes.n += PIECE
    return True


cdef void any_longs(const uint64_t* x, bint is_signed, Lanes* lower, UpperLanes* upper) noexcept nogil:
    """One piece, by u = h 2^32 + l: u^2 = hh 2^64 + 2 hl 2^32 + ll."""
    cdef int64_t i
    cdef Longs flip = hensa_all(<uint64_t> 1 << 63 if is_signed else 0)
    cdef Longs u, h, product, sums = hensa_all(0), sums_h = hensa_all(0)
    cdef Longs ll = hensa_all(0), ll_upper = hensa_all(0), hl = hensa_all(0), hl_upper = hensa_all(0)
    cdef Longs hh = hensa_all(0), hh_upper = hensa_all(0)
    for i in range(PIECE // WIDE):
        u = hensa_load(x + WIDE * i) ^ flip
        h = u >> 32
        sums += u & LOW32
        sums_h += h
        product = hensa_products(u, u)
        ll += product
        ll_upper += product >> 32
        product = hensa_products(h, u)
        hl += product
        hl_upper += product >> 32
        product = hensa_products(h, h)
        hh += product
        hh_upper += product >> 32
    lower.sum += sums
    lower.squares += ll
    lower.upper += ll_upper
    lower.n += PIECE
    upper.h += sums_h
    upper.hl += hl
    upper.hl_upper += hl_upper
    upper.hh += hh
    upper.hh_upper += hh_upper


cdef void exact_longs(const uint64_t* x, int64_t n, bint is_signed, Exact* total) noexcept nogil:
    cdef int64_t piece
    cdef Lanes small, words, whole
    cdef UpperLanes upper
    memset(&small, 0, sizeof(Lanes))
    memset(&words, 0, sizeof(Lanes))
    memset(&whole, 0, sizeof(Lanes))
    memset(&upper, 0, sizeof(UpperLanes))
    for piece in range(n // PIECE):
        hensa_prefetch(x + AHEAD // 8, 8 * PIECE)
        if not (small_longs(x, is_signed, &small) or long_words(x, is_signed, &words)):
            any_longs(x, is_signed, &whole, &upper)
        x += PIECE
    add_small(total, &small, 19 if is_signed else 0)
    add_small(total, &words, 31 if is_signed else 0)
    if whole.n:
        add_small(total, &whole, 63 if is_signed else 0)
        add_biased(total, hensa_sum(upper.h), 32, 63 if is_signed else 0)
        add_products(total, upper.hl, upper.hl_upper, 33)
        add_products(total, upper.hh, upper.hh_upper, 64)


cdef enum:
    DIGITS = 5                      # of decimal128, 26 bits each
    DIGIT_ROWS = 512                # sums of five products of two digits are < 5 2^52 2^9 < 2^64


cdef void decimal_digits(const uint64_t* x, int64_t n, uint32_t* digits, uint64_t* sums) noexcept nogil:
    """Digit a of u = x + 2^127 in row i is digits[DIGIT_ROWS a + i]; sums are those of the digits."""
    # 32 bits wide: vectors multiply digits of 64 bits by three products of 32
    cdef int64_t i
    cdef uint64_t low, high, a, b, c, d, e
    cdef uint64_t sum_a = 0, sum_b = 0, sum_c = 0, sum_d = 0, sum_e = 0
    for i in range(n):
        low = x[2 * i]
        high = x[2 * i + 1] ^ <uint64_t> 0x8000000000000000
        a = low & LOW26
        b = low >> 26 & LOW26
        c = (low >> 52 | high << 12) & LOW26
        d = high >> 14 & LOW26
        e = high >> 40
        digits[i] = <uint32_t> a
        digits[DIGIT_ROWS + i] = <uint32_t> b
        digits[2 * DIGIT_ROWS + i] = <uint32_t> c
        digits[3 * DIGIT_ROWS + i] = <uint32_t> d
        digits[4 * DIGIT_ROWS + i] = <uint32_t> e
        sum_a += a
        sum_b += b
        sum_c += c
        sum_d += d
        sum_e += e
    sums[0] = sum_a
    sums[1] = sum_b
    sums[2] = sum_c
    sums[3] = sum_d
    sums[4] = sum_e


cdef void digit_squares(const uint32_t* digits, int64_t n, Exact* total) noexcept nogil:
    """Adds the squares: with digits a, b, c, d, e, low first, the products at each place; those at odd places
    come twice."""
    cdef int64_t i
    cdef uint64_t a, b, c, d, e
    cdef uint64_t q0 = 0, q1 = 0, q2 = 0, q3 = 0, q4 = 0, q5 = 0, q6 = 0, q7 = 0, q8 = 0
    for i in range(n):
        a = digits[i]
        b = digits[DIGIT_ROWS + i]
        c = digits[2 * DIGIT_ROWS + i]
        d = digits[3 * DIGIT_ROWS + i]
        e = digits[4 * DIGIT_ROWS + i]
        q0 += a * a
        q1 += a * b
        q2 += 2 * (a * c) + b * b
        q3 += a * d + b * c
        q4 += 2 * (a * e + b * d) + c * c
        q5 += b * e + c * d
        q6 += 2 * (c * e) + d * d
        q7 += d * e
        q8 += e * e
    add(total.squares, SQUARES_LIMBS, q0, 0)
    add(total.squares, SQUARES_LIMBS, q1, 26 + 1)
    add(total.squares, SQUARES_LIMBS, q2, 52)
    add(total.squares, SQUARES_LIMBS, q3, 78 + 1)
    add(total.squares, SQUARES_LIMBS, q4, 104)
    add(total.squares, SQUARES_LIMBS, q5, 130 + 1)
    add(total.squares, SQUARES_LIMBS, q6, 156)
    add(total.squares, SQUARES_LIMBS, q7, 182 + 1)
    add(total.squares, SQUARES_LIMBS, q8, 208)


cdef void exact_decimals(const uint64_t* x, int64_t n, Exact* total) noexcept nogil:
    # decimal128: pairs of 64-bit words, low word first, two's complement. A block that fits int64
    # goes through the loop above.
    cdef int64_t i, here, done = 0
    cdef int a
    cdef uint64_t spread = 0
    cdef uint64_t longs[BLOCK]
    cdef uint32_t digits[DIGITS * DIGIT_ROWS]
    cdef uint64_t sums[DIGITS]
    for i in range(n):
        spread |= x[2 * i + 1] ^ (<uint64_t> 0 - (x[2 * i] >> 63))
        longs[i] = x[2 * i]
    if spread == 0:
        exact_longs(longs, n, True, total)
        return
    while done < n:
        here = DIGIT_ROWS if n - done > DIGIT_ROWS else n - done
        decimal_digits(x + 2 * done, here, digits, sums)
        for a in range(DIGITS):
            add_biased(total, sums[a], 26 * a, 127)
        digit_squares(digits, here, total)
        done += here
    remove_bias(total, n, 127)


cdef void exact_pieces(int kind, const void* x, int64_t n, Exact* total) noexcept nogil:
    if kind == INT8 or kind == UINT8:
        exact_bytes(<const uint8_t*> x, n, 7 if kind == INT8 else 0, total)
    elif kind == INT16 or kind == UINT16:
        exact_shorts(<const int16_t*> x, n, kind == INT16, total)
    elif kind == INT32 or kind == UINT32:
        exact_words(<const uint32_t*> x, n, kind == INT32, total)
    elif kind == INT64 or kind == UINT64:
        exact_longs(<const uint64_t*> x, n, kind == INT64, total)
    else:
        exact_decimals(<const uint64_t*> x, n, total)


cdef void exact_block(int kind, const void* x, int64_t n, Exact* total) noexcept nogil:
    """Adds a block by whole pieces; zeros, which add nothing, fill up the last."""
    cdef int64_t rest = n % PIECE, width = WIDTH[kind]
    cdef uint64_t last[2 * PIECE]
    exact_pieces(kind, x, n - rest, total)
    if rest:
        memset(last, 0, sizeof(last))
        memcpy(last, <const uint8_t*> x + (n - rest) * width, <size_t> (rest * width))
        exact_pieces(kind, last, PIECE, total)


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
