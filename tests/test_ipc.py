"""Arrow files read a part at a time: the rows that pyarrow reads, in bounded memory, and errors for what is damaged."""

import io
import random
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest

from hensa import ipc
from hensa.ipc import ArrowFile

N = 300
NUMBERS = np.arange(N)
WORDS = [None if i % 7 == 3 else "ä" * (i % 11) + str(i) for i in range(N)]
COLUMNS = {
    **{str(kind): pa.array(NUMBERS % 100, kind) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())},
    "floats": pa.array(NUMBERS / 3, mask=NUMBERS % 5 == 0),
    "halves": pa.array((NUMBERS / 4).astype(np.float16)),
    "bools": pa.array([None, True, False] * (N // 3)),
    "nothing": pa.nulls(N),
    **{
        str(kind): pa.array([None, Decimal("-1.25"), Decimal("99.5")] * (N // 3), kind)
        for kind in (pa.decimal32(4, 2), pa.decimal64(9, 3), pa.decimal128(38, 2), pa.decimal256(50, 2))
    },
    **{str(kind): pa.array(WORDS, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{str(kind): pa.array(WORDS, kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    "codes": pa.array([b"abc", None, b"xyz"] * (N // 3), pa.binary(3)),
    "days": pa.array(NUMBERS.astype(np.int32), pa.date32()),
    "times": pa.array(NUMBERS, pa.timestamp("us", "Asia/Tokyo")),
    "spans": pa.array([(1, 2, 3), None, (4, 5, 6)] * (N // 3), pa.month_day_nano_interval()),
    "sites": pa.array(WORDS).dictionary_encode(),
    "few": pa.array(["a", None, "b"] * (N // 3), pa.dictionary(pa.int8(), pa.large_string(), ordered=True)),
    "lists": pa.array([[1, None], None, []] * (N // 3), pa.list_(pa.int64())),
    "three": pa.array([[1, 2, 3], None, [4, 5, 6]] * (N // 3), pa.list_(pa.int16(), 3)),
    "views": pa.array([["a"], None, ["b", "c"]] * (N // 3), pa.list_view(pa.string_view())),
    "maps": pa.array([[("a", 1)], None, []] * (N // 3), pa.map_(pa.string(), pa.int8())),
    "structs": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}] * (N // 3)),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([100, N], pa.int32()), pa.array(["a", "b"])),
    "sparse": pa.UnionArray.from_sparse(pa.array(NUMBERS % 2, pa.int8()), [pa.array(NUMBERS), pa.array(WORDS)]),
    "dense": pa.UnionArray.from_dense(
        pa.array(NUMBERS % 2, pa.int8()), pa.array(NUMBERS, pa.int32()), [pa.array(NUMBERS), pa.array(WORDS)]
    ),
    "keys": pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([UUID(int=i).bytes for i in range(N)], pa.uuid().storage_type)
    ),
    "last": pa.array(NUMBERS),
}
ROWS = pa.RecordBatch.from_arrays(list(COLUMNS.values()), list(COLUMNS))
HELD = {"sites", "few", "lists", "three", "views", "maps", "structs", "runs", "sparse", "dense"} | {
    "string_view",
    "binary_view",
}
POOLS = {compression: pa.proxy_memory_pool(pa.default_memory_pool()) for compression in (None, "lz4", "zstd")}
"""They outlive all that is taken from them."""


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch):
    monkeypatch.setattr(ipc, "PART", 64)


def data_of(*batches, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        for batch in batches:
            file.write_batch(batch)
    return sink.getvalue().to_pybytes()


def opened(data):
    return ArrowFile(pa.BufferReader(data))


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("names", [None, {"last", "sites", "lists", "bools"}, {"last", "utf8", "string", "floats"}])
def test_rows_of_any_type_are_those_that_pyarrow_reads(compression, names):
    batches = [ROWS, ROWS.slice(5, 201), ROWS.slice(1, 3), ROWS.slice(9, 0), ROWS.slice(64, 128)]
    file = opened(data_of(*batches, compression=compression))
    assert file.schema == ROWS.schema
    assert file.num_batches == len(batches)
    wanted = [name for name in ROWS.schema.names if names is None or name in names]
    for number, batch in enumerate(batches):
        parts = list(file.parts([number], names))
        assert [part.num_rows for part in parts] == [min(64, len(batch) - at) for at in range(0, len(batch) or 1, 64)]
        found = pa.Table.from_batches(parts)
        assert found.schema == batch.select(wanted).schema
        assert found.to_pylist() == batch.select(wanted).to_pylist()


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_rows_are_read_from_any_multiple_of_8_on(compression):
    file = opened(data_of(ROWS, compression=compression))
    for start, most in ((0, 8), (8, 100), (64, 64), (296, 4), (288, 100), (136, None)):
        parts = pa.Table.from_batches(file.parts([0], None, start, most))
        assert parts.to_pylist() == ROWS.slice(start, most).to_pylist()


def test_dictionaries_that_grow_are_read():
    first = pa.record_batch({"site": pa.array(["a", "b"] * 50).dictionary_encode()})
    more = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1] * 50, pa.int32()), pa.array(["a", "b", "c"]))
    second = pa.record_batch({"site": more})
    file = opened(data_of(first, second, emit_dictionary_deltas=True))
    found = [value for number in (0, 1) for part in file.parts([number]) for value in part["site"].to_pylist()]
    assert found == first["site"].to_pylist() + second["site"].to_pylist()


def test_dictionaries_are_read_by_the_schema_of_the_footer():
    """Files from Polars have no message of it, and in those from Rust the messages do not begin at byte 8."""
    data = data_of(ROWS)
    end = 16 + int.from_bytes(data[12:16], "little")
    parts = opened(data[:8] + bytes(end - 8) + data[end:]).parts([0])
    assert pa.Table.from_batches(parts).to_pylist() == ROWS.to_pylist()


@pytest.mark.parametrize("options", [{"metadata_version": pa.ipc.MetadataVersion.V4}, {"use_legacy_format": True}])
def test_files_as_earlier_versions_of_arrow_wrote_them_are_read(options):
    parts = opened(data_of(ROWS, **options)).parts([0])
    assert pa.Table.from_batches(parts).to_pylist() == ROWS.to_pylist()


def test_what_has_to_be_in_memory_as_a_whole_is_told():
    for compression in (None, "lz4"):
        group, short = opened(data_of(ROWS, ROWS.slice(0, 64), compression=compression)).groups()
        assert set(group.names) == HELD
        assert (group.rows, group.is_cut) == (N, compression is None)
        assert group.held >= sum(ROWS[name].nbytes for name in HELD - {"sites", "few"})
        assert (short.rows, short.held, short.names) == (64, 0, ())


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_no_more_than_parts_of_a_batch_are_in_memory(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(ipc, "PART", 1 << 12)
    monkeypatch.setattr(ipc, "AHEAD", 1 << 16)
    n = 1 << 19
    texts = pa.Array.from_buffers(
        pa.string(), n, [None, pa.py_buffer(np.arange(n + 1, dtype=np.int32) * 20), pa.py_buffer(b"0123456789" * 2 * n)]
    )
    rows = pa.record_batch({"x": np.arange(n), "y": np.arange(n) % 100, "text": texts})
    (tmp_path / "rows.arrow").write_bytes(data_of(rows, compression=compression))
    before = pa.default_memory_pool()
    pa.set_memory_pool(POOLS[compression])
    try:
        with pa.OSFile(str(tmp_path / "rows.arrow")) as source:
            file = ArrowFile(source)
            assert [group.rows for group in file.groups()] == [n]
            assert sum(part.num_rows for part in file.parts([0])) == n
    finally:
        pa.set_memory_pool(before)
    assert rows.nbytes == n * (8 + 8 + 4 + 20)
    assert POOLS[compression].max_memory() < rows.nbytes / 20


def test_parts_are_read_many_at_a_time():
    class Counting(io.BytesIO):
        count = 0

        def read(self, size=-1):
            self.count += 1
            return super().read(size)

    rows = pa.record_batch({"x": np.arange(100_000), "y": np.arange(100_000)})
    source = Counting(data_of(rows))
    file = ArrowFile(pa.PythonFile(source, mode="r"))
    opening = source.count
    assert sum(part.num_rows for part in file.parts([0])) == 100_000  # 1,563 parts
    assert source.count - opening <= 5


def outcome(data):
    """The rows, or the error, which must be one that is told in a sentence."""
    try:
        file = opened(data)
        groups = list(file.groups())
        parts = [part for number in range(len(groups)) for part in file.parts([number])]
        for part in parts:
            part.validate(full=True)
        return sum(part.num_rows for part in parts)
    except (pa.ArrowException, OSError, UnicodeError) as error:  # the last of a name that is no text
        return str(error)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_file_with_any_byte_changed_or_cut_off_anywhere_is_an_error_or_has_valid_rows(compression):
    rows = ROWS.select(["int32", "bools", "string", "sites", "lists", "last"])
    whole = data_of(rows, rows.slice(0, 100), compression=compression)
    assert outcome(whole) == N + 100
    chance = random.Random(1)
    found = []
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 127, 128, 255, chance.randrange(256)])
        found.append(outcome(bytes(data)))
    found += [outcome(whole[:size]) for size in range(0, len(whole), 97)]
    errors = {each for each in found if isinstance(each, str)}
    assert len(errors) > 20
    assert not any("\n" in error.strip() for error in errors)


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "rows.arrow"
    path.write_bytes(data_of(ROWS))
    for names in ({"last"}, {"string"}, {"lists"}):
        path.write_bytes(data_of(ROWS))
        with pa.OSFile(str(path)) as source:
            parts = ArrowFile(source).parts([0], names)
            with path.open("r+b") as file:
                file.truncate(100)
            with pytest.raises((pa.ArrowInvalid, OSError)):
                list(parts)


def test_more_rows_than_there_are_bytes_are_refused_before_they_are_read():
    rows = pa.record_batch({"x": np.arange(1000)})
    data = data_of(rows)
    said = (1000).to_bytes(8, "little")
    assert data.count(said) >= 2  # of the batch, and of its column
    with pytest.raises(pa.ArrowInvalid, match="record batch 0 is damaged: column 'x' is shorter than its"):
        list(opened(data.replace(said, (1 << 40).to_bytes(8, "little"))).groups())
