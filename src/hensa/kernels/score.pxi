# Pass 2: rows to scores, steps, rates and rewards.
#
# Each block of TILE rows goes through a few simple loops over arrays in L1, which the compiler can
# vectorise one by one. The score of a row is this sequence of float64 operations in every build:
#
#     d_i = float(x_i - k_i) - f_i        k_i + f_i = mean_i, k_i an integer (a float64 for floats)
#     t_i = d_i c_i                       c_i = scale w_i / (sum of w) / SD_i, correctly rounded
#     s   = ((centre + t_1) + t_2) + ...
#     m   = (|t_1| + |t_2|) + ...
#     E   = bound (m + |s|) + e_0         docs/exactness.md proves |s - exact score| < E
#
# A row whose s lies within E of a threshold is decided by `decide`, in integers; such rows repeat few
# values, which are kept in a table so that each is decided once.

cdef extern from * nogil:
    """
    #include <math.h>
    static inline double hensa_double(uint64_t bits) { double d; memcpy(&d, &bits, 8); return d; }
    static inline uint64_t hensa_bits(double d) { uint64_t bits; memcpy(&bits, &d, 8); return bits; }
    """
    double hensa_double(uint64_t bits) noexcept
    uint64_t hensa_bits(double d) noexcept
    double fabs(double x) noexcept
    double ldexp(double x, int exponent) noexcept

cdef enum:
    TILE = 1024                     # rows; the arrays of a tile fit L1 together
    TILE_WORDS = 16                 # validity bits of a tile

# 1.5 * 2^52: for |v| < 2^51 the float64 with bits MAGIC_BITS + v is MAGIC + v. It turns int64 into
# float64 and back by additions, which every instruction set has for vectors.
cdef double MAGIC = 6755399441055744.0
cdef uint64_t MAGIC_BITS = 0x4338000000000000
cdef uint64_t TWO51 = 1 << 51


# ---------------------------------------------------------------- deviations from the mean

ctypedef fused narrow_t:
    int8_t
    int16_t
    int32_t
    uint8_t
    uint16_t
    uint32_t
    float
    double


cdef void deviations_narrow(const narrow_t* x, int64_t n, double k, double f, double* d) noexcept nogil:
    # x - k is exact for integers, as both are below 2^52
    cdef int64_t i
    for i in range(n):
        d[i] = (<double> x[i] - k) - f


cdef bint deviations_long(const long_t* x, int64_t n, uint64_t k, double f, double* d) noexcept nogil:
    """False, and nothing done, when some |x - k| >= 2^51. As |k| <= 2^62 and x < 2^63, a difference
    that looks small modulo 2^64 is small."""
    cdef int64_t i
    cdef uint64_t spread = 0, top = 0
    for i in range(n):
        spread |= <uint64_t> x[i] - k + TWO51
        if long_t is uint64_t:
            top |= x[i]
    if spread >> 52 or top >> 63:
        return False
    for i in range(n):
        d[i] = (hensa_double(<uint64_t> x[i] - k + MAGIC_BITS) - MAGIC) - f
    return True


cdef struct Int128:
    uint64_t low
    uint64_t high                   # two's complement


cdef inline Int128 integer_at(int kind, const void* x, int64_t i) noexcept nogil:
    """An integer value of any kind."""
    cdef Int128 r
    if kind == DECIMAL128:
        r.low = (<const uint64_t*> x)[2 * i]
        r.high = (<const uint64_t*> x)[2 * i + 1]
        return r
    if kind == INT8:
        r.low = <uint64_t> <int64_t> (<const int8_t*> x)[i]
    elif kind == INT16:
        r.low = <uint64_t> <int64_t> (<const int16_t*> x)[i]
    elif kind == INT32:
        r.low = <uint64_t> <int64_t> (<const int32_t*> x)[i]
    elif kind == INT64:
        r.low = (<const uint64_t*> x)[i]
    elif kind == UINT16:
        r.low = (<const uint16_t*> x)[i]
    elif kind == UINT32:
        r.low = (<const uint32_t*> x)[i]
    elif kind == UINT64:
        r.low = (<const uint64_t*> x)[i]
        r.high = 0
        return r
    else:
        r.low = (<const uint8_t*> x)[i]
    r.high = <uint64_t> 0 - (r.low >> 63)
    return r


cdef double difference(Int128 x, Int128 k) noexcept nogil:
    """The float64 nearest to x - k: the magnitude is below 2^128; its top 64 bits, with the last
    set if any lower bit is, round like the whole."""
    cdef Int128 r
    cdef uint64_t top
    cdef int shift = 0
    cdef double value
    cdef bint negative = <int64_t> x.high < <int64_t> k.high or (x.high == k.high and x.low < k.low)
    if negative:
        r = x
        x = k
        k = r
    r.low = x.low - k.low
    r.high = x.high - k.high - (x.low < k.low)
    if r.high == 0:
        value = <double> r.low
    else:
        while r.high >> shift:
            shift += 1
        if shift == 64:
            top = r.high | (r.low != 0)
        else:
            top = (r.high << (64 - shift)) | (r.low >> shift) | ((r.low << (64 - shift)) != 0)
        value = ldexp(<double> top, shift)
    return -value if negative else value


cdef struct Mean:
    Int128 k                        # integers: floor(mean)
    double k_double                 # the same as float64; floats: the float64 nearest to the mean
    double f                        # mean - k
    bint near                       # |k| is small enough for the fast loops


cdef void deviations(int kind, const void* x, int64_t n, const Mean* mean, double* d) noexcept nogil:
    cdef int64_t i
    cdef bint done = True
    if kind == FLOAT64:
        deviations_narrow[double](<const double*> x, n, mean.k_double, mean.f, d)
    elif kind == FLOAT32:
        deviations_narrow[float](<const float*> x, n, mean.k_double, mean.f, d)
    elif not mean.near:
        done = False
    elif kind == INT8:
        deviations_narrow[int8_t](<const int8_t*> x, n, mean.k_double, mean.f, d)
    elif kind == INT16:
        deviations_narrow[int16_t](<const int16_t*> x, n, mean.k_double, mean.f, d)
    elif kind == INT32:
        deviations_narrow[int32_t](<const int32_t*> x, n, mean.k_double, mean.f, d)
    elif kind == UINT8 or kind == BOOL:
        deviations_narrow[uint8_t](<const uint8_t*> x, n, mean.k_double, mean.f, d)
    elif kind == UINT16:
        deviations_narrow[uint16_t](<const uint16_t*> x, n, mean.k_double, mean.f, d)
    elif kind == UINT32:
        deviations_narrow[uint32_t](<const uint32_t*> x, n, mean.k_double, mean.f, d)
    elif kind == INT64:
        done = deviations_long[int64_t](<const int64_t*> x, n, mean.k.low, mean.f, d)
    elif kind == UINT64:
        done = deviations_long[uint64_t](<const uint64_t*> x, n, mean.k.low, mean.f, d)
    else:
        done = deviations_decimal(<const uint64_t*> x, n, mean, d)
    if not done:
        for i in range(n):
            d[i] = difference(integer_at(kind, x, i), mean.k) - mean.f


cdef bint deviations_decimal(const uint64_t* x, int64_t n, const Mean* mean, double* d) noexcept nogil:
    """decimal128 values that fit int64 take its loop."""
    cdef int64_t i
    cdef uint64_t spread = 0
    cdef int64_t longs[TILE]
    for i in range(n):
        spread |= x[2 * i + 1] ^ (<uint64_t> 0 - (x[2 * i] >> 63))
        longs[i] = <int64_t> x[2 * i]
    return spread == 0 and deviations_long[int64_t](longs, n, mean.k.low, mean.f, d)


# ---------------------------------------------------------------- score and step

cdef void add_first(const double* d, int64_t n, double c, double centre, double* s, double* m) noexcept nogil:
    cdef int64_t i
    cdef double t
    for i in range(n):
        t = d[i] * c
        s[i] = centre + t
        m[i] = fabs(t)


cdef void add_next(const double* d, int64_t n, double c, double* s, double* m) noexcept nogil:
    cdef int64_t i
    cdef double t
    for i in range(n):
        t = d[i] * c
        s[i] = s[i] + t
        m[i] = m[i] + fabs(t)


cdef void single_scores(const double* d, int64_t n, double c, double centre, double* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = centre + d[i] * c


cdef struct Table:
    # Thresholds T_1 <= ... <= T_K; a row has `count` of them at or below its score.
    int64_t n_thresholds
    const double* low               # low[count] = T_count, low[0] = -infinity
    const double* high              # high[count] = T_(count+1), then infinities for the bisection
    const int32_t* first            # of each bucket: how many thresholds lie in buckets before it
    double origin                   # bucket = (score - origin) * buckets_per_unit
    double buckets_per_unit
    double last_bucket
    int rounds                      # of bisection within a bucket: 2^rounds > thresholds in any bucket
    double bound
    double e0
    const double* rate              # rate[count]
    const uint16_t* step            # step[count]
    const double* numerator         # reward = floor((base * numerator[count] + addend) / denominator)
    const int64_t* numerator_long
    double addend
    int64_t addend_long
    double denominator
    int64_t denominator_long
    double cap                      # infinity: none
    int64_t cap_long
    bint fits                       # every number above is exact in float64, and below 2^51 ...
    int base_bits                   # ... as is base * numerator + addend for |base| <= 2^base_bits
    bint longs_suffice              # denominator * numerator + addend < 2^62


cdef void find_steps(const double* s, int64_t n, const Table* table, int32_t* count) noexcept nogil:
    """count = how many thresholds are <= s. The bucket is a monotone function of s, computed in the
    same way for the thresholds, so that only those in the bucket of s are left to compare."""
    cdef int64_t i
    cdef double b
    cdef int32_t half = 1 << table.rounds
    cdef double origin = table.origin, scale = table.buckets_per_unit, last = table.last_bucket
    cdef const int32_t* first = table.first
    cdef const double* high = table.high
    for i in range(n):
        b = (s[i] - origin) * scale
        b = b if b > 0.0 else 0.0      # also a NaN
        b = b if b < last else last
        count[i] = first[<int32_t> b]
    while half > 1:
        half >>= 1
        for i in range(n):
            count[i] += half if s[i] >= high[count[i] + half - 1] else 0


cdef int64_t near_thresholds(const double* s, const double* m, const int32_t* count, int64_t n,
                             const Table* table) noexcept nogil:
    """How many scores are not further than their error bound from a threshold."""
    cdef int64_t i, near = 0
    cdef double e, bound = table.bound, e0 = table.e0
    cdef const double* low = table.low
    cdef const double* high = table.high
    for i in range(n):
        e = bound * (m[i] + fabs(s[i])) + e0
        near += 0 if s[i] - low[count[i]] > e and high[count[i]] - s[i] > e else 1
    return near


cdef void look_up(const double* table, const int32_t* count, int64_t n, double* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[count[i]]


cdef void look_up_steps(const uint16_t* table, const int32_t* count, int64_t n, uint16_t* out) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        out[i] = table[count[i]]


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


cdef bint rewards_fast(const int64_t* base, const int32_t* count, int64_t n, const Table* table,
                       int64_t* out) noexcept nogil:
    """floor((base * numerator + addend) / denominator) in float64, exactly: every product is an
    integer below 2^51, the rounded quotient is off by one at most, and the remainder says which way.
    False, and nothing done, when some base is too large for that."""
    cdef int64_t i
    cdef uint64_t spread = 0, limit = <uint64_t> 1 << table.base_bits
    cdef double product, quotient, rest, add_ = table.addend, den = table.denominator, inverse = 1.0 / den
    cdef double cap = table.cap
    cdef const double* numerator = table.numerator
    for i in range(n):
        spread |= <uint64_t> base[i] + limit
    if spread >> (table.base_bits + 1) or not table.fits:
        return False
    for i in range(n):
        product = (hensa_double(<uint64_t> base[i] + MAGIC_BITS) - MAGIC) * numerator[count[i]] + add_
        quotient = (product * inverse + MAGIC) - MAGIC
        rest = product - quotient * den
        quotient = quotient - (1.0 if rest < 0.0 else 0.0)
        quotient = quotient + (1.0 if rest >= den else 0.0)
        quotient = quotient if quotient < cap else cap
        out[i] = <int64_t> (hensa_bits(quotient + MAGIC) - MAGIC_BITS)
    return True


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
    uint64_t* keys                  # places * n_words
    int32_t* count                  # -1: empty
    double* score


cdef int64_t place_of(const Decided* table, const uint64_t* key) noexcept nogil:
    """Where a key is, or the empty place where it belongs."""
    cdef uint64_t hash_ = 0
    cdef int64_t place
    cdef int w
    for w in range(table.n_words):
        hash_ = (hash_ ^ key[w]) * <uint64_t> 0x9E3779B97F4A7C15    # 2^64 / golden ratio
        hash_ ^= hash_ >> 32
    place = <int64_t> (hash_ & <uint64_t> (table.places - 1))
    while table.count[place] >= 0:
        w = 0
        while w < table.n_words and table.keys[place * table.n_words + w] == key[w]:
            w += 1
        if w == table.n_words:
            break
        place = (place + 1) & (table.places - 1)
    return place


cdef int new_decided(Decided* table, int64_t places, int n_words) except -1 nogil:
    cdef int64_t i
    table.places = places
    table.used = 0
    table.n_words = n_words
    table.keys = <uint64_t*> malloc(places * n_words * sizeof(uint64_t))
    table.count = <int32_t*> malloc(places * sizeof(int32_t))
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


cdef int remember(Decided* table, const uint64_t* key, int32_t count, double score) except -1 nogil:
    cdef Decided larger
    cdef int64_t i, place
    if 2 * table.used >= table.places:
        new_decided(&larger, 4 * table.places, table.n_words)
        for i in range(table.places):
            if table.count[i] >= 0:
                place = place_of(&larger, table.keys + i * table.n_words)
                memcpy(larger.keys + place * table.n_words, table.keys + i * table.n_words,
                       table.n_words * sizeof(uint64_t))
                larger.count[place] = table.count[i]
                larger.score[place] = table.score[i]
                larger.used += 1
        free_decided(table)
        table[0] = larger
    place = place_of(table, key)
    memcpy(table.keys + place * table.n_words, key, table.n_words * sizeof(uint64_t))
    table.count[place] = count
    table.score[place] = score
    table.used += 1
    return 0


# ---------------------------------------------------------------- the pass

cdef struct Tile:
    double window[2 * TILE]         # values copied together; decimal128 takes two words
    double d[TILE]
    double s[TILE]
    double m[TILE]
    int32_t count[TILE]
    double rate[TILE]
    int64_t base[TILE]
    int64_t reward[TILE]
    uint64_t words[TILE_WORDS]
    uint8_t valid[TILE]


cdef struct Output:
    double* score                   # NULL: not asked for
    double* rate
    uint16_t* step
    int64_t* reward
    uint8_t* validity
    uint8_t* step_validity


cdef class Scorer:
    """Scores rows against a population; made by hensa.scoring, which computes the constants.

    Parameters
    ----------
    measures : list of Column
    base : Column or None
        The column that rewards are paid on.
    others : list of Column
        Further columns whose nulls leave a row out.
    constants : dict
        The numbers and arrays of the comment at the top of this file and of `Table`.
    decide : callable
        ``decide(row) -> (count, score)`` for a row that float64 cannot decide.
    pay : callable
        ``pay(row, count) -> reward`` for a row whose base or reward is beyond the fast loops.
    """
    cdef list columns               # keeps the views alive
    cdef dict constants             # keeps the tables alive
    cdef object decide, pay
    cdef View** views
    cdef View* base
    cdef Py_ssize_t n_measures, n_views
    cdef Table table
    cdef double centre
    cdef Mean* means
    cdef const double[::1] c
    cdef const double[::1] single_c
    cdef const int64_t[::1] slot
    cdef const uint64_t[::1] multiplier
    cdef int n_words

    def __cinit__(self, list measures, Column base, list others, dict constants, decide, pay):
        cdef Py_ssize_t i
        cdef const double[::1] doubles
        cdef const int32_t[::1] ints
        cdef const uint16_t[::1] shorts
        cdef const int64_t[::1] longs
        cdef const uint64_t[:, ::1] k
        self.columns = measures + ([base] if base is not None else []) + others
        self.constants = constants
        self.decide = decide
        self.pay = pay
        self.n_measures = len(measures)
        self.n_views = len(self.columns)
        self.views = views_of(self.columns)
        self.base = self.views[self.n_measures] if base is not None else NULL
        self.centre = constants["centre"]
        self.c = constants["c"]
        self.single_c = constants["single_c"]
        self.slot = constants["slot"]
        self.multiplier = constants["multiplier"]
        self.n_words = constants["n_words"]
        self.means = <Mean*> calloc(self.n_measures + 1, sizeof(Mean))
        if self.means == NULL:
            raise MemoryError
        k = constants["k"]
        for i in range(self.n_measures):
            self.means[i].k.low = k[i, 0]
            self.means[i].k.high = k[i, 1]
            self.means[i].k_double = constants["k_double"][i]
            self.means[i].f = constants["f"][i]
            self.means[i].near = constants["near"][i]
        doubles = constants["low"]
        self.table.n_thresholds = doubles.shape[0] - 1
        self.table.low = &doubles[0]
        doubles = constants["high"]
        self.table.high = &doubles[0]
        ints = constants["first"]
        self.table.first = &ints[0]
        self.table.origin = constants["origin"]
        self.table.buckets_per_unit = constants["buckets_per_unit"]
        self.table.last_bucket = ints.shape[0] - 1
        self.table.rounds = constants["rounds"]
        self.table.bound = constants["bound"]
        self.table.e0 = constants["e0"]
        doubles = constants["rate"]
        self.table.rate = &doubles[0]
        shorts = constants["step"]
        self.table.step = &shorts[0]
        if base is not None:
            doubles = constants["numerator"]
            self.table.numerator = &doubles[0]
            longs = constants["numerator_long"]
            self.table.numerator_long = &longs[0]
            self.table.addend = constants["addend"]
            self.table.addend_long = constants["addend_long"]
            self.table.denominator = constants["denominator"]
            self.table.denominator_long = constants["denominator_long"]
            self.table.fits = constants["fits"]
            self.table.cap = constants["cap"]
            self.table.cap_long = constants["cap_long"]
            self.table.base_bits = constants["base_bits"]
            self.table.longs_suffice = constants["longs_suffice"]

    def __dealloc__(self):
        free(self.views)
        free(self.means)

    def run(self, int64_t start, int64_t stop, dict outputs):
        """Scores the rows [start, stop) into buffers.

        Parameters
        ----------
        start, stop : int
            The rows; `start` is a multiple of 1024.
        outputs : dict
            Addresses of buffers for all rows: "score", "rate", "step", "reward", "validity",
            "step_validity" (0: not asked for), and "singles", a list with one address per measure.

        Returns
        -------
        tuple of int
            How many rows count, and how many of them are on no step.
        """
        cdef Output out
        cdef Tile* tile = <Tile*> malloc(sizeof(Tile))
        cdef Decided decided
        cdef double** singles = <double**> calloc(self.n_measures + 1, sizeof(double*))
        cdef uint64_t* key = <uint64_t*> calloc(self.n_words + 1, sizeof(uint64_t))
        cdef int64_t row = start, n, valid, total = 0, off_table = 0
        cdef Py_ssize_t i
        memset(&decided, 0, sizeof(Decided))
        out.score = <double*> <size_t> outputs["score"]
        out.rate = <double*> <size_t> outputs["rate"]
        out.step = <uint16_t*> <size_t> outputs["step"]
        out.reward = <int64_t*> <size_t> outputs["reward"]
        out.validity = <uint8_t*> <size_t> outputs["validity"]
        out.step_validity = <uint8_t*> <size_t> outputs["step_validity"]
        try:
            if tile == NULL or singles == NULL or key == NULL:
                raise MemoryError
            for i in range(self.n_measures):
                singles[i] = <double*> <size_t> outputs["singles"][i]
            new_decided(&decided, 64, self.n_words)
            with nogil:
                while row < stop:
                    n = TILE if stop - row > TILE else stop - row
                    valid = self.tile(row, n, tile, &out, singles, &decided, key, &off_table)
                    total += valid
                    row += n
            return total, off_table
        finally:
            free_decided(&decided)
            free(singles)
            free(key)
            free(tile)

    cdef int64_t tile(self, int64_t row, int64_t n, Tile* tile, const Output* out, double** singles,
                      Decided* decided, uint64_t* key, int64_t* off_table) except -1 nogil:
        cdef int64_t i, valid = rows_that_count(self.views, self.n_views, row, n, tile.words)
        cdef Py_ssize_t j
        cdef const void* x
        cdef const int64_t* base
        cdef double* s = out.score + row if out.score != NULL else tile.s
        cdef double* rate
        cdef int64_t* reward
        cdef bint masked = valid < n

        for j in range(self.n_measures):
            x = window(self.views[j], row, n, tile.window)
            deviations(self.views[j].kind, x, n, self.means + j, tile.d)
            if j == 0:
                add_first(tile.d, n, self.c[0], self.centre, s, tile.m)
            else:
                add_next(tile.d, n, self.c[j], s, tile.m)
            if singles[j] != NULL:
                single_scores(tile.d, n, self.single_c[j], self.centre, singles[j] + row)
        find_steps(s, n, &self.table, tile.count)
        if masked:
            bytes_of(tile.words, n, tile.valid)
        if near_thresholds(s, tile.m, tile.count, n, &self.table):
            self.settle(row, n, s, tile, masked, decided, key)
        if out.rate != NULL:
            rate = out.rate + row
            look_up(self.table.rate, tile.count, n, rate)
            if masked:
                zero_nulls[double](rate, tile.valid, n, rate)
        if out.step != NULL:
            look_up_steps(self.table.step, tile.count, n, out.step + row)
            if masked:
                zero_nulls[uint16_t](out.step + row, tile.valid, n, out.step + row)
        if out.reward != NULL:
            reward = out.reward + row
            x = window(self.base, row, n, tile.window)
            base = as_longs(self.base.kind, x, n, tile.base)
            if base == NULL or not rewards_fast(base, tile.count, n, &self.table, reward):
                self.reward_rows(row, n, base, tile, masked, reward)
            if masked:
                zero_nulls[int64_t](reward, tile.valid, n, reward)
        if masked:
            zero_nulls[double](s, tile.valid, n, s)
            for j in range(self.n_measures):
                if singles[j] != NULL:
                    zero_nulls[double](singles[j] + row, tile.valid, n, singles[j] + row)
        if out.validity != NULL or out.step_validity != NULL:
            self.write_validity(row, n, tile, masked, out, off_table)
        return valid

    cdef void write_validity(self, int64_t row, int64_t n, Tile* tile, bint masked, const Output* out,
                             int64_t* off_table) noexcept nogil:
        cdef int64_t i
        if not masked:
            memset(tile.words, 0xFF, sizeof(tile.words))
        if out.validity != NULL:
            memcpy(out.validity + (row >> 3), tile.words, <size_t> ((n + 7) >> 3))
        if out.step_validity != NULL:
            for i in range(n):
                if tile.count[i] == 0 and (tile.words[i >> 6] >> (i & 63)) & 1:
                    tile.words[i >> 6] &= ~(<uint64_t> 1 << (i & 63))
                    off_table[0] += 1
            memcpy(out.step_validity + (row >> 3), tile.words, <size_t> ((n + 7) >> 3))

    cdef int settle(self, int64_t row, int64_t n, double* s, Tile* tile, bint masked,
                    Decided* decided, uint64_t* key) except -1 nogil:
        """Gives every row that lies near a threshold its exact count and score."""
        cdef int64_t i, place
        cdef double e
        cdef int32_t count
        for i in range(n):
            count = tile.count[i]
            e = self.table.bound * (tile.m[i] + fabs(s[i])) + self.table.e0
            if (s[i] - self.table.low[count] > e and self.table.high[count] - s[i] > e) or \
                    (masked and not tile.valid[i]):
                continue
            self.make_key(row + i, tile, key)
            place = place_of(decided, key)
            if decided.count[place] < 0:
                self.ask(row + i, decided, key)
                place = place_of(decided, key)
            tile.count[i] = decided.count[place]
            s[i] = decided.score[place]
        return 0

    cdef void make_key(self, int64_t row, Tile* tile, uint64_t* key) noexcept nogil:
        """What makes two rows equal for `decide`: the values, or, for measures whose SDs are rational
        multiples of each other, one integer sum of them (hensa.tiers says which)."""
        cdef Py_ssize_t j
        cdef Int128 value
        cdef const void* x
        cdef uint64_t one[2]
        for j in range(self.n_words):
            key[j] = 0
        for j in range(self.n_measures):
            x = window(self.views[j], row, 1, one)
            if self.views[j].kind == FLOAT64:
                key[self.slot[j]] = (<const uint64_t*> x)[0]
            elif self.views[j].kind == FLOAT32:
                key[self.slot[j]] = (<const uint32_t*> x)[0]
            else:
                value = integer_at(self.views[j].kind, x, 0)
                key[self.slot[j]] += self.multiplier[j] * value.low
                if self.views[j].kind == DECIMAL128:
                    key[self.slot[j] + 1] = value.high

    cdef int ask(self, int64_t row, Decided* decided, const uint64_t* key) except -1 nogil:
        with gil:
            count, score = self.decide(row)
            remember(decided, key, count, score)
        return 0

    cdef int reward_rows(self, int64_t row, int64_t n, const int64_t* base, Tile* tile, bint masked,
                         int64_t* out) except -1 nogil:
        cdef int64_t i
        cdef int32_t count
        for i in range(n):
            out[i] = 0
            if masked and not tile.valid[i]:
                continue
            count = tile.count[i]
            if base == NULL or not self.table.longs_suffice or \
                    not reward_long(base[i], self.table.numerator_long[count], &self.table, out + i):
                with gil:
                    out[i] = self.pay(row + i, count)
        return 0
