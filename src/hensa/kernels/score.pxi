# Pass 2: rows to scores, steps, rates and rewards.
#
# Each tile of TILE rows goes through a few simple loops over arrays in L1, which the compiler can
# vectorise one by one. The score of a row is this sequence of float64 operations in every build:
#
#     d_i = float(x_i - k_i) - f_i        k_i + f_i = mean_i, k_i an integer (a float64 for floats)
#     t_i = d_i c_i                       c_i = scale w_i / (sum of w) / SD_i, correctly rounded
#     s   = ((centre + t_1) + t_2) + ...
#     m   = (|t_1| + |t_2|) + ...
#     E   = bound (m + |s|) + e_0         docs/exactness.md proves |s - exact score| < E
#
# E is at most e if all |t_i| <= 2^r, and hardly any score is that near to a threshold: so m and E are computed only for
# the rows of tiles in which some |t_i| is larger or some score is.
#
# A row whose s lies within E of a threshold is decided by `decide`, in integers; such rows repeat few
# values, which are kept in a table so that each is decided once.
#
# A stage rule has no score: the tile's `count` is the highest stage that a criterion reaches, and all that follows is
# the same.
#
# Splitting the work into loops that each do one thing is what makes it fast: GCC vectorises all of
# them, at every instruction set, and the arrays between them never leave L1. Stores past the caches are held up by the
# memory, and what is stored after them waits: so a tile is small, and results are stored between loops.

from collections import deque

cdef extern from * nogil:
    """
    /* Arrays that do not overlap others of the same loop: without this no table look-up is vectorised. */
    #if defined(_MSC_VER)
      #define HENSA_APART __restrict
    #else
      #define HENSA_APART restrict
    #endif
    typedef double *HENSA_APART hensa_doubles;
    typedef const double *HENSA_APART hensa_table;
    typedef int64_t *HENSA_APART hensa_longs;
    typedef const int64_t *HENSA_APART hensa_long_table;
    typedef uint64_t *HENSA_APART hensa_words;
    typedef const uint64_t *HENSA_APART hensa_word_table;

    /* Results larger than the caches go past them: an ordinary store reads the line that it overwrites. */
    #if defined(__SSE2__) || defined(_M_X64)
      #include <immintrin.h>
      static inline void hensa_stream(void *to, const void *from, int64_t n_bytes) {
          char *out = (char *) to;
          const char *in = (const char *) from;
          int64_t i, whole = ((uintptr_t) to & 63) ? 0 : n_bytes & ~(int64_t) 63;
          for (i = 0; i < whole; i += 64) {
    #if defined(__AVX__)
              _mm256_stream_si256((__m256i *) (out + i), _mm256_loadu_si256((const __m256i *) (in + i)));
              _mm256_stream_si256((__m256i *) (out + i + 32), _mm256_loadu_si256((const __m256i *) (in + i + 32)));
    #else
              int j;
              for (j = 0; j < 64; j += 16)
                  _mm_stream_si128((__m128i *) (out + i + j), _mm_loadu_si128((const __m128i *) (in + i + j)));
    #endif
          }
          memcpy(out + whole, in + whole, (size_t) (n_bytes - whole));
      }
      static inline void hensa_fence(void) { _mm_sfence(); }
    #else
      static inline void hensa_stream(void *to, const void *from, int64_t n_bytes) {
          memcpy(to, from, (size_t) n_bytes);
      }
      static inline void hensa_fence(void) {}
    #endif
    """
    void hensa_stream(void* to, const void* from_, int64_t n_bytes) noexcept
    void hensa_fence() noexcept
    ctypedef double* hensa_doubles
    ctypedef const double* hensa_table
    ctypedef int64_t* hensa_longs
    ctypedef const int64_t* hensa_long_table
    ctypedef uint64_t* hensa_words
    ctypedef const uint64_t* hensa_word_table

cdef enum:
    TILE = 128                      # rows; the arrays of a tile fit L1 together
    TILE_WORDS = 2                  # validity bits of a tile

# 1.5 * 2^52: for |v| < 2^51 the float64 with bits MAGIC_BITS + v is MAGIC + v. It turns int64 into
# float64 and back by additions, which every instruction set has for vectors.
cdef double MAGIC = 6755399441055744.0
cdef uint64_t MAGIC_BITS = 0x4338000000000000
cdef uint64_t TWO52_BITS = 0x4330000000000000      # of the float64 2^52


# ---------------------------------------------------------------- terms of the score

ctypedef fused narrow_t:
    int8_t
    int16_t
    int32_t
    uint8_t
    uint16_t
    uint32_t
    float
    double


# With lift = 3 * 2^r, t + lift has the exponent of lift if |t| < 2^r, and another, or is negative, if |t| > 2^r (1 + 2^-50)
# or t is a NaN: `beyond` gathers the bits that differ, unless it is NULL.

cdef void add_first(const narrow_t* x, int64_t n, double k, double f, double c, double centre, double lift,
                    double* s, uint64_t* beyond) noexcept nogil:
    # for integers x - k is exact, as both are below 2^52
    cdef int64_t i
    cdef double t
    cdef uint64_t bits = 0, zero = hensa_bits(lift)
    for i in range(n):
        t = ((<double> x[i] - k) - f) * c
        s[i] = centre + t
        if beyond != NULL:
            bits |= hensa_bits(t + lift) ^ zero
    if beyond != NULL:
        beyond[0] |= bits


cdef void add_next(const narrow_t* x, int64_t n, double k, double f, double c, double lift,
                   double* s, uint64_t* beyond) noexcept nogil:
    cdef int64_t i
    cdef double t
    cdef uint64_t bits = 0, zero = hensa_bits(lift)
    for i in range(n):
        t = ((<double> x[i] - k) - f) * c
        s[i] = s[i] + t
        if beyond != NULL:
            bits |= hensa_bits(t + lift) ^ zero
    if beyond != NULL:
        beyond[0] |= bits


cdef void add_sizes(const narrow_t* x, int64_t n, double k, double f, double c, double* m) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        m[i] = m[i] + fabs(((<double> x[i] - k) - f) * c)


cdef void find_beyond(const double* t, int64_t n, double lift, uint64_t* beyond) noexcept nogil:
    cdef int64_t i
    cdef uint64_t bits = 0, zero = hensa_bits(lift)
    for i in range(n):
        bits |= hensa_bits(t[i] + lift) ^ zero
    beyond[0] |= bits


cdef void single_scores(const narrow_t* x, int64_t n, double k, double f, double c, double centre,
                        double* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = centre + ((<double> x[i] - k) - f) * c


# ---------------------------------------------------------------- integers beyond 32 bits, less k

cdef void long_differences(const long_t* x, int64_t n, Int128 k, double* out) noexcept nogil:
    """out = x - k for |k| <= 2^64, rounded once: the difference of what is above 32 bits, times 2^32, and that of the
    lower halves are integers of 34 bits, so only their sum is rounded. A half h < 2^32 is the float64 with bits
    TWO52_BITS + h, less 2^52; the upper half of int64 is read as unsigned, 2^31 more."""
    cdef int64_t i
    cdef uint64_t u
    cdef double low, high, low_zero = 4503599627370496.0 + <double> (k.low & LOW32)
    cdef double high_zero = 4503599627370496.0 + <double> <int64_t> (k.high << 32 | k.low >> 32)
    if long_t is int64_t:
        high_zero += 2147483648.0
    for i in range(n):
        if long_t is int64_t:
            u = <uint64_t> x[i] ^ <uint64_t> 0x8000000000000000
        else:
            u = x[i]
        low = hensa_double((u & LOW32) | TWO52_BITS) - low_zero
        high = hensa_double((u >> 32) | TWO52_BITS) - high_zero
        out[i] = high * 4294967296.0 + low


cdef bint decimal_differences(const uint64_t* x, int64_t n, Int128 k, double* out) noexcept nogil:
    """The same for decimal128; False if some value does not fit int64."""
    cdef int64_t i
    cdef uint64_t spread = 0
    cdef int64_t longs[TILE]
    for i in range(n):
        spread |= x[2 * i + 1] ^ (<uint64_t> 0 - (x[2 * i] >> 63))
        longs[i] = <int64_t> x[2 * i]
    if spread == 0:
        long_differences[int64_t](longs, n, k, out)
    return spread == 0


cdef struct Mean:
    Int128 k                        # integers: floor(mean)
    double k_double                 # the same as float64; floats: the float64 nearest to the mean
    double f                        # mean - k
    bint near                       # |k| <= 2^52, or 2^64 for types beyond 32 bits; of cohorts, x - k is exact in float64


cdef const double* differences(int kind, const void* x, int64_t n, const Mean* mean, double* out) noexcept nogil:
    """x - k, rounded once, for what the loops above do not subtract exactly."""
    cdef int64_t i
    cdef bint done = mean.near and kind in (INT64, UINT64)
    if mean.near and kind == INT64:
        long_differences[int64_t](<const int64_t*> x, n, mean.k, out)
    elif mean.near and kind == UINT64:
        long_differences[uint64_t](<const uint64_t*> x, n, mean.k, out)
    elif mean.near and kind == DECIMAL128:
        done = decimal_differences(<const uint64_t*> x, n, mean.k, out)
    if not done:
        for i in range(n):
            out[i] = difference(integer_at(kind, x, i), mean.k)
    return out


cdef enum:
    FIRST, NEXT, SINGLE, SIZES      # which of the four loops


cdef void add_values(int loop, const narrow_t* x, int64_t n, double k, double f, double c, double centre, double lift,
                     double* out, uint64_t* beyond) noexcept nogil:
    if loop == FIRST:
        add_first(x, n, k, f, c, centre, lift, out, beyond)
    elif loop == NEXT:
        add_next(x, n, k, f, c, lift, out, beyond)
    elif loop == SINGLE:
        single_scores(x, n, k, f, c, centre, out)
    else:
        add_sizes(x, n, k, f, c, out)


cdef void add_measure(int loop, int kind, const void* x, int64_t n, const Mean* mean, double c, double centre,
                      double lift, double* out, uint64_t* beyond, double* scratch) noexcept nogil:
    cdef double k = mean.k_double, f = mean.f
    if kind == FLOAT64:
        add_values[double](loop, <const double*> x, n, k, f, c, centre, lift, out, beyond)
    elif kind == FLOAT32:
        add_values[float](loop, <const float*> x, n, k, f, c, centre, lift, out, beyond)
    elif not mean.near or kind == INT64 or kind == UINT64 or kind == DECIMAL128:
        add_values[double](loop, differences(kind, x, n, mean, scratch), n, 0.0, f, c, centre, lift, out, beyond)
    elif kind == INT8:
        add_values[int8_t](loop, <const int8_t*> x, n, k, f, c, centre, lift, out, beyond)
    elif kind == INT16:
        add_values[int16_t](loop, <const int16_t*> x, n, k, f, c, centre, lift, out, beyond)
    elif kind == INT32:
        add_values[int32_t](loop, <const int32_t*> x, n, k, f, c, centre, lift, out, beyond)
    elif kind == UINT16:
        add_values[uint16_t](loop, <const uint16_t*> x, n, k, f, c, centre, lift, out, beyond)
    elif kind == UINT32:
        add_values[uint32_t](loop, <const uint32_t*> x, n, k, f, c, centre, lift, out, beyond)
    else:
        add_values[uint8_t](loop, <const uint8_t*> x, n, k, f, c, centre, lift, out, beyond)


# ---------------------------------------------------------------- steps

cdef struct Table:
    # What the program says to every row. Of stages only what is looked up by count.
    double centre
    int64_t centre_count            # of the score centre, and that score
    double centre_score
    double lift
    # Thresholds T_1 < ... < T_K; `count` of a row says how many of them its score reaches.
    int64_t n_thresholds
    const double* thresholds
    # The axis of scores is cut into equal buckets, narrower than the gaps between thresholds. Within
    # a bucket, and `margin` beyond it on both sides, lies at most one threshold, `cut` (infinity: none;
    # NaN: several, so that no comparison with it holds); `below` thresholds lie before that.
    const double* cut
    const int64_t* below
    double origin                   # bucket = (score - origin) * per_unit, to the nearest integer
    double per_unit
    double last_bucket
    bint even                       # the cut of bucket b is within 2^-32 widths of its middle, b thresholds below it;
    double middle                   # half a width above the first
    double margin
    double bound
    const double* rate              # rate[count]
    const uint16_t* step            # step[count]
    bint step_below                 # whether there is one below the first threshold
    double unit                     # reward = base * rate[count] * unit + shift, to the nearest integer ...
    double shift
    bint fits                       # ... for |base| <= 2^base_bits
    int base_bits
    const int64_t* numerator_long   # reward = floor((base * numerator[count] + addend) / denominator)
    int64_t addend_long
    int64_t denominator_long
    int64_t cap_long                # 2^63 - 1: none
    bint longs_suffice              # denominator * numerator + addend < 2^62


cdef void find_buckets(hensa_table s, int64_t n, double origin, double per_unit, double last,
                       hensa_longs bucket) noexcept nogil:
    # monotone in s up to a rounding that is far below the margin
    cdef int64_t i
    cdef double b
    for i in range(n):
        b = (s[i] - origin) * per_unit
        b = b if b > 0.0 else 0.0      # also a NaN
        b = b if b < last else last
        bucket[i] = <int64_t> (hensa_bits(b + MAGIC) - MAGIC_BITS)


cdef void look_up(hensa_table table, hensa_long_table index, int64_t n, hensa_doubles out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[index[i]]


cdef void count_thresholds(hensa_table s, hensa_table cut, hensa_long_table below, hensa_long_table bucket,
                           int64_t n, hensa_longs count) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        count[i] = below[bucket[i]] + <int64_t> (s[i] >= cut[i])


cdef int64_t near_cuts(hensa_table s, hensa_table cut, int64_t n, double e) noexcept nogil:
    """How many s may be within their error, at most e, of a threshold; a NaN is near."""
    cdef int64_t i, far = 0
    for i in range(n):
        far += <int64_t> (fabs(s[i] - cut[i]) > e)
    return n - far


cdef int64_t count_evenly(hensa_table s, int64_t n, double middle, double per_unit, double last, double e,
                          hensa_longs count) noexcept nogil:
    """The counts for an even table, and how many s may be near, from the distance to the middle between two thresholds
    alone. e, in widths, has 2^-31 for the places of the thresholds and for rounding. A NaN is not near, but beyond."""
    cdef int64_t i, far = 0
    cdef double place, b, limit = 0.5 - e
    for i in range(n):
        place = (s[i] - middle) * per_unit
        place = place if place > -1.0 else -1.0
        place = place if place < last else last
        b = place + MAGIC
        far += <int64_t> (fabs(place - (b - MAGIC)) < limit)
        count[i] = <int64_t> (hensa_bits(b) - MAGIC_BITS) + 1
    return n - far


cdef void find_errors(hensa_table s, hensa_table m, int64_t n, double bound, double e0, hensa_doubles e) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        e[i] = bound * (m[i] + fabs(s[i])) + e0


cdef int64_t count_near(hensa_table s, hensa_table cut, hensa_table e, int64_t n, double margin) noexcept nogil:
    """How many rows are nearer to their cut than their error, or where that does not say it."""
    cdef int64_t i, far = 0
    for i in range(n):
        far += <int64_t> (fabs(s[i] - cut[i]) > e[i]) & <int64_t> (e[i] < margin)
    return n - far


cdef int64_t list_near(hensa_table s, hensa_table cut, hensa_table e, int64_t n, double margin,
                       hensa_longs near) noexcept nogil:
    cdef int64_t i, found = 0
    for i in range(n):
        near[found] = i
        found += 1 - (<int64_t> (fabs(s[i] - cut[i]) > e[i]) & <int64_t> (e[i] < margin))
    return found


cdef bint place_by_bisection(double s, double e, const Table* table, int64_t* count) noexcept nogil:
    """The count of one row, for any thresholds; False if it may be within its error of one."""
    cdef int64_t low = 0, high = table.n_thresholds, middle
    while low < high:
        middle = (low + high) >> 1
        if table.thresholds[middle] <= s:
            low = middle + 1
        else:
            high = middle
    count[0] = low
    # written so that a NaN is near
    return (low == 0 or s - table.thresholds[low - 1] > e) and \
        (low == table.n_thresholds or table.thresholds[low] - s > e) and s - s == 0


cdef void look_up_steps(const uint16_t* table, hensa_long_table count, int64_t n, uint16_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[count[i]]


# ---------------------------------------------------------------- stages

cdef enum:
    MINIMUMS = 4                    # compared in one loop

cdef struct Minimums:
    # A value x reaches stage[i] if x - k >= at[i], where k is 0 unless that needs integers beyond float64;
    # unused places have the stage 0.
    int64_t criterion
    Mean mean                       # k
    double at[MINIMUMS]
    double stage[MINIMUMS]


cdef void reach(hensa_table x, int64_t n, const Minimums* minimums, hensa_doubles s) noexcept nogil:
    """Raises s to the highest stage that x reaches."""
    cdef int64_t i
    cdef double at0 = minimums.at[0], at1 = minimums.at[1], at2 = minimums.at[2], at3 = minimums.at[3]
    cdef double stage0 = minimums.stage[0], stage1 = minimums.stage[1]
    cdef double stage2 = minimums.stage[2], stage3 = minimums.stage[3]
    cdef double a, b
    for i in range(n):
        a = s[i]
        b = stage0 if x[i] >= at0 else 0.0
        a = b if b > a else a
        b = stage1 if x[i] >= at1 else 0.0
        a = b if b > a else a
        b = stage2 if x[i] >= at2 else 0.0
        a = b if b > a else a
        b = stage3 if x[i] >= at3 else 0.0
        s[i] = b if b > a else a


cdef bint all_finite(hensa_table x, int64_t n) noexcept nogil:
    cdef int64_t i, finite = 0
    for i in range(n):
        finite += <int64_t> (x[i] - x[i] == 0.0)
    return finite == n


cdef void to_counts(hensa_table s, int64_t n, hensa_longs count) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        count[i] = <int64_t> (hensa_bits(s[i] + MAGIC) - MAGIC_BITS)


cdef void to_stages(hensa_long_table count, int64_t n, uint16_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <uint16_t> count[i]


cdef void look_back(hensa_long_table previous, hensa_long_table count, int64_t n, int64_t n_stages,
                    bint* wrong, bint* risen) noexcept nogil:
    """Whether some previous is no stage, and whether some row is on a higher stage than before."""
    cdef int64_t i
    cdef uint64_t signs = 0, rises = 0
    for i in range(n):
        signs |= <uint64_t> previous[i] | <uint64_t> n_stages - <uint64_t> previous[i]
        rises |= <uint64_t> previous[i] - <uint64_t> count[i]
    wrong[0] = signs >> 63
    risen[0] = rises >> 63


cdef void find_bonuses(hensa_long_table previous, hensa_long_table count, int64_t n, hensa_long_table bonus,
                       hensa_longs out) noexcept nogil:
    """The bonuses of the stages after `previous` up to `count`; `bonus` are those up to each stage, and ascend."""
    cdef int64_t i, points
    for i in range(n):
        points = bonus[count[i]] - bonus[previous[i]]
        out[i] = points if points > 0 else 0


cdef bint add_bonuses(hensa_long_table bonus, int64_t n, int64_t cap, hensa_longs reward) noexcept nogil:
    """False when a sum is beyond int64; bonuses are not negative."""
    cdef int64_t i, total, over = 0
    for i in range(n):
        total = <int64_t> (<uint64_t> reward[i] + <uint64_t> bonus[i])
        over |= <int64_t> (total < reward[i])
        reward[i] = total if total < cap else cap
    return over == 0


# ---------------------------------------------------------------- rewards

cdef void to_longs(const value_t* x, int64_t n, int64_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = <int64_t> x[i]


cdef const int64_t* as_longs(int kind, const void* x, int64_t n, int64_t* scratch) noexcept nogil:
    """The base as int64, or NULL when some value does not fit."""
    cdef int64_t i
    cdef uint64_t spread = 0
    cdef const uint64_t* u = <const uint64_t*> x
    if kind == INT64:
        return <const int64_t*> x
    if kind == INT8:
        to_longs[int8_t](<const int8_t*> x, n, scratch)
    elif kind == INT16:
        to_longs[int16_t](<const int16_t*> x, n, scratch)
    elif kind == INT32:
        to_longs[int32_t](<const int32_t*> x, n, scratch)
    elif kind == UINT8 or kind == BOOL:
        to_longs[uint8_t](<const uint8_t*> x, n, scratch)
    elif kind == UINT16:
        to_longs[uint16_t](<const uint16_t*> x, n, scratch)
    elif kind == UINT32:
        to_longs[uint32_t](<const uint32_t*> x, n, scratch)
    elif kind == UINT64:
        for i in range(n):
            spread |= u[i] >> 63
            scratch[i] = <int64_t> u[i]
    else:
        for i in range(n):
            spread |= u[2 * i + 1] ^ (<uint64_t> 0 - (u[2 * i] >> 63))
            scratch[i] = <int64_t> u[2 * i]
    return NULL if spread else scratch


cdef bint rewards_fast(hensa_long_table base, hensa_table rate, int64_t n, const Table* table,
                       hensa_longs out) noexcept nogil:
    """base * rate * unit, rounded, in float64; docs/exactness.md proves it exact. False when some base is too large."""
    cdef int64_t i
    cdef uint64_t spread = 0, limit = <uint64_t> 1 << table.base_bits
    cdef double unit = table.unit, shift = table.shift, points
    for i in range(n):
        spread |= <uint64_t> base[i] + limit
        points = (hensa_double(<uint64_t> base[i] + MAGIC_BITS) - MAGIC) * (rate[i] * unit) + shift
        out[i] = <int64_t> (hensa_bits(points + MAGIC) - MAGIC_BITS)
    return spread >> (table.base_bits + 1) == 0 and table.fits


cdef void cap_rewards(int64_t n, int64_t cap, hensa_longs reward) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        reward[i] = reward[i] if reward[i] < cap else cap


cdef bint reward_long(int64_t base, int64_t numerator, const Table* table, int64_t* out) noexcept nogil:
    """The same for one row in int64: with base = q denominator + r, base * numerator / denominator =
    q numerator + r numerator / denominator. False when it may not fit int64."""
    cdef int64_t den = table.denominator_long, q = base // den, r = base - q * den, whole, part
    if r < 0:                       # C division truncates
        q -= 1
        r += den
    part = r * numerator + table.addend_long
    whole = part // den
    if part - whole * den < 0:
        whole -= 1
    # |whole| < 2^62; so is q numerator if its float64 value, within 2^-51 of it, is below 2^61.9
    if fabs(<double> q * <double> numerator) > 4.0e18:
        return False
    whole += q * numerator
    out[0] = whole if whole < table.cap_long else table.cap_long
    return True


# ---------------------------------------------------------------- rows decided by integers

cdef struct Decided:
    # open addressing over a power of two of places
    int64_t places
    int64_t used
    int n_words
    uint64_t* keys                  # word w of the key at a place is keys[w * places + place]
    int64_t* count                  # -1: empty
    double* score


cdef inline uint64_t mixed(uint64_t hash_, uint64_t word) noexcept nogil:
    # a product of 32 bits, which every instruction set has for vectors; the number is 2^32 / golden ratio
    hash_ ^= word
    return ((hash_ ^ hash_ >> 32) & LOW32) * <uint64_t> 0x9E3779B1


cdef inline int64_t first_place(uint64_t hash_, int64_t places) noexcept nogil:
    return <int64_t> ((hash_ ^ hash_ >> 32) & <uint64_t> (places - 1))


cdef int64_t place_of(const Decided* table, const uint64_t* key, int64_t stride) noexcept nogil:
    """Where a key is, or the empty place where it belongs; the words of the key are `stride` apart."""
    cdef uint64_t hash_ = 0
    cdef int64_t place
    cdef int w
    for w in range(table.n_words):
        hash_ = mixed(hash_, key[w * stride])
    place = first_place(hash_, table.places)
    while table.count[place] >= 0:
        w = 0
        while w < table.n_words and table.keys[w * table.places + place] == key[w * stride]:
            w += 1
        if w == table.n_words:
            break
        place = (place + 1) & (table.places - 1)
    return place


cdef void mix_words(hensa_word_table key, int64_t n, hensa_words hash_) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        hash_[i] = mixed(hash_[i], key[i])


cdef void hash_to_places(int64_t n, int64_t places, hensa_longs hash_) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        hash_[i] = first_place(<uint64_t> hash_[i], places)


cdef void compare_words(hensa_word_table key, hensa_word_table keys, hensa_long_table place, int64_t n,
                        hensa_words differ) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        differ[i] |= key[i] ^ keys[place[i]]


cdef void take_decided(hensa_long_table place, hensa_word_table differ, hensa_long_table counts, hensa_table scores,
                       hensa_table cut, int64_t n, double margin, hensa_longs count, hensa_doubles s,
                       hensa_doubles e) noexcept nogil:
    """Gives the rows that are near a threshold for certain, and equal to one decided, its count and score, and an error
    below 0, with which no row is near."""
    cdef int64_t i
    cdef bint known
    for i in range(n):
        known = <int64_t> (fabs(s[i] - cut[i]) <= e[i]) & <int64_t> (e[i] < margin) & \
            <int64_t> (differ[i] == 0) & <int64_t> (counts[place[i]] >= 0)
        count[i] = counts[place[i]] if known else count[i]
        s[i] = scores[place[i]] if known else s[i]
        e[i] = -1.0 if known else e[i]


cdef int new_decided(Decided* table, int64_t places, int n_words) except -1 nogil:
    cdef int64_t i
    table.places = places
    table.used = 0
    table.n_words = n_words
    table.keys = <uint64_t*> malloc(places * n_words * sizeof(uint64_t))
    table.count = <int64_t*> malloc(places * sizeof(int64_t))
    table.score = <double*> malloc(places * sizeof(double))
    if table.keys == NULL or table.count == NULL or table.score == NULL:
        free_decided(table)
        with gil:
            raise MemoryError
    for i in range(places):
        table.count[i] = -1
    return 0


cdef void free_decided(Decided* table) noexcept nogil:
    free(table.keys)
    free(table.count)
    free(table.score)
    memset(table, 0, sizeof(Decided))


cdef int64_t remember(Decided* table, const uint64_t* key, int64_t stride, int64_t count,
                      double score) except -1 nogil:
    cdef Decided larger
    cdef int64_t i, place
    cdef int w
    if 2 * table.used >= table.places:
        new_decided(&larger, 4 * table.places, table.n_words)
        for i in range(table.places):
            if table.count[i] >= 0:
                remember(&larger, table.keys + i, table.places, table.count[i], table.score[i])
        free_decided(table)
        table[0] = larger
    place = place_of(table, key, stride)
    for w in range(table.n_words):
        table.keys[w * table.places + place] = key[w * stride]
    table.count[place] = count
    table.score[place] = score
    table.used += 1
    return place


cdef class Known:
    """A table of rows decided that outlives a run."""
    cdef Decided decided

    def __cinit__(self, int n_words):
        new_decided(&self.decided, 64, n_words)

    def __dealloc__(self):
        free_decided(&self.decided)


# What makes two rows equal for `decide`, the keys of a whole tile at once: word w of row i is key[w * TILE + i]. Words are
# the values, or, for measures whose SDs are rational multiples of each other, one integer sum of them (hensa.tiers says
# which), unless a value is so large that the sum might be ambiguous. Rows of cohorts have the cohort's code as the last
# word, or, where that fits, the squares of their standard scores and BY_SCORES.

ctypedef fused word_t:
    uint32_t
    uint64_t


cdef void copy_words(const word_t* x, int64_t n, Py_ssize_t stride, uint64_t* key) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        key[i] = x[stride * i]


cdef uint64_t add_multiples(const int64_t* x, int64_t n, uint64_t multiplier, hensa_words key) noexcept nogil:
    """The bits of all sizes."""
    cdef int64_t i
    cdef uint64_t sizes = 0
    for i in range(n):
        key[i] += multiplier * <uint64_t> x[i]
        sizes |= <uint64_t> (x[i] ^ (x[i] >> 63))
    return sizes


# ---------------------------------------------------------------- the pass

cdef class Tables:
    """A `Table`, made by hensa.lookup once for many calls.

    Parameters
    ----------
    constants : dict
        Its numbers and arrays; those of `reward` only where rewards are paid, and those of scores not for stages.
    """
    cdef Table table
    cdef dict constants             # keeps the arrays alive

    def __cinit__(self, dict constants):
        cdef const double[::1] doubles
        cdef const uint16_t[::1] shorts
        cdef const int64_t[::1] longs
        self.constants = constants
        doubles = constants["thresholds"]
        self.table.n_thresholds = doubles.shape[0]
        self.table.thresholds = &doubles[0]
        doubles = constants["rate"]
        self.table.rate = &doubles[0]
        shorts = constants["step"]
        self.table.step = &shorts[0]
        self.table.step_below = constants["step_below"]
        if "cut" in constants:
            self.table.centre = constants["centre"]
            self.table.centre_count = constants["centre_count"]
            self.table.centre_score = constants["centre_score"]
            self.table.lift = constants["lift"]
            self.table.bound = constants["bound"]
            doubles = constants["cut"]
            self.table.cut = &doubles[0]
            longs = constants["below"]
            self.table.below = &longs[0]
            self.table.origin = constants["origin"]
            self.table.per_unit = constants["per_unit"]
            self.table.last_bucket = doubles.shape[0] - 1
            self.table.even = constants["even"]
            self.table.middle = constants["middle"]
            self.table.margin = constants["margin"]
        if "unit" in constants:
            self.table.unit = constants["unit"]
            self.table.shift = constants["shift"]
            self.table.fits = constants["fits"]
            self.table.base_bits = constants["base_bits"]
            longs = constants["numerator_long"]
            self.table.numerator_long = &longs[0]
            self.table.addend_long = constants["addend_long"]
            self.table.denominator_long = constants["denominator_long"]
            self.table.cap_long = constants["cap_long"]
            self.table.longs_suffice = constants["longs_suffice"]


cdef struct Measure:
    Mean mean
    double c
    double single_c
    int64_t slot                    # of its words in keys
    uint64_t multiplier             # of cohorts, the first measure of the same weight
    uint64_t joined                 # not 0: values are added up unless their sizes have one of these bits


cdef struct Tile:
    double window[2 * TILE]         # values copied together; decimal128 takes two words
    double other[TILE]              # differences, then cuts
    int64_t bucket[TILE]            # then rewards
    double single[TILE]
    uint16_t step[TILE]
    double s[TILE]                  # then rates
    double m[TILE]
    double e[TILE]
    int64_t near[TILE]
    int64_t count[TILE]
    int64_t base[TILE]
    int64_t bonus[TILE]
    uint64_t words[TILE_WORDS]
    uint8_t valid[TILE]
    uint64_t known_words[TILE_WORDS]
    uint8_t known[TILE]             # whether the stage before is


cdef struct Output:
    double* score                   # NULL: not asked for
    double* rate
    uint16_t* step
    uint16_t* stage
    int64_t* reward
    uint8_t* validity
    uint8_t* step_validity
    bint stream                     # past the caches


cdef void emit(void* to, const void* values, int64_t n_bytes, bint stream) noexcept nogil:
    if stream:
        hensa_stream(to, values, n_bytes)
    else:
        memcpy(to, values, <size_t> n_bytes)


cdef class Scorer:
    """Scores rows against a population, or puts them on stages; made by hensa.scoring, which computes the constants.

    Parameters
    ----------
    measures : list of Column
        Or the criteria of the stages.
    base : Column or None
        The column that rewards are paid on.
    others : list of Column
        Further columns whose nulls leave a row out.
    tables : Tables
        What the program says, whatever the population.
    constants : dict
        The numbers of the comment at the top of this file: "measures" has the `_Constants` of hensa.judge of
        each measure, of cohorts only `near`; "words" its slot, multiplier and joined; "cohorts" is None or has the
        arrays below. For stages, "stages" has the arrays of `Minimums`, "previous" is a Column or None, and "bonus" the
        bonuses up to each stage.
    decide : callable
        ``decide(row) -> (count, score)`` for a row that float64 cannot decide.
    pay : callable
        ``pay(row, count) -> reward``, bonuses included, for a row whose base or reward is beyond the fast loops.
    """
    cdef list columns               # keeps the views alive
    cdef Tables tables              # keeps the arrays of the table alive
    cdef object decide, pay
    cdef View** views
    cdef View* base
    cdef Py_ssize_t n_measures, n_views
    cdef Table table
    cdef double e                           # E is at most e where |t_i| <= 2^r; for an even table, in widths of a bucket
    cdef bint bounded                       # no |t_i| is beyond 2^r
    cdef Measure* measures
    cdef int n_words
    cdef public bint stopped                # makes runs on all threads end soon, unfinished
    cdef bint integers
    cdef double e0                          # of all rows; of cohorts 0
    cdef const double[::1] cohort_e0
    cdef const int32_t[::1] codes           # None: one population for all rows
    cdef const double[:, :, ::1] cohorts    # of each cohort and measure: k, f, c, single c
    cdef const uint64_t[:, :, ::1] cohort_k # for integers that are not near: k in 128 bits
    cdef const int64_t[:, :, ::1] totals    # of each cohort and measure what moments_by adds up; None: keys are values
    cdef const int64_t[::1] counts          # rows that count, where there are totals
    cdef int64_t ddof
    cdef object idle                        # tables of rows decided that no run uses now, as threads may have no GIL a deque
    cdef Py_ssize_t n_minimums
    cdef Minimums* minimums                 # NULL: rows have scores
    cdef View* previous                     # NULL: no bonuses
    cdef const int64_t[::1] bonus

    def __cinit__(self, list measures, Column base, list others, Tables tables, dict constants, decide, pay):
        self.columns = measures + ([base] if base is not None else []) + others
        self.tables = tables
        self.table = tables.table
        self.decide = decide
        self.pay = pay
        self.idle = deque()
        self.n_measures = len(measures)
        self.n_views = len(self.columns)
        self.views = views_of(self.columns)
        self.base = self.views[self.n_measures] if base is not None else NULL
        if "stages" in constants:
            self.take_stages(constants)
        else:
            self.take_population(constants)

    cdef int take_population(self, dict constants) except -1:
        cdef Py_ssize_t i
        cdef Measure* measure
        cdef dict cohorts = constants["cohorts"]
        self.n_words = constants["n_words"]
        self.integers = constants["integers"]
        self.e = constants["e"]
        self.bounded = constants["bounded"]
        self.e0 = constants["e0"]
        self.codes = self.totals = None         # by itself an attribute is no array and not None either
        if cohorts is not None:
            self.cohort_e0 = cohorts["e0"]
            self.codes = cohorts["codes"]
            self.cohorts = cohorts["numbers"]
            self.cohort_k = cohorts["k"]
            self.totals = cohorts["totals"]
            self.counts = cohorts["counts"]
            self.ddof = cohorts["ddof"]
        self.measures = <Measure*> calloc(self.n_measures + 1, sizeof(Measure))
        if self.measures == NULL:
            raise MemoryError
        for i, found in enumerate(constants["measures"]):
            measure = self.measures + i
            measure.mean.k.low = found.k & 0xFFFFFFFFFFFFFFFF
            measure.mean.k.high = found.k >> 64 & 0xFFFFFFFFFFFFFFFF
            measure.mean.k_double = found.k_double
            measure.mean.f = found.f
            measure.mean.near = found.near
            measure.c = found.c
            measure.single_c = found.single_c
        for i, (slot, multiplier, joined) in enumerate(constants["words"]):
            measure = self.measures + i
            measure.slot = slot
            measure.multiplier = multiplier
            measure.joined = joined
        return 0

    cdef int take_stages(self, dict constants) except -1:
        cdef Py_ssize_t i, j
        cdef Column previous = constants["previous"]
        cdef const int64_t[::1] criterion = constants["stages"]["criterion"]
        cdef const uint64_t[:, ::1] k = constants["stages"]["k"]
        cdef const double[:, ::1] at = constants["stages"]["at"], stage = constants["stages"]["stage"]
        self.n_words = 1
        self.minimums = <Minimums*> calloc(criterion.shape[0], sizeof(Minimums))
        if self.minimums == NULL:
            raise MemoryError
        self.n_minimums = criterion.shape[0]
        for i in range(self.n_minimums):
            self.minimums[i].criterion = criterion[i]
            self.minimums[i].mean.k.low = k[i, 0]
            self.minimums[i].mean.k.high = k[i, 1]
            self.minimums[i].mean.near = constants["stages"]["near"][i]
            for j in range(MINIMUMS):
                self.minimums[i].at[j] = at[i, j]
                self.minimums[i].stage[j] = stage[i, j]
        if previous is not None:
            self.previous = &previous.view
            self.bonus = constants["bonus"]
        return 0

    def __dealloc__(self):
        free(self.minimums)
        free(self.views)
        free(self.measures)

    def run(self, int64_t start, int64_t stop, dict outputs):
        """Scores the rows [start, stop) into buffers.

        Parameters
        ----------
        start, stop : int
            The rows; `start` is a multiple of 128.
        outputs : dict
            Addresses of buffers for all rows: of "score", "rate", "step", "stage" and "reward" those asked for,
            "validity", "step_validity" (0: not asked for), and "singles", a list with one address per measure of a
            score; "stream" says whether to write past the caches.

        Returns
        -------
        tuple of int
            How many rows count, and how many of them are on no step.
        """
        cdef Output out
        cdef Tile* tile = <Tile*> hensa_allocate(sizeof(Tile))
        cdef Known known
        cdef double** singles = <double**> calloc(self.n_measures + 1, sizeof(double*))
        cdef uint64_t* key = <uint64_t*> malloc(self.n_words * (TILE + 1) * sizeof(uint64_t))
        cdef int64_t row = start, n, valid, total = 0, off_table = 0
        cdef Py_ssize_t i
        out.score = <double*> <size_t> outputs.get("score", 0)
        out.rate = <double*> <size_t> outputs.get("rate", 0)
        out.step = <uint16_t*> <size_t> outputs.get("step", 0)
        out.stage = <uint16_t*> <size_t> outputs.get("stage", 0)
        out.reward = <int64_t*> <size_t> outputs.get("reward", 0)
        out.validity = <uint8_t*> <size_t> outputs["validity"]
        out.step_validity = <uint8_t*> <size_t> outputs["step_validity"]
        out.stream = outputs["stream"]
        try:
            if tile == NULL or singles == NULL or key == NULL:
                raise MemoryError
            for i in range(len(outputs["singles"])):
                singles[i] = <double*> <size_t> outputs["singles"][i]
            try:
                known = self.idle.pop()
            except IndexError:
                known = Known(self.n_words)
            with nogil:
                while row < stop and not self.stopped:
                    n = TILE if stop - row > TILE else stop - row
                    valid = self.tile(row, n, tile, &out, singles, &known.decided, key, &off_table)
                    total += valid
                    row += n
                if out.stream:
                    hensa_fence()
            self.idle.append(known)
            return total, off_table
        finally:
            free(singles)
            free(key)
            hensa_release(tile)

    cdef int score_rows(self, int64_t row, int64_t n, Tile* tile, bint masked, const Output* out, double** singles,
                        Decided* decided, uint64_t* key) except -1 nogil:
        """Counts the thresholds that the score of each row reaches."""
        cdef Py_ssize_t j
        cdef const void* x
        cdef double* s = tile.s
        cdef uint64_t beyond = 0
        cdef int64_t near
        for j in range(self.n_measures):
            x = window(self.views[j], row, n, tile.window)
            if self.codes is not None:
                self.add_cohorts(j, x, row, n, tile, singles[j] != NULL)
            else:
                add_measure(FIRST if j == 0 else NEXT, self.views[j].kind, x, n, &self.measures[j].mean,
                            self.measures[j].c, self.table.centre, self.table.lift, s, NULL if self.bounded else &beyond,
                            tile.other)
                if singles[j] != NULL:
                    add_measure(SINGLE, self.views[j].kind, x, n, &self.measures[j].mean, self.measures[j].single_c,
                                self.table.centre, self.table.lift, tile.single, NULL, tile.other)
            if singles[j] != NULL:
                if masked:
                    zero_nulls[double](tile.single, tile.valid, n, tile.single)
                emit(singles[j] + row, tile.single, 8 * n, out.stream)
        if self.codes is not None:
            find_beyond(tile.m, n, self.table.lift, &beyond)
        if self.table.even:
            near = count_evenly(s, n, self.table.middle, self.table.per_unit, self.table.last_bucket, self.e, tile.count)
        else:
            find_buckets(s, n, self.table.origin, self.table.per_unit, self.table.last_bucket, tile.bucket)
            look_up(self.table.cut, tile.bucket, n, tile.other)
            count_thresholds(s, tile.other, self.table.below, tile.bucket, n, tile.count)
            near = near_cuts(s, tile.other, n, self.e)
        if near or beyond >> 52:
            self.settle(row, n, tile, masked, decided, key)
        return 0

    cdef void find_sizes(self, int64_t row, int64_t n, Tile* tile) noexcept nogil:
        """m of all rows; add_cohorts has it already."""
        cdef Py_ssize_t j
        if self.codes is None:
            memset(tile.m, 0, n * sizeof(double))
            for j in range(self.n_measures):
                add_measure(SIZES, self.views[j].kind, window(self.views[j], row, n, tile.window), n,
                            &self.measures[j].mean, self.measures[j].c, 0.0, 0.0, tile.m, NULL, tile.other)

    cdef int64_t tile(self, int64_t row, int64_t n, Tile* tile, const Output* out, double** singles,
                      Decided* decided, uint64_t* key, int64_t* off_table) except -1 nogil:
        cdef int64_t valid = rows_that_count(self.views, self.n_views, row, n, tile.words)
        cdef const void* x
        cdef const int64_t* base
        cdef double* s = tile.s
        cdef double* rate = tile.s
        cdef int64_t* reward = tile.bucket
        cdef bint masked = valid < n, bonuses

        if masked:
            bytes_of(tile.words, n, tile.valid)
        if self.minimums != NULL:
            self.reach_stages(row, n, tile, masked)
        else:
            self.score_rows(row, n, tile, masked, out, singles, decided, key)
        if out.score != NULL:
            if masked:
                zero_nulls[double](s, tile.valid, n, s)
            emit(out.score + row, s, 8 * n, out.stream)
        if out.rate != NULL or out.reward != NULL:
            look_up(self.table.rate, tile.count, n, rate)
        if out.rate != NULL:
            if masked:
                zero_nulls[double](rate, tile.valid, n, rate)
            emit(out.rate + row, rate, 8 * n, out.stream)
        if out.step != NULL:
            look_up_steps(self.table.step, tile.count, n, tile.step)
            if masked:
                zero_nulls[uint16_t](tile.step, tile.valid, n, tile.step)
            emit(out.step + row, tile.step, 2 * n, out.stream)
        if out.stage != NULL:
            to_stages(tile.count, n, tile.step)
            if masked:
                zero_nulls[uint16_t](tile.step, tile.valid, n, tile.step)
            emit(out.stage + row, tile.step, 2 * n, out.stream)
        if out.reward != NULL:
            bonuses = self.previous != NULL and self.bonuses_of(row, n, tile, masked)
            x = window(self.base, row, n, tile.window)
            base = as_longs(self.base.kind, x, n, tile.base)
            if base == NULL or not rewards_fast(base, rate, n, &self.table, reward):
                self.reward_rows(row, n, base, tile, masked, reward)
            elif self.table.cap_long < <int64_t> 0x7FFFFFFFFFFFFFFF:
                cap_rewards(n, self.table.cap_long, reward)
            if bonuses and not add_bonuses(tile.bonus, n, self.table.cap_long, reward):
                self.pay_rows(row, n, tile, masked, reward)
            if masked:
                zero_nulls[int64_t](reward, tile.valid, n, reward)
            emit(out.reward + row, reward, 8 * n, out.stream)
        if out.validity != NULL or out.step_validity != NULL:
            self.write_validity(row, n, tile, masked, out, off_table)
        return valid

    cdef void add_cohorts(self, Py_ssize_t j, const void* x, int64_t row, int64_t n, Tile* tile,
                          bint single) noexcept nogil:
        cdef int kind = self.views[j].kind
        cdef const int32_t* code = &self.codes[row]
        cdef const double* values
        cdef const double* constants = &self.cohorts[0, j, 0]
        if not self.measures[j].mean.near:
            # the constants' own k is 0 for these
            values = differences_by(kind, x, code, n, &self.cohort_k[0, j, 0], 2 * self.n_measures, tile.other)
        else:
            values = as_doubles(kind, x, n, tile.other)
        add_measure_by(FIRST if j == 0 else NEXT, values, code, n, self.codes.shape[0] - row, constants,
                       4 * self.n_measures, self.table.centre, tile.s, tile.m)
        if single:
            add_measure_by(SINGLE, values, code, n, 0, constants, 4 * self.n_measures, self.table.centre, tile.single,
                           NULL)

    cdef void write_validity(self, int64_t row, int64_t n, Tile* tile, bint masked, const Output* out,
                             int64_t* off_table) noexcept nogil:
        cdef int64_t i
        if not masked:
            memset(tile.words, 0xFF, sizeof(tile.words))
        if out.validity != NULL:
            memcpy(out.validity + (row >> 3), tile.words, <size_t> ((n + 7) >> 3))
        if out.step_validity != NULL:
            for i in range(0 if self.table.step_below else n):
                if tile.count[i] == 0 and (tile.words[i >> 6] >> (i & 63)) & 1:
                    tile.words[i >> 6] &= ~(<uint64_t> 1 << (i & 63))
                    off_table[0] += 1
            memcpy(out.step_validity + (row >> 3), tile.words, <size_t> ((n + 7) >> 3))

    cdef int settle(self, int64_t row, int64_t n, Tile* tile, bint masked,
                    Decided* decided, uint64_t* key) except -1 nogil:
        """Gives every row that lies near a threshold its exact count and score."""
        cdef int64_t i, near, place, n_near, stride
        cdef uint64_t* squares = key + self.n_words * TILE
        cdef const uint64_t* own
        cdef bint keyed = False, known = False
        cdef double* s = tile.s
        cdef double* cut = tile.other
        self.find_sizes(row, n, tile)
        find_errors(s, tile.m, n, self.table.bound, self.e0, tile.e)
        if self.codes is not None:
            for i in range(n):
                tile.e[i] += self.cohort_e0[self.codes[row + i]]
        find_buckets(s, n, self.table.origin, self.table.per_unit, self.table.last_bucket, tile.bucket)
        look_up(self.table.cut, tile.bucket, n, cut)
        count_thresholds(s, cut, self.table.below, tile.bucket, n, tile.count)
        if count_near(s, cut, tile.e, n, self.table.margin) == 0:
            return 0
        if self.totals is None:
            keyed = True
            known = self.make_keys(row, n, tile, key)
            if known:
                self.take_known(n, tile, decided, key)
                if count_near(s, cut, tile.e, n, self.table.margin) == 0:
                    return 0
        n_near = list_near(s, cut, tile.e, n, self.table.margin, tile.near)
        for near in range(n_near):
            i = tile.near[near]
            if masked and not tile.valid[i]:
                continue
            # A row that is near its cut for certain need not be placed.
            if not (fabs(s[i] - cut[i]) <= tile.e[i] and tile.e[i] < self.table.margin) and \
                    place_by_bisection(s[i], tile.e[i], &self.table, tile.count + i):
                continue
            if tile.m[i] == 0.0 and self.integers:
                # every measure is at its mean or constant: the score is the centre
                tile.count[i] = self.table.centre_count
                s[i] = self.table.centre_score
                continue
            if not keyed:
                known = self.make_keys(row, n, tile, key)
                keyed = True
            if known:
                own, stride = key + i, TILE
                if self.totals is not None and self.find_squares(row + i, own, squares):
                    own, stride = squares, 1
                place = place_of(decided, own, stride)
                if decided.count[place] < 0:
                    place = self.ask(row + i, decided, own, stride)
                tile.count[i] = decided.count[place]
                s[i] = decided.score[place]
            else:
                with gil:
                    tile.count[i], s[i] = self.decide(row + i)
        return 0

    cdef void take_known(self, int64_t n, Tile* tile, const Decided* decided, const uint64_t* key) noexcept nogil:
        """Settles the rows that are equal to one decided and at the first place of their key in the table."""
        cdef int w
        cdef int64_t* place = tile.near
        cdef uint64_t* differ = <uint64_t*> tile.bucket
        memset(place, 0, n * sizeof(int64_t))
        memset(differ, 0, n * sizeof(uint64_t))
        for w in range(self.n_words):
            mix_words(key + w * TILE, n, <uint64_t*> place)
        hash_to_places(n, decided.places, place)
        for w in range(self.n_words):
            compare_words(key + w * TILE, decided.keys + w * decided.places, place, n, differ)
        take_decided(place, differ, decided.count, decided.score, tile.other, n, self.table.margin, tile.count, tile.s,
                     tile.e)

    cdef bint make_keys(self, int64_t row, int64_t n, Tile* tile, uint64_t* key) noexcept nogil:
        """False if a sum might be ambiguous."""
        cdef Py_ssize_t j
        cdef int64_t i
        cdef int kind
        cdef const void* x
        cdef const int64_t* values
        cdef uint64_t* word
        cdef uint64_t sizes
        cdef bint known = True
        memset(key, 0, self.n_words * TILE * sizeof(uint64_t))
        if self.codes is not None:
            copy_words[uint32_t](<const uint32_t*> &self.codes[row], n, 1, key + (self.n_words - 1) * TILE)
        for j in range(self.n_measures):
            kind = self.views[j].kind
            x = window(self.views[j], row, n, tile.window)
            word = key + self.measures[j].slot * TILE
            if self.measures[j].joined != 0:
                values = as_longs(kind, x, n, tile.base)
                sizes = 0 if values == NULL else add_multiples(values, n, self.measures[j].multiplier, word)
                known = known and values != NULL and sizes & self.measures[j].joined == 0
            elif kind == FLOAT32:
                copy_words[uint32_t](<const uint32_t*> x, n, 1, word)
            elif kind == DECIMAL128:
                copy_words[uint64_t](<const uint64_t*> x, n, 2, word)
                copy_words[uint64_t](<const uint64_t*> x + 1, n, 2, word + TILE)
            elif kind == FLOAT64 or kind == INT64 or kind == UINT64:
                copy_words[uint64_t](<const uint64_t*> x, n, 1, word)
            else:
                add_multiples(as_longs(kind, x, n, tile.base), n, 1, word)
        return known

    cdef bint find_squares(self, int64_t row, const uint64_t* key, uint64_t* squares) noexcept nogil:
        """From the key of values of one row, whose measure j has the words 2j and 2j + 1, one of standard scores; False
        if those do not fit."""
        cdef Py_ssize_t i, j
        cdef int kind
        cdef int32_t code = self.codes[row]
        cdef int64_t count = self.counts[code]
        cdef uint64_t low, high
        for j in range(self.n_measures):
            kind = self.views[j].kind
            low = key[2 * j * TILE]
            high = key[(2 * j + 1) * TILE] if kind == DECIMAL128 else 0 if kind == UINT64 else <uint64_t> 0 - (low >> 63)
            if high != <uint64_t> 0 - (low >> 63) or not deviation_of(
                    <int64_t> low, &self.totals[code, j, 0], self.totals.shape[2], count, squares + 2 * j):
                return False
            # Opposite scores of equal weights leave the sum as it is.
            for i in range(j):
                if squares[2 * i] == 0 - squares[2 * j] and squares[2 * i + 1] == squares[2 * j + 1] and \
                        self.measures[i].multiplier == self.measures[j].multiplier:
                    squares[2 * i] = squares[2 * j] = 0
        for j in range(self.n_measures):
            if not square_of_score(count, self.ddof, squares + 2 * j):
                return False
        squares[2 * self.n_measures] = BY_SCORES
        return True

    cdef int64_t ask(self, int64_t row, Decided* decided, const uint64_t* key, int64_t stride) except -1 nogil:
        with gil:
            count, score = self.decide(row)
            return remember(decided, key, stride, count, score)

    cdef int reward_rows(self, int64_t row, int64_t n, const int64_t* base, Tile* tile, bint masked,
                         int64_t* out) except -1 nogil:
        cdef int64_t i, count
        for i in range(n):
            out[i] = 0
            if masked and not tile.valid[i]:
                continue
            count = tile.count[i]
            if base == NULL or not self.table.longs_suffice or \
                    not reward_long(base[i], self.table.numerator_long[count], &self.table, out + i):
                with gil:
                    out[i] = self.pay(row + i, count)
                tile.bonus[i] = 0
        return 0

    cdef int pay_rows(self, int64_t row, int64_t n, const Tile* tile, bint masked, int64_t* out) except -1 nogil:
        """The rewards of all rows that count, or the error of the first that has none."""
        cdef int64_t i
        for i in range(n):
            if not masked or tile.valid[i]:
                with gil:
                    out[i] = self.pay(row + i, tile.count[i])
        return 0

    cdef int reach_stages(self, int64_t row, int64_t n, Tile* tile, bint masked) except -1 nogil:
        """Counts the stages up to the one that each row reaches."""
        cdef Py_ssize_t i
        cdef int64_t criterion = -1
        cdef int kind = 0
        cdef bint plain = False, was_plain = False
        cdef const Minimums* minimums
        cdef const void* x = NULL
        cdef const double* values = NULL
        memset(tile.s, 0, n * sizeof(double))
        for i in range(self.n_minimums):
            minimums = self.minimums + i
            plain = minimums.mean.k.low == 0 and minimums.mean.k.high == 0
            if minimums.criterion != criterion:
                criterion = minimums.criterion
                kind = self.views[criterion].kind
                x = window(self.views[criterion], row, n, tile.window)
                was_plain = False
            if not plain or not was_plain:
                if plain and kind != INT64 and kind != UINT64 and kind != DECIMAL128:
                    values = as_doubles(kind, x, n, tile.other)
                else:
                    values = differences(kind, x, n, &minimums.mean, tile.other)
                if (kind == FLOAT32 or kind == FLOAT64) and not all_finite(values, n):
                    self.refuse_floats(row, n, values, tile, masked)
            was_plain = plain
            reach(values, n, minimums, tile.s)
        to_counts(tile.s, n, tile.count)
        return 0

    cdef int refuse_floats(self, int64_t row, int64_t n, const double* x, const Tile* tile,
                           bint masked) except -1 nogil:
        """Asks about the rows that are not finite, which is an error."""
        cdef int64_t i
        for i in range(n):
            if x[i] - x[i] != 0.0 and (not masked or tile.valid[i]):
                with gil:
                    self.decide(row + i)
        return 0

    cdef bint bonuses_of(self, int64_t row, int64_t n, Tile* tile, bint masked) except -1 nogil:
        """The bonuses of each row; False when there are none."""
        cdef int64_t i
        cdef bint wrong = False, risen = False
        cdef const void* x = window(self.previous, row, n, tile.window)
        # a uint64 beyond int64 is negative here, and no stage either way
        cdef const int64_t* previous = <const int64_t*> x if self.previous.kind == UINT64 else \
            as_longs(self.previous.kind, x, n, tile.base)
        memset(tile.known_words, 0xFF, sizeof(tile.known_words))
        if rows_that_count(&self.previous, 1, row, n, tile.known_words) < n or masked:
            if masked:
                for i in range(TILE_WORDS):
                    tile.known_words[i] &= tile.words[i]
            bytes_of(tile.known_words, n, tile.known)
            zero_nulls[int64_t](previous, tile.known, n, tile.base)
        elif previous != tile.base:
            memcpy(tile.base, previous, n * sizeof(int64_t))    # they index a table: nobody else may change them
        look_back(tile.base, tile.count, n, self.table.n_thresholds, &wrong, &risen)
        if wrong:
            self.pay_rows(row, n, tile, masked, tile.bonus)      # raises
            risen = False
        if risen:
            find_bonuses(tile.base, tile.count, n, &self.bonus[0], tile.bonus)
        return risen
