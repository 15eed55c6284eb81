"""Parquet files that are put together from columns encoded apart: what every reader makes of them."""

import io
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hensa import parquet

N = 1000
NUMBERS = np.random.default_rng(7).integers(-(2**63), 2**63 - 1, N, dtype=np.int64, endpoint=True)
NUMBERS[:4] = [-(2**63), 2**63 - 1, -(2**63), 0]  # differences that wrap around
TABLE = pa.table(
    {
        **{f"{type}": pa.array(NUMBERS).cast(type, safe=False) for type in (pa.int8(), pa.int16(), pa.int32())},
        **{f"{type}": pa.array(NUMBERS).cast(type, safe=False) for type in (pa.uint8(), pa.uint32(), pa.uint64())},
        "int64": pa.array(NUMBERS, mask=NUMBERS % 3 == 0),
        "a.b": pa.array(range(N), pa.int32()),
        "float64": pa.array(NUMBERS / 7.0),
        "bool": pa.array(NUMBERS > 0),
        "all null": pa.nulls(N, pa.int64()),
        "nothing": pa.nulls(N),
        "date": pa.array([date(1, 1, 1), date(9999, 12, 31), None, date(2019, 10, 1)] * (N // 4)),
        "time": pa.array([datetime(2019, 10, 1, 1, 2, 3, 4), None] * (N // 2), pa.timestamp("us", "Asia/Tokyo")),
        "nanoseconds": pa.array(NUMBERS[: N // 2].repeat(2), pa.timestamp("ns")),
        "duration": pa.array(range(N), pa.duration("s")),
        "decimal": pa.array([Decimal("0.01"), None] * (N // 2), pa.decimal128(38, 2)),
        "text": pa.array(["ハピタス", "", None, "a"] * (N // 4)),
        "word": pa.array(["x", "y", None, "x"] * (N // 4)).dictionary_encode(),
        "list": pa.array([[1, 2], [], None, [None]] * (N // 4), pa.list_(pa.field("element", pa.int64()))),
        "struct": pa.array([{"a": 1, "b": "x"}, None] * (N // 2)),
    }
)
TABLE = TABLE.replace_schema_metadata({"month": "2019-10"})


def written(table, threads=2, parts=None):
    """The bytes of a file with these parts, and the rows told of."""
    file, told = io.BytesIO(), []
    parquet.write(file, table.schema, [table] if parts is None else parts, told.append, threads)
    return file.getvalue(), told


def by_pyarrow(table):
    """The file that pyarrow writes of a table, in as many row groups."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        for start in range(0, table.num_rows, parquet.ROW_GROUP):
            writer.write_table(table.slice(start, parquet.ROW_GROUP))
    return sink.getvalue()


@pytest.fixture
def small_groups(monkeypatch):
    """Twenty-five row groups: more than fit in the head of a list of the footer."""
    monkeypatch.setattr(parquet, "ROW_GROUP", 40)


def test_every_type_comes_back_with_its_metadata_and_checksums(small_groups):
    data, _ = written(TABLE)
    read = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
    read.validate(full=True)
    assert read.equals(TABLE, check_metadata=True)


@pytest.mark.parametrize("column", range(TABLE.num_columns), ids=TABLE.column_names)
def test_each_column_of_each_row_group_is_found_by_itself(small_groups, column):
    data, _ = written(TABLE)
    file = pq.ParquetFile(io.BytesIO(data))
    for group in range(25):
        name = TABLE.column_names[column]
        assert file.read_row_group(group).select([name]).equals(TABLE.slice(group * 40, 40).select([name]))


def test_the_footer_says_what_the_footer_of_pyarrow_says(small_groups):
    ours, theirs = (pq.read_metadata(io.BytesIO(data)) for data in (written(TABLE)[0], by_pyarrow(TABLE)))
    assert ours.schema.equals(theirs.schema)
    assert ours.metadata == theirs.metadata
    assert (ours.num_rows, ours.num_row_groups) == (theirs.num_rows, theirs.num_row_groups) == (N, 25)
    for group in range(25):
        our_group, their_group = ours.row_group(group), theirs.row_group(group)
        assert our_group.num_rows == their_group.num_rows
        for column in range(our_group.num_columns):
            our_column, their_column = our_group.column(column), their_group.column(column)
            assert our_column.path_in_schema == their_column.path_in_schema
            assert our_column.statistics == their_column.statistics
            assert our_column.compression == "ZSTD"


def test_chunks_lie_one_after_another_from_the_magic_to_the_footer(small_groups):
    data, _ = written(TABLE)
    metadata = pq.read_metadata(io.BytesIO(data))
    at = 4
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        assert group.total_byte_size == sum(group.column(i).total_uncompressed_size for i in range(group.num_columns))
        for column in map(group.column, range(group.num_columns)):
            assert (column.dictionary_page_offset or column.data_page_offset) == at
            at += column.total_compressed_size
    assert at == len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def test_the_threads_do_not_change_a_byte(small_groups):
    assert written(TABLE, 1) == written(TABLE, 2) == written(TABLE, 7)


def test_the_rows_of_each_row_group_are_told_in_order(small_groups):
    parts = [TABLE.slice(0, 90), TABLE.slice(90, 0), TABLE.slice(90, 7)]
    data, told = written(TABLE, parts=parts)
    assert told == [40, 40, 10, 7]
    assert pq.read_table(io.BytesIO(data)).equals(TABLE.slice(0, 97))


@pytest.mark.parametrize("parts", [[], [TABLE.slice(0, 0)]], ids=["no table", "a table of no rows"])
def test_no_rows_leave_the_schema(parts):
    data, told = written(TABLE, parts=parts)
    assert pq.read_table(io.BytesIO(data)).equals(TABLE.slice(0, 0), check_metadata=True)
    assert told == []


def test_a_table_of_another_schema_is_an_error():
    with pytest.raises(ValueError, match="in a file of"):
        written(TABLE, parts=[TABLE, TABLE.select(["int64"])])


def test_an_error_of_the_tables_is_raised_as_it_is():
    def parts():
        yield TABLE
        raise InterruptedError("half-way")

    with pytest.raises(InterruptedError, match="half-way"):
        written(TABLE, parts=parts())


def test_whole_numbers_are_differences_and_the_rest_a_dictionary():
    columns = {
        column["path_in_schema"]: column["encodings"]
        for column in pq.read_metadata(io.BytesIO(written(TABLE)[0])).row_group(0).to_dict()["columns"]
    }
    for name in ("int8", "int64", "uint64", "a.b", "date", "time", "nanoseconds", "duration"):
        assert set(columns[name]) == {"DELTA_BINARY_PACKED", "RLE"}
    for name in ("float64", "decimal", "text", "word"):
        assert "RLE_DICTIONARY" in columns[name]


def test_polars_and_duckdb_read_the_same_numbers(small_groups, tmp_path):
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    table = TABLE.select(["int8", "int16", "int32", "uint8", "uint32", "uint64", "int64", "a.b", "float64", "bool"])
    path = tmp_path / "numbers.parquet"
    path.write_bytes(written(table)[0])
    assert polars.read_parquet(path).to_arrow().equals(table.replace_schema_metadata())
    assert duckdb.sql(f"FROM '{path}'").to_arrow_table().equals(table.replace_schema_metadata())
