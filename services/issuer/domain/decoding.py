"""DER, read strictly: what is not exactly as it has to be raises ValueError (X.690 section 10)."""

from typing import Final

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
BOOLEAN: Final = 0x01
SEQUENCE: Final = 0x30
MOST_LENGTH_OCTETS: Final = 3
"""More than any request here has."""


def explicit(number: int) -> int:
    """Return the tag of a constructed, context-specific element."""
    return 0xA0 | number


class Reader:
    """Reads elements one after another."""

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = start
        self._end = len(data) if end is None else end

    @property
    def more(self) -> bool:
        """Return whether anything is left."""
        return self._at < self._end

    def next_is(self, tag: int) -> bool:
        """Return whether the next element has this tag."""
        return self.more and self._data[self._at] == tag

    def inside(self, tag: int) -> "Reader":
        """Return a reader of the next element's content, and go on behind it."""
        start, end = self._content(tag)
        self._at = end
        return Reader(self._data, start, end)

    def content(self, tag: int) -> bytes:
        """Return the next element's content, and go on behind it."""
        start, end = self._content(tag)
        self._at = end
        return self._data[start:end]

    def whole(self, tag: int) -> bytes:
        """Return the next element with its header, and go on behind it."""
        begin = self._at
        _, self._at = self._content(tag)
        return self._data[begin : self._at]

    def integer(self) -> int:
        """Return the next element, which is an INTEGER in its shortest form."""
        octets = self.content(INTEGER)
        if not octets or (len(octets) > 1 and octets[0] in {0, 0xFF} and not _needed(octets)):
            raise ValueError("not an INTEGER in DER")
        return int.from_bytes(octets, signed=True)

    def finish(self) -> None:
        """Make sure that nothing is left."""
        if self.more:
            raise ValueError("more than there should be")

    def _content(self, tag: int) -> tuple[int, int]:
        """Return where the next element's content begins and ends."""
        if self._end - self._at < 2:  # noqa: PLR2004 - tag and length
            raise ValueError("cut off")
        if self._data[self._at] != tag:
            raise ValueError(f"tag {self._data[self._at]:#x} where {tag:#x} should be")
        size, start = self._data[self._at + 1], self._at + 2
        if size >= 0x80:  # noqa: PLR2004 - the long form
            octets, start = size & 0x7F, start + (size & 0x7F)
            if not 0 < octets <= MOST_LENGTH_OCTETS or start > self._end:
                raise ValueError("no length of DER")
            size = int.from_bytes(self._data[start - octets : start])
            if size < 0x80 or size.bit_length() <= 8 * (octets - 1):  # noqa: PLR2004 - as above
                raise ValueError("a length that is too long")
        if start + size > self._end:
            raise ValueError("cut off")
        return start, start + size


def _needed(octets: bytes) -> bool:
    """Return whether the first octet of an INTEGER carries the sign."""
    return (octets[0] == 0) == (octets[1] >= 0x80)  # noqa: PLR2004 - the sign bit
