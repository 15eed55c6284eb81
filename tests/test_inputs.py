"""Every kind of rows that hensa takes, made by the real library, gives one result; every other kind is refused."""

import datetime as dt
from decimal import Decimal
from types import MappingProxyType

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from making import program

import hensa
from hensa import DataError, ipc, reference
from hensa.ipc import ArrowFile

pytestmark = pytest.mark.usefixtures("build")

RESULTS = ("score", "step", "rate", "reward")
PROGRAM = program()
N = 2000


class OnlyArray:
    """Speaks Arrow by `__arrow_c_array__` alone."""

    def __init__(self, batch):
        self.batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self.batch.__arrow_c_array__(requested_schema)


class OnlyStream:
    """Speaks Arrow by `__arrow_c_stream__` alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def plain():
    random = np.random.default_rng(5)
    x = random.integers(0, 40, N).astype(np.int32)
    return {"x": x, "y": 40 - x // 2, "b": random.integers(-(10**6), 10**6, N)}


PLAIN = plain()
LISTS = {name: column.tolist() for name, column in PLAIN.items()}
EXPECTED = reference.score(LISTS, PROGRAM, columns=RESULTS)
HOLES = {name: [None if i % (7 + k) == 3 else v for i, v in enumerate(LISTS[name])] for k, name in enumerate("xyb")}
EXPECTED_WITH_HOLES = reference.score(HOLES, PROGRAM, columns=RESULTS)


def duck(table):
    return duckdb.connect().from_arrow(table)


FORMS = {
    "pyarrow Table": pa.table,
    "pyarrow RecordBatch": pa.record_batch,
    "pyarrow RecordBatchReader": lambda columns: pa.table(columns).to_reader(max_chunksize=700),
    "Polars DataFrame": pl.DataFrame,
    "Polars DataFrame in chunks": lambda columns: pl.concat(pl.DataFrame(columns).iter_slices(700), rechunk=False),
    "pandas DataFrame on NumPy": pd.DataFrame,
    "pandas DataFrame on Arrow": lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
    "pandas DataFrame, nullable": lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="numpy_nullable"),
    "DuckDB relation": lambda columns: duck(pa.table(columns)),
    "dict of NumPy arrays": dict,
    "dict of lists": lambda columns: {name: list(column) for name, column in columns.items()},
    "dict of pyarrow arrays": lambda columns: {name: pa.array(column) for name, column in columns.items()},
    "mapping that is no dict": MappingProxyType,
    "only __arrow_c_array__": lambda columns: OnlyArray(pa.record_batch(columns)),
    "only __arrow_c_stream__": lambda columns: OnlyStream(pa.table(columns)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_form_gives_the_results_of_the_reference(form):
    result = hensa.score(form(PLAIN), PROGRAM, columns=RESULTS)
    assert result.to_pydict() == EXPECTED


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_form_gives_one_population(form):
    assert hensa.population(form(PLAIN), PROGRAM) == hensa.population(pa.table(PLAIN), PROGRAM)


WITH_NULLS = {
    "pyarrow Table": pa.table,
    "Polars DataFrame": pl.DataFrame,
    "pandas DataFrame on Arrow": lambda columns: pd.DataFrame(pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)),
    "pandas DataFrame, nullable": lambda columns: pd.DataFrame(columns, dtype="Int64"),
    "DuckDB relation": lambda columns: duck(pa.table(columns)),
    "dict of lists": dict,
    "dict of masked NumPy arrays": lambda columns: {
        name: pa.array(np.array([v or 0 for v in column]), mask=np.array([v is None for v in column]))
        for name, column in columns.items()
    },
}


@pytest.mark.parametrize("form", WITH_NULLS.values(), ids=list(WITH_NULLS))
def test_every_form_with_nulls_gives_the_results_of_the_reference(form):
    result = hensa.score(form(HOLES), PROGRAM, columns=RESULTS)
    assert result.to_pydict() == EXPECTED_WITH_HOLES


def test_the_missing_numbers_of_pandas_are_nulls():
    frame = pd.DataFrame({"x": [1.0, np.nan, 3.0], "y": [1, 2, 3], "b": [1, 1, 1]})
    assert hensa.score(frame, PROGRAM)["score"].is_null().to_pylist() == [False, True, False]


def test_a_nan_in_a_numpy_array_is_an_error_and_not_a_null():
    rows = {"x": np.array([1.0, np.nan, 3.0]), "y": np.array([1, 2, 3]), "b": np.array([1, 1, 1])}
    with pytest.raises(DataError, match="Column 'x' is nan in row 1"):
        hensa.score(rows, PROGRAM)


def test_sums_of_duckdb_are_measures_and_bases():
    relation = duckdb.sql(
        "SELECT customer, count(*) AS x, sum(n) AS y, sum(n::DECIMAL(18, 2)) AS b "
        "FROM (SELECT range % 7 AS customer, range AS n FROM range(100)) GROUP BY ALL ORDER BY ALL"
    )
    members = [range(customer, 100, 7) for customer in range(7)]
    rows = {"x": [len(m) for m in members], "y": [sum(m) for m in members], "b": [Decimal(sum(m)) for m in members]}
    expected = reference.score(rows, PROGRAM, columns=RESULTS)
    result = hensa.score(relation, PROGRAM, columns=RESULTS)
    assert result.select(RESULTS).to_pydict() == {name: expected[name] for name in RESULTS}


def test_a_filtered_pandas_frame_keeps_its_rows_in_order():
    frame = pd.DataFrame(LISTS)
    kept = frame[frame.x > 20]
    result = hensa.score(kept, PROGRAM, columns=["step"])
    expected = reference.score(kept.to_dict("list"), PROGRAM, columns=["step"])
    assert result["step"].to_pylist() == expected["step"]


def test_a_strided_numpy_array_is_read_in_steps():
    wide = {name: np.repeat(column, 3)[::3] for name, column in PLAIN.items()}
    assert hensa.score(wide, PROGRAM, columns=RESULTS).to_pydict() == EXPECTED


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_values_that_are_not_aligned_give_the_same_results(shift):
    def moved(column):
        memory = pa.py_buffer(bytes(shift) + column.tobytes()).slice(shift)
        return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, memory])

    rows = pa.table({name: moved(column) for name, column in PLAIN.items()})
    assert hensa.score(rows, PROGRAM, columns=RESULTS).to_pydict() == EXPECTED


def test_columns_of_any_type_are_passed_on():
    extra = {
        "name": pa.array(["a", None, "c"]),
        "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
        "days": pa.array([[1], [], None]),
        "nothing": pa.nulls(3),
    }
    rows = pa.table({"x": [1, 2, 3], "y": [3, 2, 1], "b": [1, 2, 3], **extra})
    assert hensa.score(rows, PROGRAM).select(rows.column_names).equals(rows)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (pl.DataFrame(LISTS).lazy(), "LazyFrame"),
        ([{"x": 1, "y": 2, "b": 3}], "list"),
        (np.zeros((3, 3)), "ndarray"),
        ("rows.parquet", "str"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_arrow_stream_is_refused_by_its_type(rows, found):
    for call in hensa.population, hensa.score:
        with pytest.raises(DataError, match=rf"^rows is a {found}; it must have __arrow_c_stream__ .* a mapping"):
            call(rows, PROGRAM)


@pytest.mark.parametrize(
    "rows",
    [
        {"x": [1, 2], "y": [1, 2], "b": [1]},
        {"x": np.zeros((2, 2)), "y": [1, 2], "b": [1, 2]},
        {"x": [1, "two"], "y": [1, 2], "b": [1, 2]},
        {"x": 1, "y": 2, "b": 3},
        {"x": [2**64], "y": [1], "b": [1]},
        {1: [1], "x": [1], "y": [1], "b": [1]},
    ],
    ids=["lengths differ", "two dimensions", "types mixed", "no arrays", "beyond 64 bits", "name that is no string"],
)
def test_a_mapping_that_is_no_table_is_refused(rows):
    with pytest.raises(DataError, match=r"^rows cannot be read as an Arrow table: "):
        hensa.score(rows, PROGRAM)


def test_a_producer_that_fails_midway_is_a_data_error():
    def batches():
        yield pa.record_batch(PLAIN)
        raise OSError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        hensa.score(pa.RecordBatchReader.from_batches(pa.record_batch(PLAIN).schema, batches()), PROGRAM)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1", "2"]),
        pa.array([1, 2], pa.timestamp("s")),
        pa.array([1, 2], pa.date32()),
        pa.array([1, 2], pa.duration("s")),
        pa.array([1.0, 2.0], pa.float16()),
        pa.array([Decimal(1), Decimal(2)], pa.decimal256(40, 0)),
        pa.array([1, 2]).dictionary_encode(),
        pa.array([[1], [2]]),
    ],
    ids=lambda column: str(column.type).split("<")[0],
)
def test_a_measure_or_base_that_is_no_number_is_refused_by_its_type(column):
    for name, role in ("x", "a measure"), ("b", "the base of the reward"):
        rows = pa.table({"x": [1, 2], "y": [1, 2], "b": [1, 2]})
        rows = rows.set_column(rows.column_names.index(name), name, column)
        with pytest.raises(DataError) as error:
            hensa.score(rows, PROGRAM)
        assert str(error.value).startswith(f"Column '{name}' is of type {column.type}; {role} must be of an integer")


def test_a_float_base_is_refused_for_rewards_alone():
    rows = {"x": [1, 2], "y": [1, 2], "b": [1.0, 2.0]}
    with pytest.raises(DataError, match=r"^Column 'b' is of type double; the base of the reward must be of an integer"):
        hensa.score(rows, PROGRAM)
    assert hensa.score(rows, PROGRAM, columns=["step"])["step"].to_pylist() == [49, 51]


def test_threads_are_a_whole_number_from_1_on():
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(hensa.HensaError, match=r"^threads is .*; it must be a whole number from 1 on"):
            hensa.score(PLAIN, PROGRAM, threads=threads)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["a", "b"])])
def test_rows_of_polars_are_scored_by_cohorts_of_text(kind):
    rows = {"x": [1, 3, 2, 8], "b": [100] * 4, "k": ["a", "b", "b", "a"]}
    frame = pl.DataFrame(rows).with_columns(pl.col("k").cast(kind))
    rules = program("x")
    expected = hensa.score(rows, rules, by="k")
    assert hensa.score(frame, rules, by="k")["score"].equals(expected["score"])
    assert hensa.population(frame, rules, by="k") == hensa.population(rows, rules, by="k")


def test_rows_and_boards_of_polars_are_ranked_and_compensated_like_those_of_arrow():
    rows = {"id": ["a", "b", "c"], "count": [3, 9, 5], "at": ["2020-03-01 10:00", "2020-03-02", None]}
    until = dt.datetime(2020, 3, 31)
    rules = hensa.Event(
        name="spring",
        id_column="id",
        count_column="count",
        entry_column="at",
        entry_until=until,
        compensation=hensa.Compensation(entry_until=until, points=100, top=1, board_points=30),
    )
    boards = hensa.rank(rows, rules)
    assert hensa.rank(pl.DataFrame(rows), rules).equals(boards)
    paid = hensa.compensate(pl.DataFrame(rows), rules, pl.from_arrow(boards))
    assert paid.equals(hensa.compensate(rows, rules, boards))
    assert [list(row.values())[-1] for row in paid.to_pylist()] == [100, 130]


def test_files_that_polars_writes_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(ipc, "PART", 64)
    sites = [f"a site of many letters, {i}" for i in range(1000)]
    rows = pl.DataFrame({"x": range(1000), "site": sites, "group": pl.Series(sites, dtype=pl.Categorical)})
    rows.write_ipc(tmp_path / "rows.arrow", record_batch_size=400)
    with pa.OSFile(str(tmp_path / "rows.arrow")) as source:
        file = ArrowFile(source)
        parts = [part for number in range(file.num_batches) for part in file.parts([number])]
    assert pl.from_arrow(pa.Table.from_batches(parts)).equals(rows)
