"""A chunk's rows as Spanner's messages, and how one transaction writes them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from spanctl.flows.columns import Mode
from spanctl.flows.converting import OMITTED, Converter
from spanctl.spanner.keysets import encoded_keys
from spanctl.spanner.values import encode_row

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import ListValue

    from spanctl.spanner.catalog import Table
    from spanctl.spanner.rows import RowList, Rows
    from spanctl.spanner.transaction import Transaction


class Batch(NamedTuple):
    """Rows that write the same columns."""

    columns: tuple[str, ...]
    rows: "list[ListValue]"


@dataclass(slots=True)
class Batches:
    """A chunk's rows in their order, cut where the columns that they write change.

    Attributes:
        converter: What made the rows.
        keyed: Whether the keys are kept.
        parts: The rows.
        keys: The primary key of each row, where keys are kept.
    """

    converter: Converter
    keyed: bool = False
    parts: list[Batch] = field(default_factory=list)
    keys: list[list[Any]] = field(default_factory=list)

    def add(self, row: Sequence[Any]) -> None:
        """Take the next row, as the converter made it."""
        columns = self.converter.columns
        if self.converter.sparse and OMITTED in row:
            given = [place for place, value in enumerate(row) if value is not OMITTED]
            columns = tuple(columns[place] for place in given)
            message = encode_row(row[place] for place in given)
        else:
            message = encode_row(row)
        self._append(columns, message)
        if self.keyed:
            self.keys.append(self.converter.key_of(row) or [])

    def _append(self, columns: tuple[str, ...], message: "ListValue") -> None:
        last = self.parts[-1].columns if self.parts else None
        if last is not columns and last != columns:
            self.parts.append(Batch(columns, []))
        self.parts[-1].rows.append(message)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(part.rows) for part in self.parts)

    def write(self, txn: "Transaction", table: "Table", mode: Mode) -> None:
        """Write the rows at the transaction's commit; in mode insert-absent those that are not in.

        Raises:
            SpanctlError: The rows that are there could not be read.
        """
        parts = self._absent(txn, table) if mode is Mode.INSERT_ABSENT else self.parts
        for part in parts:
            txn.write_encoded(mode.kind, table.name, part.columns, part.rows)

    def _absent(self, txn: "Transaction", table: "Table") -> list[Batch]:
        """Return the rows whose key is not there, the first of each key.

        The keys are read with locks: nobody inserts one of them before the commit.
        """
        if not self.keys:
            return []
        read = txn.read(table.name, table.primary_key, encoded_keys(self.keys))
        seen, keys = digested(self.converter, read), iter(self.keys)
        rest = Batches(self.converter)
        for part in self.parts:
            for message, key in zip(part.rows, keys, strict=False):
                if (digest := self.converter.digestible(key)) not in seen:
                    seen.add(digest)
                    rest._append(part.columns, message)
        return rest.parts


def digested(converter: Converter, rows: "Iterable[Sequence[Any]] | Rows | RowList") -> set[bytes]:
    """Return what stands for the primary keys that were read."""
    return {converter.digestible(list(row)) for row in rows}


def keyed(
    converter: Converter, fields: "Iterable[Sequence[str] | dict[str, Any] | None]"
) -> "Iterator[tuple[int, list[Any]]]":
    """Yield the place and the primary key of each of these records that has one."""
    for place, one in enumerate(fields):
        try:
            key = None if one is None else converter.key_of(converter.values(one))
        except ValueError:
            continue
        if key is not None:
            yield place, key
