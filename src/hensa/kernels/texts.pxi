# Texts: the number of every row among the distinct texts of a column, in the order in which they come first.
#
# A hash table with open addressing. Where texts lie is checked as it is read, so that no offset leads out of its buffer,
# whoever made or changes it.

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport realloc
from libc.string cimport memcmp

cdef struct Text:
    const uint8_t* bytes
    int64_t length
    uint64_t low, high        # its first and its last 8 bytes, which overlap up to 16; see `read_ends`
    uint64_t hash_

cdef struct TextSlot:
    uint32_t tag              # the upper half of the hash
    int32_t number            # 1 more than the text's; 0: free

cdef struct TextView:
    int width                 # of an offset; 0: views of texts, with their first bytes
    int64_t offset
    const uint8_t* places     # offsets or views, before the offset
    int64_t n_data
    const uint8_t** data
    int64_t* sizes


cdef class Texts:
    """A view of an Arrow array of texts.

    Parameters
    ----------
    width : int
        4 for arrays with offsets of 32 bits, 8 for those of 64 bits, 0 for views.
    array : pyarrow.Array
        Without nulls; it is kept.
    """
    cdef TextView view
    cdef object array
    cdef readonly int64_t length

    def __cinit__(self, int width, array):
        cdef size_t address
        cdef int64_t i
        self.array = array
        self.length = len(array)
        self.view.width = width
        self.view.offset = array.offset
        _, places, *data = array.buffers()
        if self.length:
            address = places.address
            self.view.places = <const uint8_t*> address
        self.view.n_data = len(data)
        self.view.data = <const uint8_t**> calloc(len(data) + 1, sizeof(uint8_t*))
        self.view.sizes = <int64_t*> calloc(len(data) + 1, sizeof(int64_t))
        if self.view.data == NULL or self.view.sizes == NULL:
            raise MemoryError
        for i, buffer in enumerate(data):
            if buffer is not None:
                address = buffer.address
                self.view.data[i] = <const uint8_t*> address
                self.view.sizes[i] = buffer.size

    def __dealloc__(self):
        free(self.view.data)
        free(self.view.sizes)


cdef inline int64_t int_at(const uint8_t* place) noexcept nogil:
    cdef int32_t value
    memcpy(&value, place, 4)
    return value


cdef inline bint find_text(const TextView* view, int64_t i, Text* text) noexcept nogil:
    """Where a text lies; whether that is within its buffer."""
    cdef const uint8_t* place
    cdef int64_t start, stop, data = 0
    i += view.offset
    if view.width == 4:
        start, stop = int_at(view.places + 4 * i), int_at(view.places + 4 * i + 4)
    elif view.width == 8:
        start, stop = <int64_t> hensa_word(view.places + 8 * i), <int64_t> hensa_word(view.places + 8 * i + 8)
    else:
        place = view.places + 16 * i
        stop = int_at(place)
        if 0 <= stop <= 12:
            text.bytes = place + 4
            text.length = stop
            return True
        data, start = int_at(place + 8), int_at(place + 12)
        stop = start + stop
    if data < 0 or data >= view.n_data or start < 0 or stop < start or stop > view.sizes[data]:
        return False
    text.bytes = view.data[data] + start if stop > start else view.places  # no data may have no buffer
    text.length = stop - start
    return True


cdef inline uint64_t scrambled(uint64_t word) noexcept nogil:
    """A product moves a difference of bits only up: what is above is brought down before it and after."""
    word = (word ^ word >> 32) * <uint64_t> 0x9E3779B97F4A7C15  # 2^64 / the golden ratio (Knuth, TAOCP 6.4)
    return word ^ word >> 32


cdef inline void read_ends(Text* text) noexcept nogil:
    """Its ends, which with the length are the whole of up to 16 bytes, and its hash."""
    cdef const uint8_t* bytes = text.bytes
    cdef int64_t n = text.length, i
    text.low = text.high = 0
    if n >= 8:
        text.low, text.high = hensa_word(bytes), hensa_word(bytes + n - 8)
    elif n >= 4:
        text.low = <uint32_t> int_at(bytes) | <uint64_t> <uint32_t> int_at(bytes + n - 4) << 32
    elif n > 0:
        text.low = bytes[0] | <uint64_t> bytes[n >> 1] << 8 | <uint64_t> bytes[n - 1] << 16
    text.hash_ = scrambled(scrambled(<uint64_t> n ^ text.low) ^ text.high)
    i = 8
    while i < n - 8:
        text.hash_ = scrambled(text.hash_ ^ hensa_word(bytes + i))
        i += 8


cdef inline bint same_text(const Text* one, const Text* other) noexcept nogil:
    return (one.low == other.low and one.high == other.high and one.length == other.length
            and (one.length <= 16 or memcmp(one.bytes, other.bytes, <size_t> one.length) == 0))


cdef struct TextTable:
    TextSlot* slots
    uint64_t mask             # slots - 1; there are four times as many as texts, or more
    Text* known               # by number, with room for a quarter as many as slots
    int64_t n_known


cdef bint grow(TextTable* table) noexcept nogil:
    """Makes room for twice as many texts; False if memory does not suffice, or int32 for their numbers."""
    cdef uint64_t n_slots = 2 * (table.mask + 1) if table.slots != NULL else 1024, place
    cdef TextSlot* slots = <TextSlot*> calloc(n_slots, sizeof(TextSlot))
    cdef Text* known = <Text*> realloc(table.known, n_slots // 4 * sizeof(Text))
    cdef int64_t i
    table.known = known if known != NULL else table.known
    if slots == NULL or known == NULL or n_slots > <uint64_t> 1 << 32:
        free(slots)
        return False
    free(table.slots)
    table.slots, table.mask = slots, n_slots - 1
    for i in range(table.n_known):
        place = known[i].hash_ & table.mask
        while slots[place].number:
            place = (place + 1) & table.mask
        slots[place].tag, slots[place].number = <uint32_t> (known[i].hash_ >> 32), <int32_t> (i + 1)
    return True


cdef int32_t number_of(TextTable* table, const Text* text) noexcept nogil:
    """The number of a text, which may be new; -1 if there is no room for it."""
    cdef uint64_t place = text.hash_ & table.mask
    cdef uint32_t tag = <uint32_t> (text.hash_ >> 32)
    cdef int32_t number
    while True:
        number = table.slots[place].number - 1
        if number < 0:
            break
        if table.slots[place].tag == tag and same_text(&table.known[number], text):
            return number
        place = (place + 1) & table.mask
    if <uint64_t> table.n_known == (table.mask + 1) // 4:
        return number_of(table, text) if grow(table) else -1
    number = <int32_t> table.n_known
    table.slots[place].tag, table.slots[place].number = tag, number + 1
    table.known[number] = text[0]
    table.n_known += 1
    return number


cdef int64_t number_rows(TextTable* table, const TextView* view, int64_t first, int64_t start, int64_t stop,
                         int32_t* numbers) noexcept nogil:
    """Numbers rows [start, stop) of a column by a chunk whose first row is `first`. Returns the row that ended it: `stop`,
    or one whose text is out of its buffer or, with -1 as its number, finds no room."""
    cdef int64_t row = start, n, i
    cdef Text texts[TILE]
    while row < stop:
        n = TILE if stop - row > TILE else stop - row
        for i in range(n):
            numbers[row + i] = 0
            if not find_text(view, row + i - first, &texts[i]):
                return row + i
            read_ends(&texts[i])
            hensa_prefetch(&table.slots[texts[i].hash_ & table.mask], sizeof(TextSlot))
        for i in range(n):
            numbers[row + i] = number_of(table, &texts[i])
            if numbers[row + i] < 0:
                return row + i
        row += n
    return stop


cdef tuple texts_of(const TextTable* table):
    """The offsets and the bytes of all texts, one after another."""
    cdef int64_t n_bytes = 0, i
    cdef bytes offsets = PyBytes_FromStringAndSize(NULL, (table.n_known + 1) * sizeof(int64_t)), data
    cdef int64_t* offset = <int64_t*> <char*> offsets
    cdef char* to
    for i in range(table.n_known):
        offset[i] = n_bytes
        n_bytes += table.known[i].length
    offset[table.n_known] = n_bytes
    data = PyBytes_FromStringAndSize(NULL, n_bytes)
    to = data
    for i in range(table.n_known):
        memcpy(to + offset[i], table.known[i].bytes, <size_t> table.known[i].length)
    return offsets, data


def number_texts(list chunks, int64_t start, int64_t stop, int32_t[::1] numbers):
    """Numbers the texts of rows [start, stop) from 0 on, as they come first.

    Parameters
    ----------
    chunks : list of Texts
        Of the column.
    start, stop : int
        The rows.
    numbers : int32 array
        Of all rows; those of these rows are set.

    Returns
    -------
    tuple of bytes
        The offsets (int64) and the data of an Arrow array of the different texts, by number.

    Raises
    ------
    ValueError
        A text does not lie within its buffer.
    """
    cdef TextTable table
    cdef Texts chunk
    cdef int64_t first = 0, row, end
    memset(&table, 0, sizeof(TextTable))
    try:
        if not grow(&table):
            raise MemoryError
        for chunk in chunks:
            row, end = max(start, first), min(stop, first + chunk.length)
            if row < end:
                with nogil:
                    row = number_rows(&table, &chunk.view, first, row, end, &numbers[0])
                if row < end:
                    raise MemoryError if numbers[row] < 0 else ValueError(
                        f"the text of row {row} does not lie within its buffer")
            first += chunk.length
        return texts_of(&table)
    finally:
        free(table.slots)
        free(table.known)
