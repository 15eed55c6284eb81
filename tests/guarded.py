"""Buffers between pages that may not be touched: one byte read or written beside them ends the process (POSIX)."""

import ctypes
import mmap

import numpy as np
import pyarrow as pa

_PAGE = mmap.PAGESIZE


def guarded(data: bytes, at_end: bool = True, before: int = 0) -> pa.Buffer:
    """A copy of the data that ends, or else starts, where such a page does; the page also covers the data's first
    `before` bytes, those of the rows before a slice."""
    needed = data[before:]
    n_pages = -(-len(needed) // _PAGE)
    memory = mmap.mmap(-1, (n_pages + 2) * _PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + _PAGE
    start = first + (n_pages * _PAGE - len(needed) if at_end else 0)
    ctypes.memmove(start, needed, len(needed))
    protect = ctypes.CDLL(None, use_errno=True).mprotect  # 0 is PROT_NONE
    for page in (first - _PAGE, first + n_pages * _PAGE):
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(_PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    return pa.foreign_buffer(start - before, len(data), memory)


def values_of(type_: pa.DataType, numbers: np.ndarray) -> bytes:
    """The values buffer of an Arrow array of these integers (of decimals: their digits; of bool: their last bits)."""
    if pa.types.is_boolean(type_):
        return np.packbits(numbers & 1, bitorder="little").tobytes()
    if pa.types.is_decimal128(type_):
        return np.column_stack([numbers, numbers >> 63]).astype("<i8").tobytes()
    kind = "f" if pa.types.is_floating(type_) else "u" if pa.types.is_unsigned_integer(type_) else "i"
    return numbers.astype(f"<{kind}{type_.bit_width // 8}").tobytes()


def array_of(type_: pa.DataType, values: bytes, valid: bytes | None, offset: int, length: int, place) -> pa.Array:
    """A slice of an array; ``place(bytes, before)`` makes a buffer of which the first `before` bytes are not needed."""
    skipped = offset // 8 if pa.types.is_boolean(type_) else offset * (type_.bit_width // 8)
    buffers = [None if valid is None else place(valid, offset // 8), place(values, skipped)]
    return pa.Array.from_buffers(type_, length, buffers, offset=offset)
