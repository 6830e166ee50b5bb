"""What a body does, as the receipt tells it; and its mutations, which go with the commit."""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.cloud.spanner_v1.keyset import KeySet
from google.cloud.spanner_v1.types import Mutation
from google.protobuf.struct_pb2 import ListValue

from spanctl.credentials.secret import Kept
from spanctl.errors import UsageError
from spanctl.ledger.receipt import Statement, StatementKind, changed_rows
from spanctl.ledger.tally import Tally
from spanctl.spanner import values
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.limits import Write


class Recorded(Kept, ABC):
    """The part of a transaction that buffers mutations and keeps count of all it does."""

    _instead = "use it in the body that it was given to, and pass values on"

    def __init__(self) -> None:
        """Start with nothing done."""
        self._turn = threading.RLock()  # bodies may use threads, and begin but one transaction
        self._tally = Tally()
        self._mutations: list[Mutation] = []
        self._writes: Counter[Write] = Counter()
        self._for_ledger = False

    @abstractmethod
    def _check(self) -> None:
        """Raise if the transaction can't be used any more."""

    def _record(self, statement: Statement) -> None:
        self._tally.add(statement)

    @contextmanager
    def writing_ledger(self) -> Iterator[None]:
        """Let the protocol itself write to the ledger inside the block; bodies never do."""
        self._for_ledger = True
        try:
            yield
        finally:
            self._for_ledger = False

    def _refuse_ledger(self, table: str) -> None:
        """Refuse a body that changes the ledger, which would no longer prove anything.

        Raises:
            UsageError: The table is the ledger's.
        """
        if is_ledger(table) and not self._for_ledger:
            msg = f"the body of a transaction changes {table}"
            raise UsageError(msg, hint="the ledger is written by the protocol only")

    def insert(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows at the commit; a row that is there already fails the commit."""
        self._write(StatementKind.INSERT, table, columns, rows)

    def update(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Update rows at the commit; a row that is not there fails the commit."""
        self._write(StatementKind.UPDATE, table, columns, rows)

    def insert_or_update(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Insert rows at the commit, or update the named columns of those that are there."""
        self._write(StatementKind.INSERT_OR_UPDATE, table, columns, rows)

    def replace(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows at the commit; columns that are not named become NULL in those there."""
        self._write(StatementKind.REPLACE, table, columns, rows)

    def delete(self, table: str, keyset: KeySet) -> None:
        """Delete rows at the commit; keys without a row are no error.

        The receipt counts the keys that were sent; nothing is counted for ranges.
        """
        self._refuse_ledger(table)
        sent = keyset._to_pb()  # noqa: SLF001 - see read()
        message = Mutation.Delete(table=table, key_set=sent)
        # Counted in what is sent: of some sets the attributes don't tell.
        exact = not (sent.ranges or sent.all_)
        parts = len(sent.keys) + len(sent.ranges) + bool(sent.all_)
        with self._turn:
            self._check()
            self._mutations.append(Mutation(delete=message))
            self._writes[Write(StatementKind.DELETE, table)] += parts
            self._count(StatementKind.DELETE, table, (), len(sent.keys) if exact else None)

    def _write(
        self,
        kind: StatementKind,
        table: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
    ) -> None:
        self._check()
        self.write_encoded(kind, table, columns, [values.encode_row(row) for row in rows])

    def write_encoded(
        self,
        kind: StatementKind,
        table: str,
        columns: Sequence[str],
        rows: Sequence[ListValue],
    ) -> None:
        """Write rows at the commit whose values were encoded before, as bulk jobs do.

        Raises:
            UsageError: The table is the ledger's, or a row has more or fewer values than there
                are columns.
        """
        self._refuse_ledger(table)
        names = tuple(columns)
        if any(len(row.values) != len(names) for row in rows):
            msg = f"a row for table {table} does not have {len(names)} values"
            raise UsageError(msg, hint="give one value for each column")
        mutation = Mutation.pb(Mutation())
        write = getattr(mutation, kind.value)
        write.table = table
        write.columns.extend(names)
        write.values.extend(rows)
        with self._turn:
            self._check()
            self._mutations.append(Mutation.wrap(mutation))
            self._writes[Write(kind, table, names)] += len(rows)
            self._count(kind, table, names, len(rows))

    def note(self, statement: Statement) -> None:
        """Name a statement in the receipt that runs outside of the transaction, as DDL does."""
        self._check()
        self._record(statement)

    def _count(
        self, kind: StatementKind, table: str, columns: tuple[str, ...], rows: int | None
    ) -> None:
        done = Statement(kind=kind, tables=(table,), parameters=columns, rows=rows)
        self._tally.add(done, once=True)

    @property
    def mutations(self) -> list[Mutation]:
        """What will be sent with the commit."""
        return self._mutations

    @property
    def writes(self) -> Counter[Write]:
        """Rows written by mutation and by DML, for the count against Spanner's limits."""
        return self._writes

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What the body did, in order of first mention, for the receipt."""
        return self._tally.statements

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Rows changed by each changing statement, as its receipt tells them."""
        return changed_rows(self.statements)
