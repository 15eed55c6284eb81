"""The same rows and program give the same bytes, whatever the order, the chunks, the threads and the build."""

import itertools
import random
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from making import program

import hensa
from hensa import kernels

N = 1_000_003
THREADS = (1, 2, 5)
RESULTS = ("score", "step", "rate", "reward", "x_score", "y_score")
PROGRAM = program(rates={"below": "zero"}, rule={"scale": 10})


def heavy_tailed():
    """Counts as in a point site, a tenth of them mirrored so that they tie, with nulls in a measure and in the base."""
    draw = np.random.default_rng(17)
    x = np.minimum(draw.pareto(1.2, N) * 2, 50_000).astype(np.int32)
    y = np.where(np.arange(N) % 10 > 0, (x * draw.random(N) * 3).astype(np.int64), 60_000 - x)
    b = draw.integers(-(10**6), 10**12, N)
    return {"x": (x, draw.random(N) < 0.01), "y": (y, None), "b": (b, draw.random(N) < 0.02)}


def mirrored():
    """Every row ties at 50."""
    x = np.random.default_rng(18).integers(0, 1000, N)
    return {"x": (x.astype(np.int16), None), "y": (1000 - x, None), "b": (x * 1001, None)}


def floats():
    draw = np.random.default_rng(19)
    x = 1e9 + draw.standard_normal(N)
    y = draw.pareto(1.5, N).astype(np.float32)
    return {"x": (x, draw.random(N) < 0.01), "y": (y, None), "b": (draw.integers(0, 10**6, N), None)}


POPULATIONS = {"heavy-tailed": heavy_tailed, "mirrored": mirrored, "floats": floats}


@cache
def columns(name):
    return POPULATIONS[name]()


def chunked(values, mask, cuts, pads):
    """The column cut at `cuts`, every chunk with values of others before and after its slice."""
    arrays = []
    for pad, (start, stop) in zip(pads, itertools.pairwise([0, *cuts, len(values)]), strict=False):
        first = max(start - pad, 0)
        part = slice(first, stop + pad)
        whole = pa.array(values[part], mask=None if mask is None else mask[part])
        arrays.append(whole.slice(start - first, stop - start))
    return pa.chunked_array(arrays)


def laid_out(name, n_chunks, order=None):
    """The rows as a table whose columns have about `n_chunks` chunks each, cut at other rows in every column."""
    draw = random.Random(n_chunks)
    table = {}
    for column, (values, mask) in columns(name).items():
        if order is not None:
            values, mask = values[order], None if mask is None else mask[order]
        cuts = sorted(draw.randrange(N) for _ in range(n_chunks - 1))
        table[column] = chunked(values, mask, cuts, [draw.randrange(1, 70) for _ in range(n_chunks)])
    return pa.table(table)


def results(rows, threads):
    """Of every result, the values and which of them are null, as arrays."""
    table = hensa.score(rows, PROGRAM, columns=RESULTS, threads=threads)
    found = []
    for name in RESULTS:
        (chunk,) = table[name].chunks
        found.append(np.frombuffer(chunk.buffers()[1], dtype=chunk.type.to_pandas_dtype())[:N])
        found.append(chunk.is_null().to_numpy(zero_copy_only=False))
        assert chunk.null_count == found[-1].sum()
    return found


def bytes_of(arrays):
    return [array.tobytes() for array in arrays]


@cache
def expected(name):
    """On the baseline build with one thread and one chunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "active", kernels.load("baseline"))
        rows = laid_out(name, 1)
        return bytes_of(results(rows, 1)), hensa.population(rows, PROGRAM, threads=1)


@pytest.mark.parametrize(
    ("name", "layouts"),
    [
        *((name, (1, 2, 13, 97)) for name in POPULATIONS),
        pytest.param("heavy-tailed", range(1, 98), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_chunks_and_threads_change_no_bit(name, layouts, build):
    for n_chunks, threads in zip(layouts, itertools.cycle(THREADS), strict=False):
        rows = laid_out(name, n_chunks)
        assert bytes_of(results(rows, threads)) == expected(name)[0]


@pytest.mark.parametrize("name", list(POPULATIONS))
@pytest.mark.parametrize("threads", THREADS)
def test_one_layout_gives_one_result_with_any_number_of_threads(name, threads, build):
    rows = laid_out(name, 31)
    assert bytes_of(results(rows, threads)) == expected(name)[0]
    found = hensa.population(rows, PROGRAM, threads=threads)
    assert found == expected(name)[1]
    assert found.to_json() == expected(name)[1].to_json()


@pytest.mark.parametrize("name", ["heavy-tailed", "mirrored"])
@pytest.mark.parametrize("n_chunks", [1, 2, 97])
def test_the_order_of_the_rows_changes_no_bit_of_an_integer_program(name, n_chunks, build):
    order = np.random.default_rng(n_chunks).permutation(N)
    for threads in THREADS:
        found = results(laid_out(name, n_chunks, order), threads)
        back = []
        for array in found:
            unpermuted = np.empty_like(array)
            unpermuted[order] = array
            back.append(unpermuted)
        assert bytes_of(back) == expected(name)[0]


@pytest.mark.parametrize("name", ["heavy-tailed", "mirrored"])
def test_parts_in_any_order_merge_into_the_population_of_all_rows(name, build):
    rows = laid_out(name, 5)
    cuts = sorted(random.Random(3).randrange(N) for _ in range(9))
    parts = [rows.slice(a, b - a) for a, b in itertools.pairwise([0, *cuts, N])]
    random.Random(4).shuffle(parts)
    merged, *others = (hensa.population(part, PROGRAM) for part in parts)
    for other in others:
        merged = merged + other
    assert merged == expected(name)[1]


def test_a_part_scored_against_the_merged_population_has_the_bytes_of_its_rows(build):
    rows = laid_out("heavy-tailed", 3)
    whole = hensa.score(rows, PROGRAM, columns=RESULTS)
    population = hensa.population(rows, PROGRAM)
    for start, length in (0, 1), (1, 1000), (123_457, 654_321), (N - 1, 1):
        part = hensa.score(rows.slice(start, length), PROGRAM, population=population, columns=RESULTS)
        assert part.equals(whole.slice(start, length))


def test_scoring_twice_gives_the_same_bytes_in_fresh_and_in_reused_buffers(build):
    rows = laid_out("heavy-tailed", 7)
    out = hensa.score(rows, PROGRAM, columns=RESULTS)
    again = hensa.score(rows, PROGRAM, columns=RESULTS, out=out, threads=2)
    assert again.equals(hensa.score(rows, PROGRAM, columns=RESULTS, threads=5))
