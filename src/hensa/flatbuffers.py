"""Tables in FlatBuffers (flatbuffers.dev/internals), read where they lie in a message. Nothing of that is trusted."""

import struct

__all__ = ["Table"]


class Table:
    """A table, whose fields are known by their numbers.

    Parameters
    ----------
    data : bytes
        Of the message.
    start : int, optional
        Where the table is; without it, it is the one that the message is.

    Attributes
    ----------
    start : int
        Where it is.

    Raises
    ------
    struct.error
        Something is said to be where the message is not; so do the methods.
    """

    def __init__(self, data: bytes, start: int | None = None) -> None:
        self._data = data
        self.start = self._get("<I", 0) if start is None else start
        fields = self.start - self._get("<i", self.start)
        self._offsets = struct.unpack_from(f"<{self._get('<H', fields) // 2}H", data, fields)[2:]

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return field < len(self._offsets) and self._offsets[field] > 0

    def number(self, field: int, format: str) -> int:
        """A number; 0 if it is not there."""
        return self._get(format, self.start + self._offsets[field]) if self.has(field) else 0

    def table(self, field: int) -> "Table":
        """A table, which must be there."""
        return Table(self._data, self._pointed(field))

    def structs(self, field: int, format: str) -> list[tuple[int, ...]]:
        """Structs or numbers, one after another; none if they are not there."""
        if not self.has(field):
            return []
        start = self._pointed(field)
        size = self._get("<I", start) * struct.calcsize(format)
        return list(struct.iter_unpack(format, self._data[start + 4 :][:size]))

    def _pointed(self, field: int) -> int:
        if not self.has(field):
            raise struct.error
        place: int = self.start + self._offsets[field]
        return place + self._get("<I", place)

    def _get(self, format: str, place: int) -> int:
        (number,) = struct.unpack_from(format, self._data, place)
        return int(number)
