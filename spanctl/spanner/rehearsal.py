"""A transaction that is executed on the server to be rolled back: it can't commit.

Nothing here makes a Commit, a lease or a receipt. The rows that statements change are told before
and after, a few of them.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from spanctl import interrupts
from spanctl.clock import monotonic
from spanctl.errors import StatementError
from spanctl.spanner import preflight
from spanctl.spanner.attempt import AttemptLostError
from spanctl.spanner.changes import ModType, RowChange
from spanctl.spanner.failures import lost_session, translate
from spanctl.spanner.keysets import encoded_keys
from spanctl.spanner.retrying import Pauses
from spanctl.spanner.transaction import Transaction

if TYPE_CHECKING:
    from google.cloud.spanner_v1.types import Type

    from spanctl.spanner.catalog import Table
    from spanctl.spanner.client import Database
    from spanctl.spanner.rows import RowList
    from spanctl.spanner.sql import SqlStatement

T = TypeVar("T")

SAMPLE: Final = 5
"""So many rows of each table are shown."""

_PAUSE: Final = 0.05
_PENDING: Final = "PENDING_COMMIT_TIMESTAMP"


def rehearse(
    database: "Database",
    body: Callable[[Transaction], T],
    *,
    deadline: float,
    tag: str | None = None,
) -> T:
    """Run a body in a read-write transaction, roll it back, and return what the body returned.

    Args:
        database: Where.
        body: Gets the transaction; it is run again when an attempt is lost.
        deadline: Seconds for all attempts.
        tag: Spanner's transaction tag.

    Raises:
        LimitError: It could not be committed: it is over one of Spanner's limits.
        StatementError: Spanner refused a statement.
        UnreachableError: Spanner did not answer in time.
        Exception: What the body raised.
    """
    until = monotonic() + deadline
    pauses = Pauses(until, first=_PAUSE)
    with database.sessions.writer(deadline, commits=False) as lease:
        while True:
            transaction = Transaction(
                database.rpc,
                database.target,
                lease.name,
                txn_id=str(uuid.uuid4()),
                tag=tag,
                deadline=until,
            )
            try:
                told = body(transaction)
                preflight.check(database.tables, transaction.writes, transaction.mutations)
            except AttemptLostError as lost:
                cause = lost.cause
            else:
                return told
            finally:
                with interrupts.shielded():
                    transaction.rollback()
                lease.lost |= transaction.orphaned
            if not pauses.take(cause):
                given = deadline if monotonic() >= until else None
                doing = "a dry run was executed"
                raise translate(cause, database.target, doing, given=given) from None
            if lost_session(cause):
                database.renew(lease)
            elif lease.lost:
                database.sessions.exchange(lease, timeout=max(1.0, until - monotonic()))


class Sampler:
    """Executes statements of one transaction, and tells some of the rows that they change."""

    def __init__(self, database: "Database", transaction: Transaction) -> None:
        """Take the transaction; nothing is sent yet."""
        self._database = database
        self._transaction = transaction
        self._keys: dict[str, tuple[Table, dict[tuple[Any, ...], None]]] = {}

    def execute(
        self,
        statement: "SqlStatement",
        values: Mapping[str, Any],
        types: "Mapping[str, Type]",
    ) -> "tuple[RowList | None, int | None]":
        """Execute a statement; return its rows, if it returns any, and how many it changed.

        Raises:
            StatementError: Spanner refused it.
            SpanctlError: Spanner could not be reached.
        """
        run = self._transaction
        if not statement.is_dml:
            return run.execute_sql(statement.text, values, types), None
        table = self._table(statement)
        if statement.returning:
            rows = run.execute_sql(statement.text, values, types)
            self._note(table, [column.name for column in rows.columns], rows)
            return rows, len(rows)
        if table is None:
            return None, run.execute_update(statement.text, values, types)
        keys = ", ".join(f"`{name}`" for name in table.primary_key)
        rows = run.execute_sql(f"{statement.text}\nTHEN RETURN {keys}", values, types)
        self._note(table, table.primary_key, rows)
        return None, len(rows)

    def _table(self, statement: "SqlStatement") -> "Table | None":
        """Return the table to sample; None where its rows can't be read back."""
        # A table to which a pending commit timestamp was written can't be read in this transaction.
        if not statement.target or _PENDING in statement.text.upper():
            return None
        found = self._database.tables.get(statement.target)
        return found if found is not None and found.primary_key else None

    def _note(self, table: "Table | None", names: Sequence[str], rows: "RowList") -> None:
        folded = [name.casefold() for name in names]
        if table is None or not {key.casefold() for key in table.primary_key} <= set(folded):
            return
        places = [folded.index(key.casefold()) for key in table.primary_key]
        _, keys = self._keys.setdefault(table.name, (table, {}))
        for row in rows:
            if len(keys) >= SAMPLE:
                return
            keys[tuple(row[place] for place in places)] = None

    def changes(self) -> tuple[RowChange, ...]:
        """Return some rows that the statements change, as they are now and would be then.

        Raises:
            SpanctlError: Spanner could not be reached.
        """
        return tuple(
            change for table, keys in self._keys.values() for change in self._of(table, list(keys))
        )

    def _of(self, table: "Table", keys: Sequence[tuple[Any, ...]]) -> list[RowChange]:
        if not keys:
            return []
        columns = [column.name for column in table.columns]
        wanted = encoded_keys(keys)
        try:
            after = self._transaction.read(table.name, columns, wanted)
        except StatementError:
            return []  # a pending commit timestamp, by default: what it would be isn't known
        # Outside of the transaction: what is committed. Its locks keep it so.
        before = self._database.read(table.name, columns, wanted)
        return _compared(table, keys, _by_key(table, before), _by_key(table, after))


def _by_key(table: "Table", rows: Any) -> dict[tuple[Any, ...], dict[str, Any]]:  # noqa: ANN401 - rows of either kind
    names = [column.name for column in table.columns]
    found = (dict(zip(names, row, strict=True)) for row in rows)
    return {tuple(row[name] for name in table.primary_key): row for row in found}


def _compared(
    table: "Table",
    keys: Sequence[tuple[Any, ...]],
    before: Mapping[tuple[Any, ...], Mapping[str, Any]],
    after: Mapping[tuple[Any, ...], Mapping[str, Any]],
) -> list[RowChange]:
    changes = []
    for key in keys:
        old, new = before.get(key), after.get(key)
        if old is None and new is None:
            continue  # inserted and deleted again
        kind = ModType.INSERT if old is None else ModType.DELETE if new is None else ModType.UPDATE
        named = dict(zip(table.primary_key, key, strict=True))
        changes.append(RowChange(table.name, kind, named, _rest(old, named), _rest(new, named)))
    return changes


def _rest(row: Mapping[str, Any] | None, key: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in row if name not in key}
