"""Chunks: how many rows one transaction takes, and where each chunk begins in the file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from spanctl.errors import UsageError
from spanctl.flows.reading import Mark, Record
from spanctl.spanner.limits import MAX_MUTATIONS, most

if TYPE_CHECKING:
    from spanctl.spanner.catalog import Table

DEFAULT_ROWS = 100
"""Fastest on the emulator with a change stream; far from Spanner's limits."""

CHUNK_BYTES = 4 * 1024 * 1024
_FOR_THE_RECEIPT = 200
_MAX_MARKS = 1024


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records that one transaction writes."""

    number: int
    records: Sequence[Record]

    @property
    def mark(self) -> Mark:
        """Where it begins."""
        return Mark(self.records[0].start, self.records[0].line)

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.records[-1].end


def rows_per_chunk(table: "Table", columns: Sequence[str], wanted: int | None = None) -> int:
    """Return how many rows a chunk takes.

    Raises:
        UsageError: The wanted number doesn't fit into a commit.
    """
    each = most(table, columns)
    fit = max(1, (MAX_MUTATIONS - _FOR_THE_RECEIPT) // each)
    if wanted is None:
        return min(DEFAULT_ROWS, fit)
    if not 1 <= wanted <= fit:
        msg = (
            f"a commit takes 1 to {fit:,} rows of {len(columns)} columns of {table.name}: each"
            f" counts up to {each:,} of {MAX_MUTATIONS:,} mutations, with its index entries"
        )
        raise UsageError(msg, hint=f"leave it at {min(DEFAULT_ROWS, fit)} unless you measured")
    return wanted


def cut(
    records: Iterable[Record], rows: int, *, first: int = 0, size: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """Cut records into chunks: the same records give the same chunks.

    Args:
        records: What to cut, from the start of chunk ``first``.
        rows: Records in a chunk, bad ones included.
        first: The number of the first chunk.
        size: A chunk also ends when it has so many bytes.
    """
    part: list[Record] = []
    for record in records:
        part.append(record)
        if len(part) == rows or record.end - part[0].start >= size:
            yield Chunk(first, part)
            first += 1
            part = []
    if part:
        yield Chunk(first, part)


@dataclass(slots=True)
class Marks:
    """Where chunks begin: of every chunk in a small file, of every n-th in a large one.

    Attributes:
        stride: Each mark is so many chunks from the one before it.
        marks: Chunk 0's, chunk ``stride``'s, and so on; at most 1,024.
    """

    stride: int = 1
    marks: list[Mark] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Note the next chunk; chunks come in order."""
        if chunk.number % self.stride == 0:
            self.marks.append(chunk.mark)
        if len(self.marks) > _MAX_MARKS:
            self.marks = self.marks[::2]
            self.stride *= 2

    def before(self, number: int) -> tuple[int, Mark | None]:
        """Return the nearest marked chunk that doesn't come after a chunk, and its mark."""
        index = min(number // self.stride, len(self.marks) - 1)
        if index < 0:
            return 0, None
        return index * self.stride, self.marks[index]

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON-able data."""
        return {"stride": self.stride, "marks": [list(mark) for mark in self.marks]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(data["stride"], [Mark(*mark) for mark in data["marks"]])
