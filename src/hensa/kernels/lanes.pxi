# Lanes: the numbers of a vector register side by side. Compilers turn plain loops into vectors, and most loops here are
# plain; but gcc takes three products and shifts for one of 64-bit lanes whose upper halves are not wanted, and moves
# 32-bit numbers apart before it multiplies them. To Cython a vector is one number; a compiler without vector types
# makes it one indeed.

cdef extern from * nogil:
    """
    #if defined(__AVX2__)
      #include <immintrin.h>
    #elif defined(__SSE2__)
      #include <emmintrin.h>
    #endif

    #if defined(__GNUC__)
      #if defined(__AVX2__)
        #define HENSA_WIDTH 4
      #else
        #define HENSA_WIDTH 2
      #endif
      typedef uint64_t hensa_lanes __attribute__((vector_size(8 * HENSA_WIDTH)));
      typedef double hensa_lane_doubles __attribute__((vector_size(8 * HENSA_WIDTH)));
    #else
      #define HENSA_WIDTH 1
      typedef uint64_t hensa_lanes;
      typedef double hensa_lane_doubles;
    #endif

    static inline hensa_lanes hensa_load(const void *from) { hensa_lanes r; memcpy(&r, from, sizeof r); return r; }

    static inline hensa_lanes hensa_all(uint64_t value) { hensa_lanes r = {0}; return r + value; }

    static inline uint64_t hensa_sum(hensa_lanes v) {
        uint64_t lanes[HENSA_WIDTH], sum = 0;
        int i;
        memcpy(lanes, &v, sizeof v);
        for (i = 0; i < HENSA_WIDTH; i++) sum += lanes[i];
        return sum;
    }

    static inline hensa_lane_doubles hensa_load_doubles(const double *from) {
        hensa_lane_doubles r;
        memcpy(&r, from, sizeof r);
        return r;
    }

    static inline hensa_lane_doubles hensa_load_floats(const uint32_t *from) {
    #if defined(__GNUC__) && defined(__AVX2__)
        return (hensa_lane_doubles)_mm256_cvtps_pd(_mm_loadu_ps((const float *)from));
    #else
        double lanes[HENSA_WIDTH];
        float value;
        int i;
        for (i = 0; i < HENSA_WIDTH; i++) {
            memcpy(&value, from + i, sizeof value);
            lanes[i] = (double)value;
        }
        return hensa_load_doubles(lanes);
    #endif
    }

    static inline hensa_lane_doubles hensa_all_doubles(double value) {
        double lanes[HENSA_WIDTH];
        int i;
        for (i = 0; i < HENSA_WIDTH; i++) lanes[i] = value;
        return hensa_load_doubles(lanes);
    }

    static inline hensa_lanes hensa_bits_of(hensa_lane_doubles v) { hensa_lanes r; memcpy(&r, &v, sizeof r); return r; }

    /* the lesser and the greater; `so_far` where x is NaN */
    static inline hensa_lane_doubles hensa_least(hensa_lane_doubles x, hensa_lane_doubles so_far) {
    #if defined(__GNUC__) && defined(__AVX2__)
        return (hensa_lane_doubles)_mm256_min_pd((__m256d)x, (__m256d)so_far);
    #elif defined(__GNUC__) && defined(__SSE2__)
        return (hensa_lane_doubles)_mm_min_pd((__m128d)x, (__m128d)so_far);
    #else
        double a[HENSA_WIDTH], b[HENSA_WIDTH];
        int i;
        memcpy(a, &x, sizeof x);
        memcpy(b, &so_far, sizeof x);
        for (i = 0; i < HENSA_WIDTH; i++) b[i] = a[i] < b[i] ? a[i] : b[i];
        return hensa_load_doubles(b);
    #endif
    }

    static inline hensa_lane_doubles hensa_greatest(hensa_lane_doubles x, hensa_lane_doubles so_far) {
        return -hensa_least(-x, -so_far);
    }

    /* products of the lower halves of the lanes */
    static inline hensa_lanes hensa_products(hensa_lanes a, hensa_lanes b) {
    #if defined(__GNUC__) && defined(__AVX2__)
        return (hensa_lanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
    #elif defined(__GNUC__) && defined(__SSE2__)
        return (hensa_lanes)_mm_mul_epu32((__m128i)a, (__m128i)b);
    #else
        return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
    #endif
    }
    """
    enum:
        WIDE "HENSA_WIDTH"          # lanes of a vector
    ctypedef uint64_t Longs "hensa_lanes"
    ctypedef double Doubles "hensa_lane_doubles"
    Longs hensa_load(const void* from_) noexcept
    Doubles hensa_load_doubles(const double* from_) noexcept
    Doubles hensa_load_floats(const uint32_t* from_) noexcept
    Doubles hensa_all_doubles(double value) noexcept
    Longs hensa_bits_of(Doubles v) noexcept
    Doubles hensa_least(Doubles x, Doubles so_far) noexcept
    Doubles hensa_greatest(Doubles x, Doubles so_far) noexcept
    Longs hensa_all(uint64_t value) noexcept
    Longs hensa_products(Longs a, Longs b) noexcept
    uint64_t hensa_sum(Longs lanes) noexcept
