"""Rows that came back from Spanner, with the names and types of their columns."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.streamed import StreamedResultSet
from google.cloud.spanner_v1.types import PartialResultSet, Type
from google.protobuf.struct_pb2 import Value

from spanctl.spanner import values


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """One column of a result: its name (may be empty) and its Spanner type."""

    name: str
    type: Type


class Rows:
    """A result that is read as it arrives, once; iterate it for tuples of Python values."""

    def __init__(
        self,
        parts: Iterator[PartialResultSet],
        told: Callable[[GoogleAPICallError], Exception] | None = None,
    ) -> None:
        """Wrap the parts of a streamed result; the first is read at once, for its columns.

        Args:
            parts: The parts, as they arrive.
            told: Turns an error of Google's client that comes after the first part into the one
                to raise; left out, the error is raised as it came.
        """
        self._told = told
        # Values are decoded here: Google's client leaves BYTES in base64.
        self._result = StreamedResultSet(parts, lazy_decode=True)
        self._rows = iter(self._result)
        self._first: list[Value] | None = next(self._rows, None)
        self._columns = self._described()
        self._decoders = [values.decoder(column.type) for column in self._columns]

    def _described(self) -> tuple[ColumnInfo, ...]:
        metadata = self._result.metadata
        if metadata is None:
            return ()
        return tuple(ColumnInfo(field.name, field.type_) for field in metadata.row_type.fields)

    @property
    def columns(self) -> tuple[ColumnInfo, ...]:
        """The columns, in order."""
        return self._columns

    @property
    def row_count(self) -> int | None:
        """Rows that the statement changed, once all rows were read; None for a query."""
        stats = self._result.stats
        return int(stats.row_count_exact) if stats else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that have not been read yet."""
        if self._first is not None:
            first, self._first = self._first, None
            yield self._decoded(first)
        try:
            for row in self._rows:
                yield self._decoded(row)
        except GoogleAPICallError as error:
            if self._told is None:
                raise
            raise self._told(error) from None

    def _decoded(self, row: list[Value]) -> tuple[Any, ...]:
        return tuple(decode(value) for decode, value in zip(self._decoders, row, strict=True))


class RowList(list[tuple[Any, ...]]):
    """Rows that were read whole.

    Attributes:
        columns: The columns, in order.
    """

    def __init__(
        self, rows: Iterable[tuple[Any, ...]] = (), columns: tuple[ColumnInfo, ...] = ()
    ) -> None:
        """Keep the rows and their columns."""
        super().__init__(rows)
        self.columns = columns


def as_datetime(value: datetime) -> datetime:
    """Return a plain datetime in UTC for the subclass that Google's client returns."""
    moment = value.astimezone(UTC)
    return datetime(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        UTC,
    )
