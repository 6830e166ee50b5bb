"""What a forwarded request says about itself: session, transaction, statement."""

from dataclasses import dataclass

from google.cloud.spanner_v1 import types

_REQUESTS = {
    "BeginTransaction": types.BeginTransactionRequest,
    "Commit": types.CommitRequest,
    "ExecuteBatchDml": types.ExecuteBatchDmlRequest,
    "ExecuteSql": types.ExecuteSqlRequest,
    "ExecuteStreamingSql": types.ExecuteSqlRequest,
    "Read": types.ReadRequest,
    "Rollback": types.RollbackRequest,
    "StreamingRead": types.ReadRequest,
}
_RESPONSES = {
    "BeginTransaction": types.Transaction,
    "ExecuteBatchDml": types.ExecuteBatchDmlResponse,
    "ExecuteSql": types.ResultSet,
    "ExecuteStreamingSql": types.PartialResultSet,
    "Read": types.ResultSet,
    "StreamingRead": types.PartialResultSet,
}


@dataclass(frozen=True, slots=True)
class Peek:
    """Facts of one request. ``transaction`` is hexadecimal, empty while there is none."""

    session: str = ""
    transaction: str = ""
    sql: str = ""
    begins: bool = False
    writes: tuple[str, ...] = ()


def request(method: str, data: bytes) -> Peek:
    """Read what is known of a request; an empty :class:`Peek` for methods of no interest."""
    if method not in _REQUESTS:
        return Peek()
    message = _REQUESTS[method].pb().FromString(data)
    session = message.session
    if method == "BeginTransaction":
        return Peek(session, begins=message.options.WhichOneof("mode") == "read_write")
    if method in {"Commit", "Rollback"}:
        tables = tuple(_table(one) for one in getattr(message, "mutations", ()))
        return Peek(session, message.transaction_id.hex(), writes=tables)
    selector = message.transaction
    begins = selector.begin.WhichOneof("mode") == "read_write"
    sql = getattr(message, "sql", "") or getattr(message, "table", "")
    if method == "ExecuteBatchDml":
        sql = "; ".join(one.sql for one in message.statements)
    return Peek(session, selector.id.hex(), sql, begins)


def _table(mutation: types.Mutation) -> str:
    operation = mutation.WhichOneof("operation")
    return str(getattr(mutation, operation).table)


def begun(method: str, data: bytes) -> str:
    """Return the hexadecimal id of the transaction that a response begins, or an empty text."""
    if method not in _RESPONSES:
        return ""
    message = _RESPONSES[method].pb().FromString(data)
    if method == "BeginTransaction":
        return str(message.id.hex())
    if method == "ExecuteBatchDml":
        sets = list(message.result_sets)
        return str(sets[0].metadata.transaction.id.hex()) if sets else ""
    return str(message.metadata.transaction.id.hex())
