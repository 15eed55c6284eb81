# Exact sums of integers, bool and decimals: (n, sum of x, sum of x^2) of a block of BLOCK = 2^12 rows with the narrowest
# lanes that cannot overflow there; after each block the lanes are added to totals of 192 bits (sums, two's complement)
# and 320 bits (sums of squares). No 128-bit type of any compiler is used: what does not fit 64 bits is split into 32-bit
# halves whose products and sums do.

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
