"""What this machine's memory allows: bandwidth for reading, writing and copying, on one thread and on all.

Kernels are Numba loops over int64 arrays, split over threads. Read is a sum (integers, so LLVM spreads it over vector
registers). Write is a constant into every element, once with ordinary stores, which fetch each cache line before they
overwrite it, and once with non-temporal stores, which do not. Copy is an element-wise loop (which LLVM turns into
memcpy), or the same with non-temporal stores, whichever is faster. Pages are touched before the timing, and the best
of several runs counts. Bytes are those that the loop asked for; a line fetched only to be overwritten is not counted.
"""

import time
from dataclasses import dataclass, fields

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LARGE = 2 * 2**30  # bytes: copies are from 1 GiB to 1 GiB
PASS1_BYTES = 8  # per row: two int32 read
PASS2_BYTES = 16 + 24  # per row: two int32 and an int64 read; two float64 and an int64 written
JOB_BYTES = PASS1_BYTES + PASS2_BYTES


@intrinsic
def store_past_cache(typing_context, array, index, value):
    """Write array[index] = value with a store that leaves the caches alone."""

    def build(context, builder, signature, arguments):
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        store = builder.store(arguments[2], builder.gep(data, [arguments[1]]), align=8)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), build


@numba.njit(parallel=True)
def read(array):
    total = 0
    for index in numba.prange(len(array)):
        total += array[index]
    return total


@numba.njit(parallel=True)
def write(array):
    for index in numba.prange(len(array)):
        array[index] = 1


@numba.njit(parallel=True)
def write_past_cache(array):
    for index in numba.prange(len(array)):
        store_past_cache(array, index, 1)


@numba.njit(parallel=True)
def copy(array):
    half = len(array) // 2
    source, destination = array[:half], array[half:]
    for index in numba.prange(half):
        destination[index] = source[index]


@numba.njit(parallel=True)
def copy_past_cache(array):
    half = len(array) // 2
    source, destination = array[:half], array[half:]
    for index in numba.prange(half):
        store_past_cache(destination, index, source[index])


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second of each kernel for one size of memory and one number of threads."""

    size: int
    threads: int
    read: float
    write: float
    write_past_cache: float
    copy: float

    def pass1_seconds(self, rows: int) -> float:
        """Return the least time in which pass 1 can read its columns."""
        return rows * PASS1_BYTES / self.read

    def pass2_seconds(self, rows: int) -> float:
        """Return the least time of pass 2: 16 bytes copied to 16 bytes, and 8 more written, by the faster store."""
        return rows * (32 / self.copy + 8 / max(self.write, self.write_past_cache))

    def job_seconds(self, rows: int) -> float:
        return self.pass1_seconds(rows) + self.pass2_seconds(rows)

    def best(self, other: "Bandwidth") -> "Bandwidth":
        """Take the larger of two measurements of the same thing."""
        return Bandwidth(*(max(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)))


def measure(size: int, threads: int, rounds: int = 5) -> Bandwidth:
    """Measure one working set of `size` bytes.

    >>> measure(2**20, threads=1, rounds=1).read > 0
    True
    """
    array = np.ones(size // 8, dtype=np.int64)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        kernels = (read, write, write_past_cache, copy, copy_past_cache)
        rates = {kernel: len(array) * 8 / best_seconds(kernel, array, rounds) for kernel in kernels}
    finally:
        numba.set_num_threads(before)
    copying = max(rates[copy], rates[copy_past_cache])
    return Bandwidth(array.nbytes, threads, rates[read], rates[write], rates[write_past_cache], copying)


def best_seconds(kernel, array, rounds):
    kernel(array)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        kernel(array)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
