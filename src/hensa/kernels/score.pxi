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


cdef struct Measure:
    Mean mean
    double c
    double single_c
    int64_t slot                    # of its words in keys
    uint64_t multiplier             # of cohorts, the first measure of the same weight
    uint64_t joined                 # not 0: values are added up unless their sizes have one of these bits


ctypedef fused result_t:
    uint16_t
    int64_t
    double


cdef void clear_nulls(result_t* x, const uint64_t* mask, int64_t n) noexcept nogil:
    """Results are 0 where they are null."""
    cdef int64_t i
    for i in range(n):
        if result_t is double:
            x[i] = hensa_double(hensa_bits(x[i]) & mask[i])
        else:
            x[i] = x[i] & <result_t> mask[i]


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
    uint64_t mask[TILE]             # of the rows that count
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
                    clear_nulls[double](tile.single, tile.mask, n)
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
            masks_of(tile.words, n, tile.mask)
        if self.minimums != NULL:
            self.reach_stages(row, n, tile, masked)
        else:
            self.score_rows(row, n, tile, masked, out, singles, decided, key)
        if out.score != NULL:
            if masked:
                clear_nulls[double](s, tile.mask, n)
            emit(out.score + row, s, 8 * n, out.stream)
        if out.rate != NULL or out.reward != NULL:
            look_up(self.table.rate, tile.count, n, rate)
        if out.rate != NULL:
            if masked:
                clear_nulls[double](rate, tile.mask, n)
            emit(out.rate + row, rate, 8 * n, out.stream)
        if out.step != NULL:
            look_up_steps(self.table.step, tile.count, n, tile.step)
            if masked:
                clear_nulls[uint16_t](tile.step, tile.mask, n)
            emit(out.step + row, tile.step, 2 * n, out.stream)
        if out.stage != NULL:
            to_stages(tile.count, n, tile.step)
            if masked:
                clear_nulls[uint16_t](tile.step, tile.mask, n)
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
                clear_nulls[int64_t](reward, tile.mask, n)
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
            if masked and not tile.mask[i]:
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
            if masked and not tile.mask[i]:
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
            if not masked or tile.mask[i]:
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
            if x[i] - x[i] != 0.0 and (not masked or tile.mask[i]):
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
