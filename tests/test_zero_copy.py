"""Rows are read where their producer put them: proved by the addresses of buffers."""

import gc
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from making import program

import hensa
from hensa import kernels
from hensa.columns import rows_views, table_of

pytestmark = pytest.mark.usefixtures("build")

PROGRAM = program()
N = 64_000  # every buffer of 8-byte values and every bitmap is then a whole number of Arrow's 64-byte units
NAMES = ("x", "y", "b")


def arrays():
    random = np.random.default_rng(3)
    return {name: random.integers(0, 1000, N) for name in NAMES}


class Only:
    """An object with one method of the Arrow PyCapsule interface alone."""

    def __init__(self, method, producer):
        self.producer = producer
        setattr(type(self), method, lambda self, requested_schema=None: getattr(producer, method)(requested_schema))


def only(method, producer):
    return type("Only", (Only,), {})(method, producer)


def value_addresses(column):
    """Where the values of a pyarrow array or of each chunk lie, after the offset."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [chunk.buffers()[1].address + chunk.offset * chunk.type.bit_width // 8 for chunk in chunks]


def numpy_arrays():
    rows = arrays()
    return rows, {name: [rows[name].ctypes.data] for name in NAMES}


def arrow_table():
    rows = pa.table(arrays())
    return rows, {name: value_addresses(rows[name]) for name in NAMES}


def arrow_slices():
    whole = pa.table(arrays())
    rows = pa.concat_tables([whole.slice(1001, 333), whole.slice(5, 4097), whole.slice(63_999)])
    start = {name: value_addresses(whole[name])[0] for name in NAMES}
    return rows, {name: [start[name] + 8 * row for row in (1001, 5, 63_999)] for name in NAMES}


def arrow_batch():
    rows = pa.record_batch(arrays())
    return rows, {name: value_addresses(rows[name]) for name in NAMES}


def arrow_reader():
    table = pa.table(arrays())
    batches = table.to_batches(max_chunksize=10_000)
    reader = pa.RecordBatchReader.from_batches(table.schema, batches)
    return reader, {name: [value_addresses(batch[name])[0] for batch in batches] for name in NAMES}


def only_array():
    batch, addresses = arrow_batch()
    return only("__arrow_c_array__", batch), addresses


def only_stream():
    table, addresses = arrow_slices()
    return only("__arrow_c_stream__", table), addresses


def polars_frame():
    frame = pl.DataFrame(arrays())
    return frame, {name: [frame[name].to_numpy(allow_copy=False).ctypes.data] for name in NAMES}


def pandas_on_numpy():
    frame = pd.DataFrame(arrays())
    return frame, {name: [frame[name].to_numpy().ctypes.data] for name in NAMES}


def pandas_on_arrow():
    frame = pd.DataFrame(
        {name: pd.Series(pa.array(a), dtype=pd.ArrowDtype(pa.int64())) for name, a in arrays().items()}
    )
    return frame, {name: value_addresses(pa.chunked_array(frame[name].array.__arrow_array__())) for name in NAMES}


def pandas_nullable():
    frame = pd.DataFrame(arrays(), dtype="Int64")
    return frame, {name: [frame[name].array._data.ctypes.data] for name in NAMES}


PRODUCERS = [
    numpy_arrays, arrow_table, arrow_slices, arrow_batch, arrow_reader, only_array, only_stream, polars_frame,
    pandas_on_numpy, pandas_on_arrow, pandas_nullable,
]  # fmt: skip


@pytest.fixture
def read(monkeypatch):
    """The address of every chunk that a kernel is given, by call: [[address, ...], ...]."""
    calls = []
    column = kernels.active.Column

    def recording(kind, chunks):
        calls.append([chunk.buffers()[1].address + 8 * chunk.offset for chunk in chunks if len(chunk)])
        return column(kind, chunks)

    monkeypatch.setattr(kernels.active, "Column", recording)
    return calls


@pytest.mark.parametrize("producer", PRODUCERS)
def test_pass_1_reads_the_memory_of_the_producer(producer, read):
    rows, addresses = producer()
    hensa.population(rows, PROGRAM)
    assert read == [addresses["x"], addresses["y"], addresses["b"]]


@pytest.mark.parametrize("producer", PRODUCERS)
def test_pass_2_reads_the_memory_of_the_producer(producer, read):
    rows, addresses = producer()
    population = hensa.population(arrays(), PROGRAM)
    read.clear()
    hensa.score(rows, PROGRAM, population=population)
    assert read == [addresses["x"], addresses["y"], addresses["b"]]


@pytest.mark.parametrize("producer", PRODUCERS)
def test_the_columns_of_the_rows_are_in_the_result_without_copying(producer):
    rows, addresses = producer()
    result = hensa.score(rows, PROGRAM)
    assert {name: value_addresses(result[name]) for name in NAMES} == addresses


def test_columns_that_the_program_does_not_read_are_not_copied_either():
    names = pa.array([f"member {i}" for i in range(N)])
    result = hensa.score(pa.table({**arrays(), "name": names}), PROGRAM)
    found = result["name"].chunk(0).buffers()
    assert [buffer and buffer.address for buffer in found] == [buffer and buffer.address for buffer in names.buffers()]


def test_validity_bitmaps_are_read_where_they_lie(monkeypatch):
    seen = []
    column = kernels.active.Column
    monkeypatch.setattr(kernels.active, "Column", lambda *args: seen.extend(args[1]) or column(*args))
    rows = pa.table({name: pa.array([None, 1, 2, 3] * 16) for name in NAMES}).slice(3)
    hensa.population(rows, PROGRAM)
    found = [(chunk.buffers()[0].address, chunk.offset) for chunk in seen]
    assert found == [(rows[name].chunk(0).buffers()[0].address, 3) for name in NAMES]


def test_a_view_keeps_the_very_chunks_of_the_table():
    table = table_of(arrow_slices()[0])
    for view in rows_views(table, PROGRAM, paid=True).all:
        assert value_addresses(view.array) == value_addresses(table[view.name])


@pytest.mark.parametrize("nulls", [False, True])
def test_arrow_memory_grows_by_the_outputs_alone(nulls):
    rows = pa.table(arrays())
    bitmap = 0
    if nulls:
        rows = rows.set_column(0, "x", pa.array(np.arange(N), mask=np.arange(N) % 3 == 0))
        bitmap = N // 8  # one for the three columns
    hensa.score(rows, PROGRAM)
    gc.collect()
    before = pa.total_allocated_bytes()
    result = hensa.score(rows, PROGRAM)
    assert pa.total_allocated_bytes() - before == 3 * 8 * N + bitmap
    del result
    assert pa.total_allocated_bytes() == before


def test_python_and_numpy_memory_does_not_grow_with_the_rows():
    rows = pa.table(arrays())
    hensa.score(rows, PROGRAM)
    tracemalloc.start()
    try:
        hensa.score(rows, PROGRAM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < N  # a copy of one column would be 8 N


def test_out_is_overwritten_and_nothing_is_allocated():
    rows = pa.table(arrays())
    out = hensa.score(rows, PROGRAM)
    before = pa.total_allocated_bytes()
    again = hensa.score(rows, PROGRAM, out=out)
    assert pa.total_allocated_bytes() == before
    for name in ("score", "rate", "reward"):
        assert value_addresses(again[name]) == value_addresses(out[name])
