"""How large the pages of a Parquet file become, from their own headers.

The footer says so, too, and is the client's word; Arrow makes room for what a page says of itself,
up to 2 GB, out of some kilobytes. The headers are structs in Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md): field 2 of a
PageHeader is the size of its page before, field 3 that after compression. pyarrow shows neither.
"""

from __future__ import annotations

from typing import Any

_BEFORE, _AFTER = 2, 3
_MAX_DEPTH = 8
_MAX_VARINT = 10
_BYTE, _I32 = 3, 5


def uncompressed_bytes(body: bytes, chunk: Any) -> int:
    """What the pages of a column chunk become together.

    Args:
        body: the file.
        chunk: pyarrow's ColumnChunkMetaData.

    Raises:
        ValueError: these are no pages.
    """
    if chunk.num_values == 0:
        return 0  # nothing of it is read, and its offset is none
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
        start = chunk.dictionary_page_offset  # as Arrow has it
    end = start + chunk.total_compressed_size
    if not 0 <= start <= end <= len(body):
        raise ValueError("a column is outside of the file")
    total = pages = 0
    while start < end:
        header = _Header(body, start, end)
        sizes = header.numbers()
        before, after = sizes.get(_BEFORE, -1), sizes.get(_AFTER, -1)
        start = header.position + after
        pages += 1
        if before < 0 or after < 0 or start > end or pages > chunk.num_values + 2:
            raise ValueError("a column's pages do not fit")
        total += before
    return total


class _Header:
    """Reads one struct, and is at its end then."""

    def __init__(self, body: bytes, position: int, end: int) -> None:
        self._body = body
        self._end = end
        self.position = position

    def numbers(self, depth: int = 0) -> dict[int, int]:
        """The 32 bit numbers of a struct by their fields; the other fields are passed over."""
        if depth > _MAX_DEPTH:
            raise ValueError("a page header is too deep")
        found: dict[int, int] = {}
        field = 0
        while kind := (head := self._byte()) & 0x0F:
            field = field + (head >> 4) if head >> 4 else self._number()
            if kind == _I32:
                found[field] = self._number()
            else:
                self._pass_over(kind, depth)
        return found

    def _pass_over(self, kind: int, depth: int) -> None:
        match kind:
            case 1 | 2:  # true and false: the kind is the value
                pass
            case 3:  # a byte
                self._skip(1)
            case 4 | 5 | 6:  # whole numbers
                self._varint()
            case 7:  # a double
                self._skip(8)
            case 8:  # bytes
                self._skip(self._varint())
            case 9 | 10:  # a list, a set
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()  # noqa: PLR2004
                for _ in range(min(count, self._end - self.position + 1)):
                    # In a list a boolean is a byte.
                    self._pass_over(max(head & 0x0F, _BYTE), depth)
            case 12:  # a struct
                self.numbers(depth + 1)
            case _:
                raise ValueError("a page header cannot be read")

    def _byte(self) -> int:
        self._skip(1)
        return self._body[self.position - 1]

    def _skip(self, count: int) -> None:
        self.position += count
        if self.position > self._end:
            raise ValueError("a page header has no end")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 7 * _MAX_VARINT, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004
                return value
        raise ValueError("a number of a page header has no end")

    def _number(self) -> int:
        """A signed number, in zigzag."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
