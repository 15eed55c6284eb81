# Terms of the score: the loops over one measure of a tile; score.pxi says what they compute. First comes what all files of
# pass 2 share.

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
    """
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
