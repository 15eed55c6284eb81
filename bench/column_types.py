"""Every type of column, dense, with nulls and sliced: the bytes per second relative to dense int32."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

import hensa

from . import page
from .data import BASE, MEASURES, SEED
from .timing import Settings, medians, progress

Values = Callable[[int, np.random.Generator], np.ndarray]
FLOOR = 0.6  # of the dense int32 path per byte: what is below is printed bold


def counts(rows: int, random: np.random.Generator) -> np.ndarray:
    """Heavy-tailed counts that every type holds."""
    return np.minimum(random.pareto(1.2, rows), 100).astype(np.int64)


def whole(bits: int, *, signed: bool) -> Values:
    """Any value of an integer type, each as likely."""

    def values(rows: int, random: np.random.Generator) -> np.ndarray:
        low = -(2 ** (bits - 1)) if signed else 0
        return random.integers(low, low + 2**bits - 1, rows, dtype=f"{'' if signed else 'u'}int{bits}", endpoint=True)

    return values


def decimals(values: np.ndarray, high: np.ndarray | int) -> np.ndarray:
    """The two words of decimal128 for each value: the low one, and the high one, which has the sign."""
    return np.column_stack([values, np.broadcast_to(high, len(values))]).astype(np.int64)


KINDS: dict[str, tuple[pa.DataType, Values]] = {
    **{
        str(type_): (type_, lambda rows, random, type_=type_: counts(rows, random).astype(type_.to_pandas_dtype()))
        for type_ in (
            *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
            *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        )
    },
    "float32": (pa.float32(), lambda rows, random: (counts(rows, random) * 1.1).astype(np.float32)),
    "float64": (pa.float64(), lambda rows, random: counts(rows, random) * 1.1),
    "bool": (pa.bool_(), lambda rows, random: np.packbits(counts(rows, random) % 2 == 1, bitorder="little")),
    "decimal128": (pa.decimal128(18, 2), lambda rows, random: decimals(counts(rows, random) * 101, 0)),
    "int32, full range": (pa.int32(), whole(32, signed=True)),
    "int64, full range": (pa.int64(), whole(64, signed=True)),
    "uint64, full range": (pa.uint64(), whole(64, signed=False)),
    "decimal128, beyond 64 bits": (
        pa.decimal128(38, 2),
        lambda rows, random: decimals(whole(64, signed=True)(rows, random), random.integers(-(2**62), 2**62, rows)),
    ),
}

# By name: the share of nulls, or None without a validity bitmap, and the rows cut off at the front.
SHAPES: dict[str, tuple[float | None, int]] = {
    "dense": (None, 0),
    "all valid, with bitmap": (0.0, 0),
    "1% null": (0.01, 0),
    "50% null": (0.5, 0),
    "sliced at 3": (None, 3),
    "1% null, sliced at 3": (0.01, 3),
}


def column(kind: str, shape: str, rows: int, random: np.random.Generator) -> pa.Array:
    type_, values = KINDS[kind]
    nulls, cut = SHAPES[shape]
    bitmap = None
    if nulls is not None:
        bitmap = pa.py_buffer(np.packbits(random.random(rows + cut) >= nulls, bitorder="little"))
    buffer = pa.py_buffer(np.ascontiguousarray(values(rows + cut, random)))
    return pa.Array.from_buffers(type_, rows + cut, [bitmap, buffer]).slice(cut)


def rows_of(kind: str, shape: str, rows: int) -> pa.Table:
    """Two measures of a kind and a shape; the base is int64, sliced alike, and has no nulls."""
    random = np.random.default_rng(SEED)
    measures = {name: column(kind, shape, rows, random) for name in MEASURES}
    cut = SHAPES[shape][1]
    return pa.table({**measures, BASE: pa.array(random.integers(0, 10**6, rows + cut)).slice(cut)})


def bytes_of(kind: str, shape: str, rows: int) -> tuple[float, float]:
    """The bytes that must move in pass 1, and in both passes: values and bitmaps, read and written."""
    bitmap = 0 if SHAPES[shape][0] is None else 1 / 8
    measures = 2 * (KINDS[kind][0].bit_width / 8 + bitmap)
    return rows * measures, rows * (2 * measures + 8 + 24 + bitmap)


@dataclass(frozen=True)
class Kinds:
    """Bytes per second of dense int32, and by kind and shape the bytes per second relative to it, of each job."""

    rows: int
    dense: tuple[float, float]
    relative: dict[tuple[str, str], tuple[float, float]]


def measure(given: Settings) -> Kinds:
    rows = given.rows or (1_000_000 if given.quick else 10_000_000)
    rounds = given.rounds or (3 if given.quick else 5)
    program = hensa.Program.load("hapitas-friend")
    yardstick = rows_of("int32", "dense", rows)
    jobs = (hensa.population, hensa.score)
    speeds: list[tuple[float, float]] = []
    relative = {}
    for kind in KINDS:
        progress(f"{kind} of {len(KINDS)} kinds")
        for shape in SHAPES:
            table = rows_of(kind, shape, rows)
            calls = {
                (job.__name__, which): partial(job, which_rows, program)
                for job in jobs
                for which, which_rows in (("this", table), ("int32", yardstick))
            }
            seconds = medians(calls, rounds)
            dense, this = (
                tuple(
                    moved / seconds[job.__name__, which] for job, moved in zip(jobs, bytes_of(*what, rows), strict=True)
                )
                for which, what in (("int32", ("int32", "dense")), ("this", (kind, shape)))
            )
            speeds.append(dense)
            relative[kind, shape] = (this[0] / dense[0], this[1] / dense[1])
    return Kinds(rows, tuple(np.median(speeds, axis=0)), relative)


def render(found: Kinds) -> page.Page:
    def cell(shares: tuple[float, float]) -> str:
        return " · ".join(f"**{share:.0%}**" if share < FLOOR else f"{share:.0%}" for share in shares)

    lines = ([kind, *(cell(found.relative[kind, shape]) for shape in SHAPES)] for kind in KINDS)
    low = sum(share < FLOOR for shares in found.relative.values() for share in shares)
    return page.Page(f"""\
## Every type of column

{page.provenance(f"types --rows {found.rows}")}

Bytes per second relative to dense int32 ({found.dense[0] / 1e9:.1f} GB/s in pass 1, {found.dense[1] / 1e9:.1f} in both
passes), pass 1 alone · both passes. Two measures of the type, an int64 base without nulls, fresh outputs,
{found.rows:,} rows; medians, each in turn with dense int32. The bytes are those of the values and of the validity
bitmaps, read once in pass 1 and again in pass 2, and of the results. {low} of {2 * len(found.relative)} figures are
below {FLOOR:.0%}, in bold. Counts are below 101, *full range* is any value of the type; bool is a bit a value.

{page.table(["measures", *SHAPES], lines)}""")
