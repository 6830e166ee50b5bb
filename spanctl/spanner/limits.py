"""What one commit and one request may hold, and how rows are counted against it.

Spanner counts a written row by its columns, those of the key always, and by the entries of the
secondary indexes that change. What it counts exactly depends on what was there before, so there are
two counts: :func:`least`, below which it can't be, refuses a transaction; :func:`most`, above which
it can't be, plans a bulk job.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spanctl.errors import LimitError
from spanctl.ledger.receipt import StatementKind

if TYPE_CHECKING:
    from spanctl.spanner.catalog import Table

MAX_MUTATIONS: Final = 80_000
"""Mutations in a commit, and those of one DML statement."""

MAX_COMMIT_BYTES: Final = 100 * 1024 * 1024
MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024
"""Of any other request: a statement with its parameters, a read with its keys."""

MAX_STATEMENT: Final = 1_000_000
"""Characters of a statement's text."""
MAX_PARAMETERS: Final = 950
"""Parameters of a statement."""

_MAX_KEY: Final = 16
_MAX_INDEXES: Final = 128
"""Spanner's own limits for the columns of a key, and for the indexes of a table."""

_ADDING: Final = frozenset({StatementKind.INSERT})


class Limit(StrEnum):
    """Which limit an error is about."""

    COMMIT_MUTATIONS = "commit_mutations"
    STATEMENT_MUTATIONS = "statement_mutations"
    COMMIT_BYTES = "commit_bytes"
    REQUEST_BYTES = "request_bytes"
    STATEMENT_LENGTH = "statement_length"
    PARAMETERS = "parameters"


@dataclass(frozen=True, slots=True)
class Write:
    """Rows of one kind, whether by mutation or by DML.

    Attributes:
        kind: What is done with them.
        table: The table, as the caller named it.
        columns: The columns that are written; none where they aren't known, and for a delete.
    """

    kind: StatementKind
    table: str
    columns: tuple[str, ...] = ()


def bound(write: Write) -> int:
    """Return what :func:`least` can't exceed, whatever the table is like."""
    if write.kind is StatementKind.DELETE:
        return 1
    return len(write.columns) + _MAX_KEY + (_MAX_INDEXES if write.kind in _ADDING else 0)


def least(write: Write, table: "Table | None") -> int:
    """Return the fewest mutations that a row counts; by its columns alone where there's no table.

    An update may leave an index as it is; an inserted row has an entry in each, but for those that
    leave out NULLs.
    """
    if write.kind is StatementKind.DELETE:
        return 1
    columns = {name.casefold() for name in write.columns}
    if table is None:
        return max(1, len(columns))
    columns |= {name.casefold() for name in table.primary_key}
    entries = sum(not index.null_filtered for index in table.indexes)
    return len(columns) + (entries if write.kind in _ADDING else 0)


def most(table: "Table", columns: Sequence[str]) -> int:
    """Return the most mutations that a row counts which is inserted or updated.

    Each column counts, and for each index the entry that goes and the one that comes.
    """
    keys = len(table.primary_key)
    entries = (len(index.columns) + len(index.storing) + keys for index in table.indexes)
    return len(columns) + sum(2 * entry for entry in entries)


_SMALLER: Final = "send fewer or smaller values at once: several statements, or mutations in chunks"


def refuse_large_request(size: int, doing: str, hint: str = _SMALLER) -> None:
    """Return unless a request is larger than Spanner takes.

    Args:
        size: Its bytes.
        doing: What it is, to end the sentence "... can't be sent: ".
        hint: What to do about it.

    Raises:
        LimitError: It is; nothing was sent.
    """
    if size > MAX_REQUEST_BYTES:
        msg = f"{doing} has {size:,} bytes, and a request takes {MAX_REQUEST_BYTES:,}"
        raise _over(Limit.REQUEST_BYTES, MAX_REQUEST_BYTES, size, msg, hint)


def refuse_long_statement(sql: str, parameters: int) -> None:
    """Return unless a statement's text or its parameters are more than Spanner takes.

    Raises:
        LimitError: They are; nothing was sent.
    """
    if len(sql) > MAX_STATEMENT:
        msg = f"the statement has {len(sql):,} characters, and Spanner takes {MAX_STATEMENT:,}"
        hint = "pass the values as parameters, an array for many: WHERE id IN UNNEST(@ids)"
        raise _over(Limit.STATEMENT_LENGTH, MAX_STATEMENT, len(sql), msg, hint)
    if parameters > MAX_PARAMETERS:
        msg = f"the statement has {parameters:,} parameters, and Spanner takes {MAX_PARAMETERS:,}"
        hint = "pass values of one kind as one array: WHERE id IN UNNEST(@ids)"
        raise _over(Limit.PARAMETERS, MAX_PARAMETERS, parameters, msg, hint)


def refuse_large_commit(size: int) -> None:
    """Return unless the mutations of a transaction are larger than a commit takes.

    Raises:
        LimitError: They are.
    """
    if size > MAX_COMMIT_BYTES:
        msg = f"the transaction writes {size:,} bytes, and a commit takes {MAX_COMMIT_BYTES:,}"
        hint = "write it in smaller chunks, each a transaction of its own"
        raise _over(Limit.COMMIT_BYTES, MAX_COMMIT_BYTES, size, msg, hint)


def refuse_large_insert(table: str, columns: int, rows: int) -> None:
    """Return unless one INSERT names more values than a statement may write.

    Raises:
        LimitError: It does; nothing was sent.
    """
    count = max(1, columns) * rows
    if count > MAX_MUTATIONS:
        msg = (
            f"the statement inserts {rows:,} rows of {columns} columns into {table}: at least"
            f" {count:,} mutations, and a DML statement takes {MAX_MUTATIONS:,}"
        )
        hint = "split it, or load the rows from a file: spanctl run import"
        raise _over(Limit.STATEMENT_MUTATIONS, MAX_MUTATIONS, count, msg, hint)


def refuse_many(counted: Iterable[tuple[Write, int, int]], receipt: int) -> None:
    """Return unless a transaction counts more mutations than a commit takes.

    Args:
        counted: What is written, the rows of it, and the fewest mutations of each row.
        receipt: The mutations of the receipt.

    Raises:
        LimitError: It does.
    """
    sums = [(write, rows, rows * each) for write, rows, each in counted]
    count = receipt + sum(total for _, _, total in sums)
    if count <= MAX_MUTATIONS:
        return
    write, rows, total = max(sums, key=lambda one: one[2])
    msg = (
        f"the transaction counts at least {count:,} mutations, and a commit takes"
        f" {MAX_MUTATIONS:,}: {write.kind.value} of {rows:,} rows of {write.table} counts {total:,}"
    )
    hint = (
        "write it in smaller chunks, each a transaction of its own; an UPDATE or DELETE that may"
        " be applied twice: spanctl run sql --partitioned"
    )
    raise _over(Limit.COMMIT_MUTATIONS, MAX_MUTATIONS, count, msg, hint)


def _over(limit: Limit, allowed: int, counted: int, message: str, hint: str) -> LimitError:
    return LimitError(message, hint=hint, limit=limit.value, allowed=allowed, counted=counted)
