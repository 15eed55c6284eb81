# Rows decided by integers: a table of their counts and scores, so that equal rows are decided once.

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
