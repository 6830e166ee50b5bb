"""A NULL in an array of a watched table, which ends the emulator with all its data: refused.

The emulator (1.5.28) dies of it at the commit, and again when a row that holds one is changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.cloud.spanner_v1.types import Mutation, Type

from spanctl.errors import ConflictError, StatementError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.catalog import Column, Table
from spanctl.spanner.rehearsal import rehearse
from spanctl.spanner.sql import describe
from spanctl.spanner.values import TypeCode
from spanctl.spanner.watching import by_any

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.transaction import Transaction

_DEADLY: Final = frozenset(
    {
        TypeCode.STRING,
        TypeCode.BYTES,
        TypeCode.BOOL,
        TypeCode.FLOAT64,
        TypeCode.FLOAT32,
        TypeCode.TIMESTAMP,
    }
)
_DEFAULT: Final = "SELECT 1 FROM UNNEST({}) AS spanctl_part WHERE spanctl_part IS NULL LIMIT 1"
_HINT: Final = "leave the NULL out, or don't watch this table on the emulator"


def refuse(database: "Database", transaction: "Transaction") -> None:
    """Return unless a transaction's commit would end the emulator.

    Raises:
        ConflictError: It would; the table and the column are named.
        SpanctlError: The database could not be read.
    """
    if not database.target.is_emulated:
        return
    names = {one.table for one in transaction.writes if one.kind is not StatementKind.DELETE}
    tables = {name: database.tables.get(name) for name in sorted(names)}
    deadly = {name: (table, _deadly(table)) for name, table in tables.items() if table}
    if not any(columns for _, columns in deadly.values()):
        return
    buffered: dict[str, list[_Buffered]] = {}
    for one in _buffered(transaction.mutations):
        buffered.setdefault(one.table, []).append(one)
    watched = by_any(database)
    for name, (table, columns) in deadly.items():
        for column in columns:
            # What DML wrote is there to be read.
            if watched.has(table.name, column.name) and (
                any(one.leaves_null(column, database) for one in buffered.get(name, ()))
                or (transaction.id and transaction.peek(_query(table.name, column.name)))
            ):
                raise _refused(table.name, column.name)


def refuse_partitioned(
    database: "Database",
    sql: str,
    params: Mapping[str, Any] | None,
    types: "Mapping[str, Type] | None",
    *,
    timeout: float,
) -> None:
    """Return unless partitioned DML would end the emulator: it is tried, and rolled back.

    Raises:
        ConflictError: It would; the table and the column are named.
        SpanctlError: Spanner refused the statement, or could not be reached.
    """
    described = describe(sql)
    if not (database.target.is_emulated and described.kind is StatementKind.UPDATE):
        return
    table = database.tables.get(described.target)
    if table is None or not _deadly(table):
        return

    def tried(transaction: "Transaction") -> None:
        transaction.execute_update(sql, params, types)
        refuse(database, transaction)

    rehearse(database, tried, deadline=timeout)


def refuse_watching(database: "Database", tables: Iterable[str]) -> None:
    """Return unless a table holds such a row already.

    Raises:
        ConflictError: It does; the table and the column are named.
        SpanctlError: The database could not be read.
    """
    for name in tables:
        table = database.tables.get(name, anew=True)
        for column in _deadly(table) if table else []:
            if list(database.query(_query(name, column.name))):
                raise _refused(name, column.name)


def _refused(table: str, column: str) -> ConflictError:
    msg = f"a NULL in array {column} of {table}, a watched table, ends the emulator with all data"
    return ConflictError(msg, hint=_HINT)


def _deadly(table: Table) -> list[Column]:
    return [
        column
        for column in table.columns
        if column.type.code is TypeCode.ARRAY and column.type.array_element_type.code in _DEADLY
    ]


def _query(table: str, column: str) -> str:
    path = ".".join(f"`{part}`" for part in table.split("."))
    nulls = f"UNNEST(spanctl_row.`{column}`) AS spanctl_part WHERE spanctl_part IS NULL"
    return f"SELECT 1 FROM {path} AS spanctl_row WHERE EXISTS (SELECT 1 FROM {nulls}) LIMIT 1"  # noqa: S608 - names of the catalog


@dataclass(frozen=True, slots=True)
class _Buffered:
    """What one mutation writes to a table.

    Attributes:
        table: Its name.
        inserts: Whether rows may come of it that were not there.
        columns: The columns that it names, in lower case.
        holding: Those of them that get an array which holds a NULL.
    """

    table: str
    inserts: bool
    columns: frozenset[str]
    holding: frozenset[str]

    def leaves_null(self, column: Column, database: "Database") -> bool:
        """Tell whether an array with a NULL gets into a column, given or by its default."""
        name = column.name.casefold()
        if name in self.columns or not self.inserts or column.default is None:
            return name in self.holding
        try:
            return bool(list(database.query(_DEFAULT.format(column.default))))
        except StatementError:
            return True  # what can't be tried isn't risked


def _buffered(mutations: Iterable[Mutation]) -> Iterator[_Buffered]:
    """Yield what each mutation writes, but deletes."""
    for one in mutations:
        message = Mutation.pb(one)
        kind = message.WhichOneof("operation")
        if kind == "delete":
            continue
        write = getattr(message, kind)
        columns = [column.casefold() for column in write.columns]
        holding = {
            column
            for row in write.values
            for column, value in zip(columns, row.values, strict=False)
            if value.WhichOneof("kind") == "list_value"
            and any(part.WhichOneof("kind") == "null_value" for part in value.list_value.values)
        }
        yield _Buffered(write.table, kind != "update", frozenset(columns), frozenset(holding))
