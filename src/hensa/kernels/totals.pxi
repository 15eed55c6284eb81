# Totals wider than any C type: words of 64 bits, low word first.

cdef enum:
    BLOCK = 4096                    # rows; with 8-byte values 32 KiB
    BLOCK_WORDS = 64                # validity bits of a block
    WINDOW = 65536                  # rows of one column before the next: memory is fast along one column
    WINDOW_WORDS = 1024             # validity bits of a window
    PIECE = 256                     # rows of one loop; blocks are whole pieces, the last one filled up
    AHEAD = 4096                    # bytes: as far before they are read memory is asked for them, piece by piece
    LANES = 8                       # partial sums of the Welford loops, the same in every build
    SUM_LIMBS = 3                   # |x| < 2^127, n < 2^63: |sum| < 2^190
    SQUARES_LIMBS = 5               # x^2 <= 2^254, n < 2^63: sum < 2^317

cdef uint64_t LOW32 = 0xFFFFFFFF
cdef uint64_t LOW26 = 0x3FFFFFF


cdef void add(uint64_t* total, int limbs, uint64_t value, int shift) noexcept nogil:
    """total += value * 2^shift, modulo 2^(64 limbs)."""
    cdef int i = shift >> 6
    shift &= 63
    cdef uint64_t part = value << shift
    cdef uint64_t rest = value >> (64 - shift) if shift else 0
    cdef uint64_t carry
    total[i] += part
    carry = total[i] < part
    i += 1
    # rest < 2^63, so rest + carry cannot overflow
    rest += carry
    while rest and i < limbs:
        total[i] += rest
        rest = total[i] < rest
        i += 1


cdef void subtract(uint64_t* total, int limbs, uint64_t value, int shift) noexcept nogil:
    """total -= value * 2^shift, modulo 2^(64 limbs): the complement of a sum of the complement."""
    cdef int i
    for i in range(limbs):
        total[i] = ~total[i]
    add(total, limbs, value, shift)
    for i in range(limbs):
        total[i] = ~total[i]


cdef void add_signed(uint64_t* total, int limbs, int64_t value, int shift) noexcept nogil:
    """total += value * 2^shift in two's complement."""
    if value >= 0:
        add(total, limbs, <uint64_t> value, shift)
    else:
        subtract(total, limbs, <uint64_t> 0 - <uint64_t> value, shift)


cdef object integer_of(const uint64_t* limbs, int n, bint signed):
    return int.from_bytes((<const uint8_t*> limbs)[:8 * n], "little", signed=signed)
