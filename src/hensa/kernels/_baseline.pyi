"""The interface of every build; what each function does is said in the .pxi files."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

_Exact: TypeAlias = tuple[int, int]
_Welford: TypeAlias = tuple[float, float, float, float, float]

@disjoint_base
class Column:
    has_bitmap: bool
    is_aligned: bool
    def __new__(cls, kind: int, chunks: list[Any]) -> Column: ...

@disjoint_base
class Texts:
    length: int
    def __new__(cls, width: int, array: Any) -> Texts: ...

@disjoint_base
class Known:
    def __new__(cls, n_words: int) -> Known: ...

@disjoint_base
class Tables:
    def __new__(cls, constants: dict[str, Any]) -> Tables: ...

@disjoint_base
class Scorer:
    stopped: bool
    def __new__(
        cls,
        measures: list[Column],
        base: Column | None,
        others: list[Column],
        tables: Tables,
        constants: dict[str, Any],
        decide: Callable[[int], tuple[int, float]],
        pay: Callable[[int, int], int],
    ) -> Scorer: ...
    def run(self, start: int, stop: int, outputs: dict[str, Any]) -> tuple[int, int]: ...

def moments(columns: list[Column], method: bytes, start: int, stop: int) -> tuple[int, list[_Exact | _Welford]]: ...
def merge(states: npt.NDArray[np.float64]) -> _Welford: ...
def span_of(
    column: Column, start: int, stop: int, low_bits: npt.NDArray[np.int32] | None = None
) -> tuple[int, int] | None: ...
def add_digits(
    low_bits: npt.NDArray[np.int32], low: int, span: int, codes: npt.NDArray[np.int32], start: int, stop: int
) -> None: ...
def mark(codes: npt.NDArray[np.int32], present: npt.NDArray[np.uint8], start: int, stop: int) -> None: ...
def renumber(codes: npt.NDArray[np.int32], number: npt.NDArray[np.int32], start: int, stop: int) -> None: ...
def number_texts(chunks: list[Texts], start: int, stop: int, numbers: npt.NDArray[np.int32]) -> tuple[bytes, bytes]: ...
def moments_by(
    measures: list[Column],
    others: list[Column],
    codes: npt.NDArray[np.int32],
    start: int,
    stop: int,
    totals: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None: ...
def small_moments_by(
    measures: list[Column],
    others: list[Column],
    codes: npt.NDArray[np.int32],
    start: int,
    stop: int,
    most: int,
    totals: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None: ...
def doubles(column: Column, out: npt.NDArray[np.float64]) -> None: ...
def welford_by(values: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]) -> list[_Welford]: ...
def exact_floats_by(values: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]) -> list[_Exact]: ...
def constants_by(
    totals: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    scale: float,
    ddof: int,
    smallest: float,
    start: int,
    stop: int,
    numbers: npt.NDArray[np.float64],
    e0: npt.NDArray[np.float64],
    found: npt.NDArray[np.uint8],
) -> None: ...
