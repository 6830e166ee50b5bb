"""Finding keys that occur twice in a file of any size, in bounded memory.

Digests of keys are spread over 256 parts of one temporary file, and each part is looked through on
its own: equal keys are in the same part. It takes 40 bytes of disk a row.
"""

import hashlib
import struct
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from spanctl.closing import Closing
from spanctl.flows.reading import Record

_ENTRY = struct.Struct(">16sQQQ")  # digest, line, start, end
_PARTS = 256
_FLUSH = 512 * _ENTRY.size


class Duplicate(NamedTuple):
    """A record whose key an earlier line has; its fields are not kept."""

    record: Record
    first_line: int


class KeyFinder(Closing):
    """Takes the keys of records and finds those that came before; a context manager."""

    def __init__(self) -> None:
        """Start with no keys."""
        self._file = tempfile.TemporaryFile(prefix="spanctl-keys-")  # noqa: SIM115 - closed by close()
        self._buffers = [bytearray() for _ in range(_PARTS)]
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]

    def add(self, key: bytes, record: Record) -> None:
        """Take a record's key."""
        digest = hashlib.blake2b(key, digest_size=16).digest()
        buffer = self._buffers[digest[0]]
        buffer += _ENTRY.pack(digest, record.line, record.start, record.end)
        if len(buffer) >= _FLUSH:
            self._places[digest[0]].append((self._file.seek(0, 2), len(buffer)))
            self._file.write(buffer)
            buffer.clear()

    def duplicates(self) -> Iterator[Duplicate]:
        """Yield each record whose key was taken before, once all were added."""
        for part in range(_PARTS):
            seen: dict[bytes, int] = {}
            for digest, line, start, end in self._entries(part):
                first = seen.setdefault(digest, line)
                if first != line:
                    yield Duplicate(Record(line, start, end, None), first)

    def _entries(self, part: int) -> Iterator[tuple[bytes, int, int, int]]:
        for place, size in self._places[part]:
            self._file.seek(place)
            yield from _ENTRY.iter_unpack(self._file.read(size))
        yield from _ENTRY.iter_unpack(self._buffers[part])

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
