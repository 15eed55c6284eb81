"""Memory and processes: no byte beside a buffer is touched, nothing leaks, and threads, forks, changing inputs, Ctrl-C
and calls within calls do no harm. Functions named `child_...` run in a process of their own."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from guarded import array_of, guarded, values_of
from making import program

import hensa
from hensa import Criterion, HensaError, Program, RateTable, Reward, Stages, reference, scoring
from hensa.threads import UNIT

TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.bool_()),
    *(pa.float32(), pa.float64(), pa.decimal32(5, 1), pa.decimal64(15, 0), pa.decimal128(30, 2)),
]
RESULTS = ["score", "step", "rate", "reward", "x_score", "y_score"]
PROGRAM = program(rates={"below": "zero"})
STAGES = Program(
    name="stages",
    rule=Stages(
        criteria=[Criterion("x", [(s, s) for s in range(1, 101)]), Criterion("y", [(50, "49.5")])],
        previous="before",
        bonuses=[(s, s) for s in range(1, 101, 7)],
    ),
    rates=RateTable(below="zero", steps=[(s, s) for s in range(1, 101)]),
    reward=Reward(base="b"),
)
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")

posix = pytest.mark.skipif(os.name != "posix", reason="needs mprotect, fork and signals")


def in_a_process(child, *arguments):
    """Start ``child(*arguments)`` in a Python of its own."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_safety as t\n"
    code += f"if __name__ == '__main__': t.{child.__name__}(*{arguments!r})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def runs(child, *arguments, timeout=120):
    """The child must end well, and the last line that it prints is returned."""
    with in_a_process(child, *arguments) as process:
        try:
            printed, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
    assert process.returncode == 0, printed
    return printed.strip().rpartition("\n")[2]


def plain_rows(n, seed=0):
    draw = np.random.default_rng(seed)
    x, y = draw.integers(0, 50, (2, n))
    rows = {"x": pa.array(x, mask=draw.random(n) < 0.1), "y": y, "b": draw.integers(0, 10**6, n), "c": x % 7}
    return pa.table(rows)


def tied_integers(n):
    """Every row is on a threshold, so integers decide; each of the 50 pairs of values is decided once."""
    x = np.arange(n) % 50
    return pa.table({"x": x, "y": 60 - x, "b": x})


def tied_floats(n):
    """The same with n pairs of floats."""
    x = np.arange(n, dtype=float)
    return pa.table({"x": x, "y": n - x, "b": np.ones(n, dtype=np.int64)})


def result_bytes(rows, **options):
    """Every buffer of the results."""
    table = hensa.score(rows, PROGRAM, columns=RESULTS, **options)
    return [buffer and buffer.to_pybytes() for name in RESULTS for buffer in table[name].chunk(0).buffers()]


# --- beside the buffers ----------------------------------------------------------------------------------------------


def anywhere(data, before):
    return pa.py_buffer(data + bytes(64))


def made(type_, length, offset, edges, rng, place):
    """A column in chunks, each a slice at `offset` of a buffer that ends with the last row; half of them have nulls."""
    chunks = []
    for start, stop in itertools.pairwise(edges):
        n = offset + stop - start
        values = values_of(type_, rng.integers(0, 100, n))
        valid = np.packbits(rng.random(n) < 0.9, bitorder="little").tobytes() if rng.random() < 0.5 else None
        chunks.append(array_of(type_, values, valid, offset, stop - start, place))
    return pa.chunked_array(chunks, type_)


LENGTHS = [1, 2, 7, 8, 9, 15, 63, 64, 65, 511, 512, 513, 1025, 4095, 4096, 4097]


@posix
@pytest.mark.parametrize("at_end", [True, False], ids=["at the end", "at the start"])
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_no_byte_beside_the_needed_values_and_bits_is_read(type_, at_end, build):
    offsets = itertools.cycle([0, 1, 5, 8, 13, 64, 3])
    for seed, (length, cut) in enumerate(itertools.product(LENGTHS, [0, 0.4])):
        edges = sorted({0, int(cut * length), length})
        others = random.Random(seed)
        types = {"x": type_, "y": others.choice(TYPES), "b": type_ if type_ not in TYPES[9:11] else pa.int16()}
        shifts = [next(offsets) for _ in types]

        def rows(place, types=types, shifts=shifts, edges=edges, seed=seed, length=length):
            rng = np.random.default_rng(seed)
            columns = [
                made(kind, length, shift, edges, rng, place) for kind, shift in zip(types.values(), shifts, strict=True)
            ]
            return pa.table([*columns, np.arange(length) % 3], names=[*types, "c"])

        beside, apart = rows(lambda data, before: guarded(data, at_end, before)), rows(anywhere)
        assert hensa.population(beside, PROGRAM) == hensa.population(apart, PROGRAM)
        for by in None, "c":
            assert result_bytes(beside, by=by) == result_bytes(apart, by=by)
    welford = [hensa.population(table, PROGRAM, by="c", method="welford") for table in (beside, apart)]
    assert welford[0] == welford[1]


@posix
@pytest.mark.parametrize("at_end", [True, False], ids=["at the end", "at the start"])
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_stages_read_no_byte_beside_the_needed_values_and_bits(type_, at_end, build):
    offsets = itertools.cycle([0, 1, 5, 8, 13, 64, 3])
    for seed, (length, cut) in enumerate(itertools.product(LENGTHS, [0, 0.4])):
        edges = sorted({0, int(cut * length), length})
        types = {"x": type_, "y": pa.int32(), "before": random.Random(seed).choice(TYPES[:8]), "b": pa.int16()}
        shifts = [next(offsets) for _ in types]

        def rows(place, types=types, shifts=shifts, edges=edges, seed=seed, length=length):
            rng = np.random.default_rng(seed)
            columns = [
                made(kind, length, shift, edges, rng, place) for kind, shift in zip(types.values(), shifts, strict=True)
            ]
            return pa.table(columns, names=list(types))

        names = ["stage", "step", "rate", "reward"]
        beside, apart = (
            hensa.score(rows(place), STAGES, columns=names)
            for place in (lambda data, before: guarded(data, at_end, before), anywhere)
        )
        assert beside.select(names).equals(apart.select(names))


@posix
@pytest.mark.parametrize("at_end", [True, False], ids=["at the end", "at the start"])
@pytest.mark.parametrize("length", [*LENGTHS, UNIT, 2 * UNIT + 515])
def test_no_byte_beside_the_results_is_written(length, at_end, build, monkeypatch):
    rows = plain_rows(length)
    expected = [hensa.score(rows, PROGRAM, by=by, columns=RESULTS) for by in (None, "c")]
    monkeypatch.setattr(scoring, "allocate", lambda n_bytes: guarded(bytes(n_bytes), at_end))
    for by, table in zip((None, "c"), expected, strict=True):
        assert hensa.score(rows, PROGRAM, by=by, columns=RESULTS, threads=2).equals(table)
        for name in RESULTS:
            assert hensa.score(rows, PROGRAM, by=by, columns=[name])[name].equals(table[name])


# --- leaks -----------------------------------------------------------------------------------------------------------


def producer_that_fails():
    yield pa.record_batch({"x": [1], "y": [2], "b": [3]})
    raise OSError("the disk is gone")


def calls():
    """One call of every kind, and of every kind of error."""
    rows = plain_rows(100)
    schema = pa.schema([("x", pa.int64()), ("y", pa.int64()), ("b", pa.int64())])
    floats = rows.cast(pa.schema([("x", pa.float64()), ("y", pa.float32()), ("b", pa.uint64()), ("c", pa.int8())]))
    decimals = rows.cast(
        pa.schema([("x", pa.decimal128(38, 2)), ("y", pa.decimal128(22, 3)), ("b", pa.uint8()), ("c", pa.string())]),
        safe=False,
    )
    nan = {"x": [1.0, float("nan")], "y": [1, 2], "b": [1, 2]}
    huge = {"x": [1, 2], "y": [1, 2], "b": [Decimal(10**37), Decimal(10**37)]}
    stored = hensa.population(rows, PROGRAM)
    by = hensa.population(rows, PROGRAM, by="c")
    text, toml = by.to_json(), program(steps=[(0, 1), (50, 10)]).to_toml()
    out = hensa.score(rows, PROGRAM)
    ties = tied_floats(10)
    return [
        lambda: hensa.population(rows, PROGRAM),
        lambda: hensa.population(decimals, PROGRAM, method="welford"),
        lambda: hensa.population(floats, PROGRAM, by="c"),
        lambda: hensa.score(rows, PROGRAM, columns=RESULTS),
        lambda: hensa.score(rows, PROGRAM, by="c"),
        lambda: hensa.score(rows, PROGRAM, population=stored, out=out),
        lambda: hensa.score(floats, PROGRAM, columns=RESULTS),
        lambda: hensa.score(decimals, PROGRAM, columns=RESULTS),
        lambda: hensa.score(ties, PROGRAM, columns=RESULTS),
        lambda: hensa.score(rows.to_reader(max_chunksize=9), PROGRAM),
        lambda: hensa.Population.from_json(text) + by,
        lambda: hensa.score(rows, hensa.Program.parse(toml), population=by, by="c"),
        lambda: hensa.score(nan, PROGRAM),
        lambda: hensa.score(nan, PROGRAM, population=stored, columns=["score"]),
        lambda: hensa.score(huge, program(rates={"below": "first"})),
        lambda: hensa.score(rows.drop_columns("y"), PROGRAM),
        lambda: hensa.score(rows, PROGRAM, columns=["fee"]),
        lambda: hensa.score(rows, PROGRAM, population=by, by="b"),
        lambda: hensa.score(rows, PROGRAM, by="x"),
        lambda: hensa.score(rows, PROGRAM, threads=0),
        lambda: hensa.score(rows, PROGRAM, out=rows),
        lambda: hensa.score(pa.RecordBatchReader.from_batches(schema, producer_that_fails()), PROGRAM),
        lambda: hensa.Population.from_json(text[:-9]),
        lambda: hensa.Program.parse(toml.replace("scale", "sale")),
    ]


def child_calls(n_warm, n):
    """Prints how many kinds of calls fail, and by how much the memory grows over `n` calls."""
    every, failed = calls(), 0
    for call in every:
        try:
            call()
        except HensaError:
            failed += 1
    for i in range(n_warm + n):
        if i == n_warm:
            before = held()
        with contextlib.suppress(HensaError):
            every[i % len(every)]()
    print(failed, *(after - start for after, start in zip(held(), before, strict=True)))


def held():
    """Resident bytes, bytes of Arrow's pool, blocks of Python's allocator."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), pa.total_allocated_bytes(), sys.getallocatedblocks()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(SANITIZED, reason="AddressSanitizer keeps freed memory")
@pytest.mark.parametrize("calls", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_calls_and_errors_hold_no_memory(calls):
    failed, resident, arrow, blocks = map(int, runs(child_calls, 1000, calls).split())
    assert failed == 12
    assert arrow == 0
    assert blocks < 1000
    assert resident < 2**19


# --- threads ---------------------------------------------------------------------------------------------------------


def test_threads_that_score_at_once_get_the_same_bytes():
    rows, small = plain_rows(2 * UNIT + 7), plain_rows(500, 1)
    ties = [tied_floats(300), tied_integers(3 * UNIT + 5)]
    stored = hensa.population(small, PROGRAM)  # shared, with properties that are computed when first asked for
    cohorts = hensa.population(rows, PROGRAM, by="c")

    def work(_):
        found = [result_bytes(rows, threads=threads) for threads in (1, 3)]
        found += [result_bytes(small, population=stored, by=None) for _ in range(20)]
        found += [*map(result_bytes, ties), result_bytes(small, population=cohorts, by="c")]
        return found

    fresh = [hensa.Population.from_json(population.to_json()) for population in (stored, cohorts)]
    expected = [result_bytes(rows)] * 2 + [result_bytes(small, population=fresh[0])] * 20
    expected += [*map(result_bytes, ties), result_bytes(small, population=fresh[1], by="c")]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(16)):
            assert found == expected


def child_changing(seconds, by):
    """Scores rows whose buffers other threads overwrite; then, once they rest, scores them rightly."""
    n, end, draw = 100_000, time.monotonic() + seconds, np.random.default_rng(0)
    types = {"x": "int64", "y": "float64", "z": "uint8", "w": "decimal", "b": "int64", "c": "int64"}
    memory = {name: draw.integers(0, 256, 16 * n, dtype=np.uint8) for name in types}
    bits = {name: np.full(n // 8 + 2, 255, dtype=np.uint8) for name in types}

    def column(name):
        type_ = pa.decimal128(38, 0) if types[name] == "decimal" else pa.type_for_alias(types[name])
        buffers = [pa.py_buffer(bits[name]) if name != "c" else None, pa.py_buffer(memory[name])]
        return pa.Array.from_buffers(type_, n - 5, buffers, offset=5)

    rows = pa.table({name: column(name) for name in types})
    rules = [program(["x", "z"]), program(["y"]), program(["w", "y"]), program(["z", "x", "w"])]

    def settle():
        for name, values in memory.items():
            wide = values.view(np.int64)
            wide[:] = np.arange(2 * n) % (50 if name != "c" else 1000)
            if name == "y":
                wide[:] = (np.arange(2 * n) % 50).astype(float).view(np.int64)
            bits[name][:] = 255

    def change():
        rng = np.random.default_rng()
        while time.monotonic() < end:
            name = rng.choice(list(types))
            step, wide = int(rng.integers(1, 50)), memory[name].view(np.int64)
            wide[::step] = rng.integers(-(2**63), 2**63, len(wide[::step]))
            wide[::step] = rng.integers(-50, 50)
            bits[name][:: int(rng.integers(1, 9))] = rng.integers(256)
            if rng.random() < 0.5:
                settle()

    def change_cohorts():
        cohorts = memory["c"].view(np.int64)[::7]
        while time.monotonic() < end:
            cohorts[:] = -50  # beside the table of cohorts, if rows are read twice
            cohorts[:] = 8

    settle()
    expected = [hensa.score(rows.take(pa.array(range(n - 5))), rule, by=by) for rule in rules]
    changing = [threading.Thread(target=target) for target in (change, change_cohorts if by else change)]
    for thread in changing:
        thread.start()
    stored = hensa.population(plain_rows(100), program("x"))
    outcomes = set()
    while not outcomes or time.monotonic() < end:
        for rule in rules:
            for options in {"by": by}, {"by": by, "threads": 2}, {"population": stored}:
                try:
                    hensa.score(rows, rule, **options)
                    outcomes.add("scored")
                except Exception as error:  # sums that fit no rows; it is crashes that must not be
                    outcomes.add(type(error).__name__)
    for thread in changing:
        thread.join()
    settle()
    for rule, table in zip(rules, expected, strict=True):
        assert hensa.score(rows, rule, by=by).select(["score", "reward"]).equals(table.select(["score", "reward"]))
    print(bool(outcomes))


def child_changing_stages(seconds):
    """Scores stages of columns that another thread overwrites, with numbers that are no stages too."""
    end, n = time.monotonic() + seconds, 3 * UNIT
    values = {name: np.zeros(n, dtype=np.int64) for name in ("x", "y", "b", "before")}

    def change():
        rng = np.random.default_rng()
        while time.monotonic() < end:
            values["before"][:: int(rng.integers(1, 9))] = rng.choice([0, 5, 100, 101, -1, 2**62, -(2**63)])
            values["x"][:: int(rng.integers(1, 9))] = rng.integers(-(2**62), 2**62) >> rng.integers(0, 62)

    changing = threading.Thread(target=change)
    changing.start()
    outcomes = set()
    while time.monotonic() < end or not outcomes:
        try:
            hensa.score(pa.table(values), STAGES, threads=2)
            outcomes.add("scored")
        except HensaError as error:
            outcomes.add(str(error).split()[1])
    changing.join()
    print(outcomes <= {"scored", "'before'"})


def test_rows_that_change_while_they_are_put_on_stages_are_no_danger():
    assert runs(child_changing_stages, 2) == "True"


@pytest.mark.parametrize("by", [None, "c"], ids=["one population", "cohorts"])
def test_rows_that_change_meanwhile_are_no_danger(by):
    assert runs(child_changing, 2, by) == "True"


@pytest.mark.long
@pytest.mark.parametrize("by", [None, "c"], ids=["one population", "cohorts"])
def test_rows_that_change_for_20_seconds_are_no_danger(by):
    assert runs(child_changing, 20, by) == "True"


def child_changing_keys():
    """Scores by keys that change once while they are coded: at the first call within, at the second, and so on."""
    usual = np.arange(300) % 9
    keys = usual.copy()
    rows = pa.table({"x": np.arange(len(keys)) % 7, "k": keys})
    assert rows["k"].chunk(0).buffers()[1].address == keys.ctypes.data
    rules = program("x", base=None)

    def scored():
        return hensa.score(rows, rules, by="k", columns=["score", "step"], threads=1).select(["score", "step"])

    def scored_with_a_change(place, key):
        """The result, and whether there were as many calls."""
        n_calls = 0

        def change(*_):
            nonlocal n_calls
            n_calls += 1
            if n_calls == place:
                keys[:100] = key

        sys.setprofile(change)
        try:
            return scored(), n_calls >= place
        finally:
            sys.setprofile(None)

    before = scored()
    for key in -50, 5000:  # below and above all others
        keys[:100] = key
        outcomes, after = set(), scored()
        for place in itertools.count(1):
            keys[:] = usual
            found, changed = scored_with_a_change(place, key)
            if not changed:
                break
            assert found.equals(before) or found.equals(after), place
            outcomes.add(found.equals(before))
        assert outcomes == {True, False}
    print("ends")


def test_keys_that_change_while_they_are_coded_are_those_before_or_after():
    assert runs(child_changing_keys) == "ends"


def child_with_daemons():
    """Ends while other threads score."""
    rows = plain_rows(2 * UNIT)
    started = threading.Barrier(4)

    def work():
        started.wait()
        while True:
            hensa.score(rows, PROGRAM, threads=1)

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    started.wait()
    time.sleep(0.1)
    print("ends")


def test_a_process_may_end_while_daemon_threads_score():
    assert runs(child_with_daemons).startswith("ends")


# --- loops that must end ---------------------------------------------------------------------------------------------


def child_far_decimals():
    """Prints the scores of decimals that lie 2^127 or more from the mean, in two populations and by cohort."""
    largest = 10**38 - 1
    rules = program("x", [(50, 1)], None, rule={"centre": 0})
    rows = {"x": pa.array([Decimal(-largest), Decimal(largest)], pa.decimal128(38, 0)), "k": [0, 0]}
    for sign in 1, -1:
        near = {"x": pa.array([Decimal(sign * (largest - shift)) for shift in (0, 2, 5)], pa.decimal128(38, 0))}
        population = hensa.population(near | {"k": [0] * 3}, rules, by="k")
        for by in None, "k":
            found = hensa.score(rows, rules, population=population, by=by, columns=["score"])
            print(*map(float.hex, found["score"].to_pylist()), end=" ")


def test_decimals_2_to_the_127_from_the_mean_end_with_the_scores_of_the_reference():
    # In a process of its own: a loop of the kernel that does not end cannot be stopped otherwise.
    largest, expected = 10**38 - 1, []
    assert 2 * largest > 2**127
    rules = program("x", [(50, 1)], None, rule={"centre": 0})
    for sign in 1, -1:
        near = {"x": [sign * (largest - shift) for shift in (0, 2, 5)]}
        population = reference.population(near, rules)
        expected += reference.score({"x": [-largest, largest]}, rules, population, columns="score")["score"] * 2
    assert runs(child_far_decimals, timeout=60).split() == [score.hex() for score in expected]


# --- processes -------------------------------------------------------------------------------------------------------


def digest(threads):
    return [hash(part) for part in result_bytes(plain_rows(2 * UNIT + 1), threads=threads) if part]


def child_forks():
    """Forks after scoring with threads, and while another thread scores."""
    rows = plain_rows(3 * UNIT)
    expected = result_bytes(rows, threads=2)
    busy = threading.Thread(target=lambda: [result_bytes(rows) for _ in range(12)])
    for during in None, busy:
        if during:
            during.start()
        for _ in range(4):
            child = os.fork()
            if not child:
                signal.alarm(60)
                os._exit(0 if all(result_bytes(rows, threads=threads) == expected for threads in (1, 2, 4)) else 1)
            assert result_bytes(rows, threads=2) == expected
            assert os.waitpid(child, 0)[1] == 0
    busy.join()
    print("ends")


@posix
def test_a_fork_after_and_during_scoring_with_threads_scores_the_same_bytes():
    assert runs(child_forks) == "ends"


def child_pool(method):
    expected = digest(2)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(digest, [1, 2, 4, None], chunksize=1) == [expected] * 4
    print("ends")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_of_multiprocessing_score_the_same_bytes(method, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert runs(child_pool, method) == "ends"


# --- interruptions ---------------------------------------------------------------------------------------------------


def child_interrupted(what, threads):
    """Begins what would take minutes; when interrupted, scores something small."""
    if what == "population":
        block = pa.array(np.arange(2**20, dtype=np.int32))
        rows = pa.table({"x": pa.chunked_array([block] * 2**16)})
        call, rules = hensa.population, program("x", base=None)
    else:
        call, rows, rules = hensa.score, tied_floats(10_000_000), PROGRAM
    small = plain_rows(1000)
    expected = result_bytes(small)
    print("begins", flush=True)
    try:
        call(rows, rules, threads=threads)
    except KeyboardInterrupt:
        assert result_bytes(small, threads=threads) == expected
        print("interrupted")
        return
    print("not interrupted")


@posix
@pytest.mark.parametrize(
    ("what", "threads"),
    [("population", 1), ("population", 2), ("score", 1), pytest.param("score", 2, marks=pytest.mark.long)],
)
def test_ctrl_c_stops_a_run_of_minutes_in_seconds(what, threads):
    with in_a_process(child_interrupted, what, threads) as process:
        assert process.stdout.readline() == "begins\n"
        time.sleep(1)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            printed, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, printed) == (0, "interrupted\n")
    assert time.monotonic() - sent < 15


# --- calls within calls ----------------------------------------------------------------------------------------------


class RowsThatScore:
    """Rows whose producer scores other rows."""

    def __init__(self, rows, expected):
        self.rows, self.expected = rows, expected

    def __arrow_c_stream__(self, requested_schema=None):
        assert result_bytes(plain_rows(100)) == self.expected
        return self.rows.__arrow_c_stream__(requested_schema)


def test_a_producer_of_rows_may_score():
    rows = plain_rows(200, 1)
    assert result_bytes(RowsThatScore(rows, result_bytes(plain_rows(100)))) == result_bytes(rows)


@posix
def test_a_signal_handler_may_score_while_a_score_runs():
    ties, small = tied_floats(30_000), plain_rows(100)
    small_bytes, within = result_bytes(small), []
    stored = hensa.population(ties, PROGRAM)
    usual = signal.signal(signal.SIGALRM, lambda *_: within.append(result_bytes(small)))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.05)
    try:
        found = hensa.score(ties, PROGRAM, population=stored, columns=["step"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    assert found["step"].unique().to_pylist() == [50]
    assert within
    assert all(part == small_bytes for part in within)
