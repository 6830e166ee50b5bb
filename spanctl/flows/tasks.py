"""Ready-made tasks: a query, DML, and mutations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from spanctl import invocation
from spanctl.errors import UsageError
from spanctl.flows.steps import transaction
from spanctl.flows.targets import resolve

if TYPE_CHECKING:
    from google.cloud.spanner_v1.types import Type

    from spanctl.spanner.transaction import Transaction


class MutationKind(StrEnum):
    """What a mutation does with its rows."""

    INSERT = "insert"
    UPDATE = "update"
    INSERT_OR_UPDATE = "insert_or_update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Mutation:
    """Rows of one table to write, or to delete by key.

    Attributes:
        kind: What to do.
        table: The table.
        rows: The rows, each as its columns' values; for a delete the primary keys.
        columns: The columns, in the order of the values; none for a delete.
    """

    kind: MutationKind
    table: str
    rows: Sequence[Sequence[Any]]
    columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Dml:
    """One DML statement with its own parameters.

    Attributes:
        sql: The statement.
        params: Parameter name to value.
        types: Parameter name to the name of its Spanner type (``"ARRAY<STRING>"``), where it can't
            be told from the value.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


@task(cache_policy=NO_CACHE)
def query(
    sql: str,
    params: Mapping[str, Any] | None = None,
    types: Mapping[str, str] | None = None,
    database: Any = None,  # noqa: ANN401 - what resolve() takes; Prefect evaluates annotations
    timeout: float = 60.0,
) -> list[dict[str, Any]]:
    """Run a strong read-only query and return its rows, each as column name to value.

    Args:
        sql: The query.
        params: Parameter name to value.
        types: Parameter name to the name of its Spanner type, where the value doesn't tell.
        database: Where to read; see :func:`spanctl.flows.targets.resolve`.
        timeout: Seconds to wait for an answer.

    Raises:
        UsageError: A column has no name, or two have the same; nothing was returned.
        SpanctlError: As :meth:`spanctl.spanner.client.Database.query` raises.
    """
    from spanctl.spanner.client import shared

    found = shared(resolve(database or invocation.current().database))
    rows = found.query(sql, params, _types(types), timeout=timeout)
    names = [column.name for column in rows.columns]
    wrong = sorted(
        name or "(none)" for name, times in Counter(names).items() if times > 1 or not name
    )
    if wrong:
        msg = f"columns of the query have no name of their own: {', '.join(wrong)}"
        raise UsageError(msg, hint="name each column with AS")
    return [dict(zip(names, row, strict=True)) for row in rows]


@transaction(keep_result=True)
def execute_dml(
    txn: "Transaction",
    sql: str | Dml | Sequence[str | Dml],
    params: Mapping[str, Any] | None = None,
    types: Mapping[str, str] | None = None,
) -> list[int]:
    """Execute DML statements, in order, in one transaction.

    Its :class:`~spanctl.ledger.receipt.TransactionResult` has the rows changed by each statement
    as result, also when it is replayed.

    Args:
        txn: The transaction; calls leave it out.
        sql: A statement, or several.
        params: Parameter name to value, for statements given as text.
        types: Parameter name to the name of its Spanner type, where the value doesn't tell.
    """
    given = [sql] if isinstance(sql, str | Dml) else sql
    common = {"params": params or {}, "types": types or {}}
    statements = [one if isinstance(one, Dml) else Dml(one, **common) for one in given]
    return [
        txn.execute_update(one.sql, dict(one.params) or None, _types(one.types))
        for one in statements
    ]


@transaction
def write(txn: "Transaction", mutations: Sequence[Mutation]) -> None:
    """Apply mutations in one transaction.

    Args:
        txn: The transaction; calls leave it out.
        mutations: What to write, in order.
    """
    from spanctl.spanner.keysets import KeySet

    for mutation in mutations:
        match mutation.kind:
            case MutationKind.DELETE:
                txn.delete(mutation.table, KeySet(keys=[list(key) for key in mutation.rows]))
            case kind:
                apply = getattr(txn, kind.value)
                apply(mutation.table, mutation.columns, mutation.rows)


def _types(names: Mapping[str, str] | None) -> "dict[str, Type] | None":
    from spanctl.spanner.types import type_from_name

    if not names:
        return None
    try:
        return {parameter: type_from_name(name) for parameter, name in names.items()}
    except ValueError as error:
        raise UsageError(str(error), hint="name a type of Spanner, such as INT64") from error
