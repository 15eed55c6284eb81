# Columns: windows of rows over Arrow buffers, and the rows of a window that count.
#
# A column is a list of chunks, each a slice of an Arrow buffer at any offset. The loops work on
# windows of consecutive rows; a window within one chunk is read where it lies, a window across
# chunks is first copied together into scratch memory that stays in the L1 cache.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <math.h>

    #if defined(_MSC_VER)
      #include <intrin.h>
      #include <malloc.h>
    #endif

    /* Memory for arrays of a loop, from the start of a cache line on: a vector across two lines costs two accesses. */
    #if defined(_MSC_VER)
      static inline void *hensa_allocate(size_t n_bytes) { return _aligned_malloc(n_bytes, 64); }
      static inline void hensa_release(void *memory) { _aligned_free(memory); }
    #else
      static inline void *hensa_allocate(size_t n_bytes) { return aligned_alloc(64, (n_bytes + 63) & ~(size_t) 63); }
      static inline void hensa_release(void *memory) { free(memory); }
    #endif

    #if defined(_MSC_VER) || (defined(__x86_64__) && !defined(__POPCNT__))
      static inline int hensa_ones(uint64_t w) {
          /* the classic sum of neighbouring bits: no instruction newer than the baseline is needed, and no call */
          w = w - ((w >> 1) & 0x5555555555555555ULL);
          w = (w & 0x3333333333333333ULL) + ((w >> 2) & 0x3333333333333333ULL);
          w = (w + (w >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
          return (int)((w * 0x0101010101010101ULL) >> 56);
      }
    #else
      static inline int hensa_ones(uint64_t w) { return __builtin_popcountll(w); }
    #endif

    /* Asks memory for bytes that are read soon: a core with long latency has too few loads under way by itself. A few
       lines at a time, between the loops over others, so that memory never waits for the loops nor they for it. */
    static inline void hensa_prefetch(const void *from, int64_t n_bytes) {
    #if defined(__GNUC__)
        int64_t i;
        for (i = 0; i < n_bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
    #else
        (void)from;
        (void)n_bytes;
    #endif
    }

    /* The bits of numbers below 16, low first, as masks. */
    #define HENSA_MASK(b) (0 - (uint64_t) ((b) & 1))
    #define HENSA_MASKS(b) {HENSA_MASK(b), HENSA_MASK((b) >> 1), HENSA_MASK((b) >> 2), HENSA_MASK((b) >> 3)}
    static const uint64_t hensa_masks[16][4] = {
        HENSA_MASKS(0), HENSA_MASKS(1), HENSA_MASKS(2), HENSA_MASKS(3), HENSA_MASKS(4), HENSA_MASKS(5),
        HENSA_MASKS(6), HENSA_MASKS(7), HENSA_MASKS(8), HENSA_MASKS(9), HENSA_MASKS(10), HENSA_MASKS(11),
        HENSA_MASKS(12), HENSA_MASKS(13), HENSA_MASKS(14), HENSA_MASKS(15)};

    static inline uint16_t hensa_short(const uint8_t *bytes) { uint16_t w; memcpy(&w, bytes, 2); return w; }
    static inline uint64_t hensa_word(const uint8_t *bytes) { uint64_t w; memcpy(&w, bytes, 8); return w; }
    static inline double hensa_double(uint64_t bits) { double d; memcpy(&d, &bits, 8); return d; }
    static inline float hensa_float(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
    static inline uint64_t hensa_bits(double d) { uint64_t bits; memcpy(&bits, &d, 8); return bits; }
    """
    void* hensa_allocate(size_t n_bytes) noexcept
    void hensa_release(void* memory) noexcept
    int hensa_ones(uint64_t word) noexcept
    void hensa_prefetch(const void* from_, int64_t n_bytes) noexcept
    const uint64_t hensa_masks[16][4]
    uint16_t hensa_short(const uint8_t* bytes) noexcept
    uint64_t hensa_word(const uint8_t* bytes) noexcept
    double hensa_double(uint64_t bits) noexcept
    float hensa_float(uint32_t bits) noexcept
    uint64_t hensa_bits(double d) noexcept
    double fabs(double x) noexcept
    double sqrt(double x) noexcept
    double INFINITY
    double ldexp(double x, int exponent) noexcept
    double frexp(double x, int* exponent) noexcept

# The kinds of column, in the order of hensa.columns.KINDS.
cdef enum:
    INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT32, FLOAT64, BOOL, DECIMAL128

cdef int WIDTH[12]
WIDTH[:] = [1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 0, 16]

cdef struct Chunk:
    int64_t start             # its first row
    const uint8_t* values     # the values buffer, before the offset
    const uint8_t* validity   # the validity bitmap, before the offset; NULL: no nulls
    int64_t offset            # of the slice within its buffers

cdef struct View:
    int kind
    bint has_bitmap           # whether any chunk has nulls
    int64_t length
    Py_ssize_t n_chunks
    Chunk* chunks


cdef class Column:
    """A view of an Arrow column.

    Parameters
    ----------
    kind : int
        Index into ``hensa.columns.KINDS``.
    chunks : list of pyarrow.Array
        Of a type that is read as this kind; they are kept.

    Attributes
    ----------
    has_bitmap : bool
        Whether any chunk has nulls.
    is_aligned : bool
        Whether all values lie on multiples of their size, up to 8 bytes; no others may be read.

    Raises
    ------
    ValueError
        A chunk is not a valid array.
    """
    cdef View view
    cdef list chunks
    cdef readonly bint has_bitmap, is_aligned

    def __cinit__(self, int kind, list chunks):
        cdef Chunk* chunk
        cdef size_t address
        cdef int64_t length
        self.chunks = chunks
        self.is_aligned = True
        self.view.kind = kind
        self.view.chunks = <Chunk*> calloc(len(chunks) + 1, sizeof(Chunk))
        if self.view.chunks == NULL:
            raise MemoryError
        for array in chunks:
            length = len(array)
            if length == 0:
                continue
            chunk = self.view.chunks + self.view.n_chunks
            chunk.offset = array.offset
            if chunk.offset < 0:
                raise ValueError(f"its offset is {chunk.offset}")
            validity, values = array.buffers()
            address = values.address
            chunk.values = <const uint8_t*> address
            if WIDTH[kind] != 0 and address % <size_t> min(WIDTH[kind], 8) != 0:
                self.is_aligned = False
            if validity is not None and array.null_count != 0:
                address = validity.address
                chunk.validity = <const uint8_t*> address
                self.has_bitmap = self.view.has_bitmap = True
            self.view.length += length
            self.view.n_chunks += 1
            chunk[1].start = self.view.length       # of the last chunk, its end

    def __dealloc__(self):
        free(self.view.chunks)


cdef View** views_of(list columns) except NULL:
    """The views of some columns; the caller frees the array and keeps the columns."""
    cdef View** views = <View**> malloc((len(columns) + 1) * sizeof(View*))
    cdef Column column
    if views == NULL:
        raise MemoryError
    for i, column in enumerate(columns):
        views[i] = &column.view
    return views


cdef inline Py_ssize_t chunk_of(const View* view, int64_t row) noexcept nogil:
    """The chunk that holds a row, by bisection."""
    cdef Py_ssize_t low = 0, high = view.n_chunks, middle
    while high - low > 1:
        middle = (low + high) >> 1
        if view.chunks[middle].start <= row:
            low = middle
        else:
            high = middle
    return low


cdef uint64_t bits_at(const uint8_t* bitmap, int64_t bit, int64_t count) noexcept nogil:
    """Up to 64 bits of a bitmap from any bit on; no byte beyond the last of them is read."""
    cdef uint64_t low = 0
    cdef int shift = <int> (bit & 7)
    cdef int64_t n_bytes = (shift + count + 7) >> 3
    bitmap += bit >> 3
    memcpy(&low, bitmap, <size_t> (n_bytes if n_bytes < 8 else 8))
    low >>= shift
    if n_bytes > 8:
        low |= <uint64_t> bitmap[8] << (64 - shift)
    if count < 64:
        low &= (<uint64_t> 1 << count) - 1
    return low


cdef void and_words(const uint8_t* bitmap, int shift, int64_t n_words, uint64_t* words) noexcept nogil:
    """words &= the bits of a bitmap from bit `shift` < 8 on."""
    cdef int64_t i
    if shift == 0:
        for i in range(n_words):
            words[i] &= hensa_word(bitmap + 8 * i)
    else:
        # the 9 bytes in which 64 bits lie, as their first 8 and their last 8
        for i in range(n_words):
            words[i] &= hensa_word(bitmap + 8 * i) >> shift | hensa_word(bitmap + 8 * i + 1) << (8 - shift)


cdef void and_bits(const uint8_t* bitmap, int64_t bit, int64_t first, int64_t count, uint64_t* words) noexcept nogil:
    """Bits [first, first + count) of `words` &= the bits of a bitmap from `bit` on."""
    cdef int64_t n, stop = first + count
    cdef uint64_t word
    while first < stop:
        if first & 63 == 0 and stop - first >= 64:
            n = (stop - first) >> 6
            and_words(bitmap + (bit >> 3), <int> (bit & 7), n, words + (first >> 6))
            n = 64 * n
        else:
            n = 64 - (first & 63)
            if n > stop - first:
                n = stop - first
            word = bits_at(bitmap, bit, n) << (first & 63)
            if n < 64:
                word |= ~(((<uint64_t> 1 << n) - 1) << (first & 63))
            words[first >> 6] &= word
        first += n
        bit += n


cdef void all_ones(int64_t count, uint64_t* words) noexcept nogil:
    memset(words, 0xFF, <size_t> ((count + 63) >> 6) * 8)
    if count & 63:
        words[count >> 6] = (<uint64_t> 1 << (count & 63)) - 1


cdef int64_t count_ones(const uint64_t* words, int64_t n_words) noexcept nogil:
    cdef int64_t i, ones = 0
    for i in range(n_words):
        ones += hensa_ones(words[i])
    return ones


cdef void spread_bits(const uint8_t* bitmap, int64_t n_bytes, uint64_t* out) noexcept nogil:
    """Bits to bytes of 0 and 1, by halving: every bit of a byte moves to the byte of its number."""
    cdef int64_t i
    cdef uint64_t w
    for i in range(n_bytes):
        w = bitmap[i]
        w = (w | w << 28) & <uint64_t> 0x0000000F0000000F
        w = (w | w << 14) & <uint64_t> 0x0003000300030003
        out[i] = (w | w << 7) & <uint64_t> 0x0101010101010101


cdef void bytes_of(const uint64_t* words, int64_t count, uint8_t* out) noexcept nogil:
    """Words of validity to bytes of 0 and 1; `out` has room for a multiple of 64, and lies on a multiple of 8."""
    spread_bits(<const uint8_t*> words, 8 * ((count + 63) >> 6), <uint64_t*> out)


cdef void masks_of(const uint64_t* words, int64_t count, uint64_t* out) noexcept nogil:
    """Words of validity to a mask for each row; `out` has room for a multiple of 4."""
    cdef int64_t i
    for i in range(0, count, 4):
        memcpy(out + i, hensa_masks[words[i >> 6] >> (i & 63) & 15], 4 * sizeof(uint64_t))


cdef void unpack_bits(const uint8_t* bitmap, int64_t bit, int64_t count, uint8_t* out) noexcept nogil:
    """Bits to bytes of 0 and 1."""
    cdef int64_t i, n
    cdef uint64_t word
    cdef uint64_t spread[8]
    for i in range(0, count, 64):
        n = count - i if count - i < 64 else 64
        word = bits_at(bitmap, bit + i, n)
        spread_bits(<const uint8_t*> &word, 8, spread)
        memcpy(out + i, spread, <size_t> n)


cdef inline const void* window(const View* view, int64_t row, int64_t count, void* scratch) noexcept nogil:
    """The values of rows [row, row + count): in place, or copied into `scratch` where chunks meet
    or where booleans are unpacked to bytes."""
    cdef const Chunk* chunk = view.chunks + chunk_of(view, row)
    cdef int width = WIDTH[view.kind]
    if width != 0 and row + count <= chunk[1].start:
        return chunk.values + (chunk.offset + row - chunk.start) * width
    copy_window(width, chunk, row, count, <uint8_t*> scratch)
    return scratch


cdef void copy_window(int width, const Chunk* chunk, int64_t row, int64_t count, uint8_t* out) noexcept nogil:
    cdef int64_t done = 0, here, at
    while done < count:
        here = chunk[1].start - (row + done)
        if here > count - done:
            here = count - done
        at = chunk.offset + row + done - chunk.start
        if width == 0:
            unpack_bits(chunk.values, at, here, out + done)
        else:
            memcpy(out + done * width, chunk.values + at * width, <size_t> (here * width))
        done += here
        chunk += 1


cdef int64_t rows_that_count(View** views, Py_ssize_t n_views, int64_t row, int64_t count,
                             uint64_t* words) noexcept nogil:
    """How many of rows [row, row + count) are null in none of the columns. When that is not all
    of them, `words` holds their bits; otherwise it is left alone or all ones."""
    cdef Py_ssize_t i
    cdef int64_t here, done
    cdef const Chunk* chunk
    cdef bint masked = False
    for i in range(n_views):
        if not views[i].has_bitmap:
            continue
        chunk = views[i].chunks + chunk_of(views[i], row)
        done = 0
        while done < count:
            here = chunk[1].start - (row + done)
            if here > count - done:
                here = count - done
            if chunk.validity != NULL:
                if not masked:
                    masked = True
                    all_ones(count, words)
                and_bits(chunk.validity, chunk.offset + row + done - chunk.start, done, here, words)
            done += here
            chunk += 1
    return count_ones(words, (count + 63) >> 6) if masked else count


cdef int64_t rows_that_are_true(const View* view, int64_t row, int64_t count, uint64_t* words) noexcept nogil:
    """How many of the rows of `words` are true in a column of booleans; `words` then has no others."""
    cdef int64_t here, done = 0
    cdef const Chunk* chunk = view.chunks + chunk_of(view, row)
    while done < count:
        here = chunk[1].start - (row + done)
        if here > count - done:
            here = count - done
        and_bits(chunk.values, chunk.offset + row + done - chunk.start, done, here, words)
        done += here
        chunk += 1
    return count_ones(words, (count + 63) >> 6)


ctypedef fused value_t:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float
    double


# ---------------------------------------------------------------- integers of any kind

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
        while shift < 64 and r.high >> shift:
            shift += 1
        if shift == 64:
            top = r.high | (r.low != 0)
        else:
            top = (r.high << (64 - shift)) | (r.low >> shift) | ((r.low << (64 - shift)) != 0)
        value = ldexp(<double> top, shift)
    return -value if negative else value
