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
    #include <string.h>
    #include <math.h>

    #if defined(_MSC_VER)
      #include <intrin.h>
      static __inline int hensa_ones(uint64_t w) {
          /* the classic sum of neighbouring bits: no instruction newer than the baseline is needed */
          w = w - ((w >> 1) & 0x5555555555555555ULL);
          w = (w & 0x3333333333333333ULL) + ((w >> 2) & 0x3333333333333333ULL);
          w = (w + (w >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
          return (int)((w * 0x0101010101010101ULL) >> 56);
      }
    #else
      static inline int hensa_ones(uint64_t w) { return __builtin_popcountll(w); }
    #endif

    /* Asks memory for bytes that are read soon: a core with long latency has too few loads under way by itself. */
    static inline void hensa_prefetch(const void *from, int64_t n_bytes) {
    #if defined(__GNUC__)
        int64_t i;
        for (i = 0; i < n_bytes; i += 64) __builtin_prefetch((const char *)from + i, 0, 2);
    #else
        (void)from;
        (void)n_bytes;
    #endif
    }

    static inline double hensa_double(uint64_t bits) { double d; memcpy(&d, &bits, 8); return d; }
    static inline uint64_t hensa_bits(double d) { uint64_t bits; memcpy(&bits, &d, 8); return bits; }
    """
    int hensa_ones(uint64_t word) noexcept
    void hensa_prefetch(const void* from_, int64_t n_bytes) noexcept
    double hensa_double(uint64_t bits) noexcept
    uint64_t hensa_bits(double d) noexcept
    double fabs(double x) noexcept
    double ldexp(double x, int exponent) noexcept

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
    int64_t length
    Py_ssize_t n_chunks
    Chunk* chunks


cdef class Column:
    """A checked view of an Arrow column; whoever makes it keeps the Arrow buffers alive.

    Parameters
    ----------
    kind : int
        Index into ``hensa.columns.KINDS``.
    length : int
        Number of rows.
    chunks : int64 array, shape (n, 4)
        Of every chunk that has rows: first row, address of the values buffer, address of the
        validity bitmap (0: none), offset.
    """
    cdef View view

    def __cinit__(self, int kind, int64_t length, const int64_t[:, ::1] chunks):
        cdef Py_ssize_t i
        self.view.kind = kind
        self.view.length = length
        self.view.n_chunks = chunks.shape[0]
        self.view.chunks = <Chunk*> calloc(chunks.shape[0] + 1, sizeof(Chunk))
        if self.view.chunks == NULL:
            raise MemoryError
        for i in range(chunks.shape[0]):
            self.view.chunks[i].start = chunks[i, 0]
            self.view.chunks[i].values = <const uint8_t*> <size_t> chunks[i, 1]
            self.view.chunks[i].validity = <const uint8_t*> <size_t> chunks[i, 2]
            self.view.chunks[i].offset = chunks[i, 3]
        self.view.chunks[chunks.shape[0]].start = length  # the end of the last chunk

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


cdef Py_ssize_t chunk_of(const View* view, int64_t row) noexcept nogil:
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


cdef void unpack_bits(const uint8_t* bitmap, int64_t bit, int64_t count, uint8_t* out) noexcept nogil:
    """Bits to bytes of 0 and 1."""
    cdef int64_t i, j, n
    cdef uint64_t word
    for i in range(0, count, 64):
        n = count - i if count - i < 64 else 64
        word = bits_at(bitmap, bit + i, n)
        for j in range(n):
            out[i + j] = <uint8_t> ((word >> j) & 1)


cdef const void* window(const View* view, int64_t row, int64_t count, void* scratch) noexcept nogil:
    """The values of rows [row, row + count): in place, or copied into `scratch` where chunks meet
    or where booleans are unpacked to bytes."""
    cdef Py_ssize_t at = chunk_of(view, row)
    cdef const Chunk* chunk = view.chunks + at
    cdef int width = WIDTH[view.kind]
    cdef int64_t done = 0, here
    if width != 0 and row + count <= chunk[1].start:
        return chunk.values + (chunk.offset + row - chunk.start) * width
    while done < count:
        here = chunk[1].start - (row + done)
        if here > count - done:
            here = count - done
        if width == 0:
            unpack_bits(chunk.values, chunk.offset + row + done - chunk.start, here,
                        <uint8_t*> scratch + done)
        else:
            memcpy(<uint8_t*> scratch + done * width,
                   chunk.values + (chunk.offset + row + done - chunk.start) * width,
                   <size_t> (here * width))
        done += here
        chunk += 1
    return scratch


cdef int64_t rows_that_count(View** views, Py_ssize_t n_views, int64_t row, int64_t count,
                             uint64_t* words) noexcept nogil:
    """How many of rows [row, row + count) are null in none of the columns. When that is not all
    of them, `words` holds their bits; otherwise it is left alone or all ones."""
    cdef Py_ssize_t i
    cdef int64_t first, here, done, bit, n, n_words = (count + 63) >> 6, valid = 0
    cdef const Chunk* chunk
    cdef bint masked = False
    cdef uint64_t word
    for i in range(n_views):
        chunk = views[i].chunks + chunk_of(views[i], row)
        done = 0
        while done < count:
            here = chunk[1].start - (row + done)
            if here > count - done:
                here = count - done
            if chunk.validity != NULL:
                if not masked:
                    masked = True
                    for n in range(n_words):
                        words[n] = ~(<uint64_t> 0)
                    if count & 63:
                        words[n_words - 1] = (<uint64_t> 1 << (count & 63)) - 1
                # Walk the words of the window; the bits of this chunk start anywhere in them.
                first = done
                while first < done + here:
                    bit = first & 63
                    n = 64 - bit
                    if n > done + here - first:
                        n = done + here - first
                    word = bits_at(chunk.validity, chunk.offset + row + first - chunk.start, n) << bit
                    if n < 64:
                        word |= ~(((<uint64_t> 1 << n) - 1) << bit)
                    words[first >> 6] &= word
                    first += n
            done += here
            chunk += 1
    if not masked:
        return count
    for n in range(n_words):
        valid += hensa_ones(words[n])
    return valid


cdef void bytes_of(const uint64_t* words, int64_t count, uint8_t* out) noexcept nogil:
    """Words of validity to bytes of 0 and 1; `out` has room for a multiple of 64."""
    cdef int64_t i, j
    cdef uint64_t byte, spread
    for i in range((count + 63) >> 6):
        for j in range(8):
            byte = (words[i] >> (8 * j)) & 0xFF
            # copies of the byte, each shifted by 7 more: bit k of the byte lands on bit 8 k, except bit 7
            spread = ((byte & 0x7F) * <uint64_t> 0x02040810204081) & <uint64_t> 0x0101010101010101
            spread |= (byte >> 7) << 56
            memcpy(out + 64 * i + 8 * j, &spread, 8)


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
