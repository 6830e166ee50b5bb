"""Partitioned DML: at least once in each partition, not atomic, its count a lower bound."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import (
    BeginTransactionRequest,
    ExecuteSqlRequest,
    TransactionOptions,
    TransactionSelector,
    Type,
)
from google.protobuf.struct_pb2 import Struct

from spanctl import shelter
from spanctl.clock import monotonic
from spanctl.shelter import sheltered
from spanctl.spanner import idempotence, nulls, values
from spanctl.spanner.failures import lost_session, translate
from spanctl.spanner.limits import refuse_large_request, refuse_long_statement
from spanctl.spanner.retrying import Pauses, write_again
from spanctl.spanner.sql import SqlStatement, describe

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TIMEOUT: Final = 3600.0
_PAUSE: Final = 0.5
_PARTITIONED: Final = TransactionOptions(partitioned_dml=TransactionOptions.PartitionedDml())


@sheltered
def execute_partitioned(  # noqa: PLR0913 - one statement, told in full
    database: "Database",
    sql: str,
    params: Mapping[str, Any] | None = None,
    types: Mapping[str, Type] | None = None,
    *,
    timeout: float = TIMEOUT,
    assume_idempotent: bool = False,
) -> int:
    """Execute an UPDATE or DELETE in partitions, again from the start while that may help.

    The statement must be idempotent: each partition is changed at least once.

    Args:
        database: Where.
        sql: The statement.
        params: Parameter name to value.
        types: Parameter name to type, where it can't be inferred from the value.
        timeout: Seconds for all attempts.
        assume_idempotent: Whether the caller answers for that, and nothing is checked.

    Returns:
        The least number of rows that were changed.

    Raises:
        NotIdempotentError: It may do harm when it is applied twice; nothing was sent.
        StatementError: Spanner refused the statement; some partitions may be changed.
        LimitError: It is larger than a request may be; nothing was sent.
        UnreachableError: Spanner did not answer in time; some partitions may be changed.
        NotPermittedError: The credentials don't allow it.
    """
    refuse_large(sql, params or {}, types or {})
    if not assume_idempotent:
        refuse_harmful(database, describe(sql))
    nulls.refuse_partitioned(database, sql, params, types, timeout=timeout)
    deadline = monotonic() + timeout
    pauses = Pauses(deadline, first=_PAUSE)
    while True:
        shelter.check()  # what it cancels shall not be sent again
        try:
            return _attempt(database, sql, params or {}, types or {}, deadline)
        except GoogleAPICallError as error:
            if lost_session(error):
                database.binding.lose()
            passing = write_again(error) or lost_session(error)
            if not passing or not pauses.take(error):
                given = timeout if monotonic() >= deadline else None
                doing = "partitioned DML was executed"
                raise translate(error, database.target, doing, given=given, sql=sql) from None


def refuse_large(sql: str, params: Mapping[str, Any], types: Mapping[str, Type]) -> None:
    """Return unless a statement with its parameters is more than Spanner takes.

    Raises:
        LimitError: It is; nothing was sent.
    """
    refuse_long_statement(sql, len(params))
    request = _request(sql, params, types)
    refuse_large_request(ExecuteSqlRequest.pb(request).ByteSize(), "the statement")


def _request(sql: str, params: Mapping[str, Any], types: Mapping[str, Type]) -> ExecuteSqlRequest:
    request = ExecuteSqlRequest(sql=sql)
    if params:
        request.params = Struct(fields={k: values.encode(v) for k, v in params.items()})
        kinds = {k: types.get(k) or values.infer_type(v) for k, v in params.items()}
        request.param_types = {k: kind for k, kind in kinds.items() if kind is not None}
    return request


def refuse_harmful(database: "Database", statement: SqlStatement, where: str = "") -> None:
    """Return when a statement may be applied twice, as its text and the table tell.

    Args:
        database: Where its table is.
        statement: The statement.
        where: What to call it in the message.

    Raises:
        NotIdempotentError: It may not, or that can't be told; the message says why.
    """
    found = database.tables.get(statement.target) if statement.target else None
    computed = [column.name for column in found.columns if column.generated] if found else []
    idempotence.refuse(statement, where, computed)


def _attempt(
    database: "Database",
    sql: str,
    params: Mapping[str, Any],
    types: Mapping[str, Type],
    deadline: float,
) -> int:
    with database.sessions.writer(max(0.001, deadline - monotonic())) as lease:
        request = _request(sql, params, types)
        request.session = lease.name
        refuse_large_request(ExecuteSqlRequest.pb(request).ByteSize(), "the statement")
        lease.lost = True  # until its reply is there: nobody could end what it may have begun
        with database.rpc.opened.within(lease.name):
            begun = database.rpc.begin(
                BeginTransactionRequest(session=lease.name, options=_PARTITIONED),
                timeout=max(0.001, deadline - monotonic()),
            )
            lease.lost = False
            request.transaction = TransactionSelector(id=begun.id)
            count = 0
            left = max(0.001, deadline - monotonic())
            for part in database.rpc.stream_sql(request, timeout=left):
                count = max(count, int(part.stats.row_count_lower_bound))
        return count
