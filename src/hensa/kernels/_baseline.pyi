"""The interface of every build; what it does is in the .pxi files."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

class Column:
    def __new__(cls, kind: int, length: int, chunks: npt.NDArray[np.int64]) -> Column: ...

class Scorer:
    def __new__(
        cls,
        measures: list[Column],
        base: Column | None,
        others: list[Column],
        constants: dict[str, Any],
        decide: Callable[[int], tuple[int, float]],
        pay: Callable[[int, int], int],
    ) -> Scorer: ...
    def run(self, start: int, stop: int, outputs: dict[str, Any]) -> tuple[int, int]: ...

def moments(
    measures: list[Column],
    others: list[Column],
    welford: npt.NDArray[np.uint8],
    start: int,
    stop: int,
) -> tuple[int, list[tuple[int, int] | tuple[float, float, float, float, float]]]: ...
def merge(states: npt.NDArray[np.float64]) -> tuple[float, float, float, float, float]: ...
