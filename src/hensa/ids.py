"""Ids: the columns that tell rows apart, and the rows of several tables matched by them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hensa.cohorts import encode
from hensa.columns import check_key_type, column_of
from hensa.errors import DataError

__all__ = ["identify", "ids_of", "naming_table", "order_of", "refuse_repeats", "shown_id", "unique_order_of"]


@contextmanager
def naming_table(name: str) -> Iterator[None]:
    """Make errors start with the table that they are about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def ids_of(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The columns of that name, as ids.

    Raises
    ------
    DataError
        A column is missing, null in some row, or of floats or a nested type.
    """
    columns = []
    for name in names:
        column = column_of(table, name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise DataError(f"Column {name!r} is null in row {row}; every row needs an id.")
        check_key_type(kind, f"Column {name!r}", "ids must be")
        if pa.types.is_string(kind):
            column = column.cast(pa.large_string())  # one type for all text, and for more than 2 GB of it
        elif pa.types.is_null(kind):  # of no rows
            column = column.cast(pa.int64())
        columns.append(column)
    return pa.table(columns, names=list(names))


def identify(*tables: pa.Table) -> tuple[list[npt.NDArray[np.int32]], pa.Table]:
    """Number the distinct ids of some tables (of `ids_of`).

    Returns
    -------
    codes : list of array
        Of each table, the number of every row's id.
    distinct : pyarrow.Table
        The ids; the one in row i has the number i.

    Raises
    ------
    DataError
        The ids are of types that do not compare, such as text and integers.
    """
    try:
        # No rows have no ids of another type: those of an empty CSV file are read as integers.
        filled = [table for table in tables if table.num_rows] or tables[:1]
        together = pa.concat_tables(filled, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        kinds = " and ".join(str(kind) for kind in dict.fromkeys(", ".join(map(str, t.schema.types)) for t in tables))
        names = ", ".join(map(repr, tables[0].column_names))
        raise DataError(f"Column {names} is of type {kinds}; ids must be of one type to be matched.") from None
    keys = encode(together, tuple(together.column_names))
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    return np.split(keys.codes, ends), keys.table


def refuse_repeats(codes: npt.NDArray[np.int32], distinct: pa.Table) -> None:
    """Refuse an id that stands in two rows.

    Raises
    ------
    DataError
        With the first row whose id an earlier row has, and that row.
    """
    first = np.full(distinct.num_rows, -1)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several rows the last assigned stays: the first one
    repeated = np.flatnonzero(first[codes] != np.arange(len(codes)))
    if len(repeated):
        row = int(repeated[0])
        _refuse_repeat(row, int(first[codes[row]]), distinct.slice(codes[row], 1))


def order_of(ids: pa.Table) -> npt.NDArray[np.int64]:
    """The order of the rows by ids; equal ones stay in the order of the rows."""
    import pyarrow.compute as pc  # slow to import

    order: npt.NDArray[np.int64] = (
        pc.sort_indices(ids, sort_keys=[(name, "ascending") for name in ids.column_names]).to_numpy().astype(np.int64)
    )
    return order


def unique_order_of(ids: pa.Table) -> npt.NDArray[np.int64]:
    """The order of the rows by their one column of ids, of which none may stand twice.

    Raises
    ------
    DataError
        As of `refuse_repeats`.
    """
    import pyarrow.compute as pc  # slow to import

    order = order_of(ids)
    in_order = ids.column(0).take(pa.array(order))
    repeated = np.flatnonzero(pc.equal(in_order.slice(1), in_order.slice(0, max(len(order) - 1, 0))).to_numpy())
    if len(repeated):
        place = repeated[np.argmin(order[repeated + 1])]
        row, earlier = int(order[place + 1]), int(order[place])
        _refuse_repeat(row, earlier, ids.slice(row, 1))
    return order


def _refuse_repeat(row: int, earlier: int, id_: pa.Table) -> NoReturn:
    raise DataError(f"Row {row} has the id of row {earlier} again ({shown_id(id_)}); every id may stand once.")


def shown_id(ids: pa.Table) -> str:
    """The id of a table's first row, for an error."""
    return ", ".join(f"{name} {value!r:.80}" for name, value in ids.slice(0, 1).to_pylist()[0].items())
