"""A NULL in an array of a watched table, which ends the emulator with all its data: refused.

The emulator (1.5.28) dies of it at the commit, and again when a row that holds one is changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from google.cloud.spanner_v1.types import Mutation, Type

from spanctl.errors import ConflictError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.catalog import Table
from spanctl.spanner.rehearsal import rehearse
from spanctl.spanner.sql import describe
from spanctl.spanner.values import TypeCode
from spanctl.spanner.watching import Watched, schema_at

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
_HINT: Final = "leave the NULL out, or don't watch this table on the emulator"


def refuse(database: "Database", transaction: "Transaction") -> None:
    """Return unless a transaction's commit would end the emulator.

    Raises:
        ConflictError: It would; the table and the column are named.
        SpanctlError: The database could not be read.
    """
    if not database.target.is_emulated:
        return
    suspects = set(_in_mutations(transaction.mutations))
    told = transaction.writes if transaction.id else ()  # what DML wrote is there to be read
    written = {write.table for write in told if write.kind is not StatementKind.DELETE}
    watched: Watched | None = None
    for name in sorted({*written, *(table for table, _ in suspects)}):
        table = database.tables.get(name)
        columns = _deadly(table) if table else []
        if table is None or not columns:
            continue
        watched = watched or schema_at(database).watched or Watched()
        named = {column.casefold() for one, column in suspects if one == name}
        for column in columns:
            if not _is_watched(watched, table.name, column):
                continue
            if column.casefold() in named or (
                name in written and transaction.peek(_query(table.name, column))
            ):
                raise _refused(table.name, column)


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
            if list(database.query(_query(name, column))):
                raise _refused(name, column)


def _refused(table: str, column: str) -> ConflictError:
    msg = f"a NULL in array {column} of {table}, a watched table, ends the emulator with all data"
    return ConflictError(msg, hint=_HINT)


def _deadly(table: Table) -> list[str]:
    return [
        column.name
        for column in table.columns
        if column.type.code is TypeCode.ARRAY and column.type.array_element_type.code in _DEADLY
    ]


def _is_watched(watched: Watched, table: str, column: str) -> bool:
    if watched.is_whole(table):
        return True
    return column in (watched.tables.get(table) or ())


def _query(table: str, column: str) -> str:
    path = ".".join(f"`{part}`" for part in table.split("."))
    nulls = f"UNNEST(spanctl_row.`{column}`) AS spanctl_part WHERE spanctl_part IS NULL"
    return f"SELECT 1 FROM {path} AS spanctl_row WHERE EXISTS (SELECT 1 FROM {nulls}) LIMIT 1"  # noqa: S608 - names of the catalog


def _in_mutations(mutations: Iterable[Mutation]) -> Iterator[tuple[str, str]]:
    """Yield table and column of each NULL in an array."""
    for one in mutations:
        message = Mutation.pb(one)
        kind = message.WhichOneof("operation")
        if kind == "delete":
            continue
        write = getattr(message, kind)
        for row in write.values:
            for column, value in zip(write.columns, row.values, strict=False):
                if value.WhichOneof("kind") == "list_value" and any(
                    part.WhichOneof("kind") == "null_value" for part in value.list_value.values
                ):
                    yield write.table, column
