"""The transaction that a body works with: statements at once, mutations at the commit.

The API is that of Google's own ``Transaction``, so that code moves over as it is. The first
statement begins the transaction (inline begin), which spares a round trip.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud.spanner_v1.keyset import KeySet
from google.cloud.spanner_v1.types import ExecuteSqlRequest, ReadRequest, RequestOptions, Type

from spanctl.ledger.receipt import Statement, StatementKind
from spanctl.spanner import limits, values
from spanctl.spanner import sql as sql_text
from spanctl.spanner.attempt import Attempt
from spanctl.spanner.rows import RowList, Rows


class Transaction(Attempt):
    """One attempt at a read-write transaction; thread-safe, lives as long as the body's call."""

    def execute_sql(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        param_types: Mapping[str, Type] | None = None,
    ) -> RowList:
        """Execute a query, or DML with ``THEN RETURN``, and return all its rows.

        Raises:
            UsageError: It changes the ledger.
            LimitError: It is larger than a statement may be; it was not sent.
            StatementError: Spanner refused the statement.
            UnreachableError: Spanner did not answer.
            NotPermittedError: The credentials don't allow it.
        """
        described = self._described(sql, params)
        with self._turn:
            request = self._sql_request(sql, params, param_types)
            rows, count = self._parts(request, self._rpc.stream_sql)
            changed = None if described.kind is StatementKind.QUERY else count
            self._done(described, params, changed)
        return rows

    def peek(self, sql: str) -> RowList:
        """Execute a query for the protocol's own sake, which the receipt doesn't tell of."""
        with self._turn:
            rows, _ = self._parts(self._sql_request(sql, None, None), self._rpc.stream_sql)
        return rows

    def execute_update(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        param_types: Mapping[str, Type] | None = None,
    ) -> int:
        """Execute a DML statement and return the number of rows that it changed.

        Raises:
            UsageError: It changes the ledger.
            LimitError: It is larger than a statement may be; it was not sent.
            StatementError: Spanner refused the statement.
            UnreachableError: Spanner did not answer.
            NotPermittedError: The credentials don't allow it.
        """
        described = self._described(sql, params)
        with self._turn:
            request = self._sql_request(sql, params, param_types)
            result = self._begun(request, self._whole)
            count = int(result.stats.row_count_exact)
            self._done(described, params, count)
        return count

    def _described(self, sql: str, params: Mapping[str, Any] | None) -> sql_text.SqlStatement:
        limits.refuse_long_statement(sql, len(params or ()))
        described = sql_text.describe(sql)
        if described.is_dml:
            self._refuse_ledger(described.target)
        if described.kind is StatementKind.INSERT and described.values:
            columns = len(described.columns)
            limits.refuse_large_insert(described.target, columns, described.values)
        return described

    def _done(
        self, described: sql_text.SqlStatement, params: Mapping[str, Any] | None, rows: int | None
    ) -> None:
        self._record(_statement(described, params, rows))
        if described.is_dml and rows:
            write = limits.Write(described.kind, described.target, described.columns)
            self._writes[write] += rows

    def read(self, table: str, columns: Sequence[str], keyset: KeySet, index: str = "") -> RowList:
        """Read rows by key, with locks, and return all of them.

        Raises:
            StatementError: The table, a column or the index does not exist.
            LimitError: The keys are larger than a request may be; it was not sent.
            UnreachableError: Spanner did not answer.
        """
        request = self._read_request(table, columns, keyset, index)
        read = Statement(kind=StatementKind.READ, tables=(table,), parameters=tuple(columns))
        with self._turn:
            rows, _ = self._parts(request, self._rpc.stream_read)
            self._record(read)
        return rows

    def look(self, table: str, columns: Sequence[str], keyset: KeySet) -> RowList:
        """Read rows by key for the protocol's own sake, which the receipt doesn't tell of."""
        request = self._read_request(table, columns, keyset, "")
        with self._turn:
            rows, _ = self._parts(request, self._rpc.stream_read)
        return rows

    def _read_request(
        self, table: str, columns: Sequence[str], keyset: KeySet, index: str
    ) -> ReadRequest:
        return ReadRequest(
            session=self._session,
            table=table,
            index=index,
            columns=list(columns),
            key_set=keyset._to_pb(),  # noqa: SLF001 - the only way from a KeySet to its message
            request_options=RequestOptions.wrap(self._options),
        )

    def _sql_request(
        self,
        sql: str,
        params: Mapping[str, Any] | None,
        param_types: Mapping[str, Type] | None,
    ) -> ExecuteSqlRequest:
        request = ExecuteSqlRequest()
        message = ExecuteSqlRequest.pb(request)  # filling the plain message is ten times as fast
        message.session = self._session
        message.sql = sql
        message.seqno = self._seqno
        message.request_options.CopyFrom(self._options)
        self._seqno += 1
        given = param_types or {}
        for name, value in (params or {}).items():
            message.params.fields[name].CopyFrom(values.encode(value))
            if (kind := given.get(name) or values.infer_type(value)) is not None:
                message.param_types[name].CopyFrom(Type.pb(kind))
        return request

    def _parts(self, request: Any, send: Any) -> tuple[RowList, int | None]:  # noqa: ANN401 - read or SQL
        def collect(request: Any, timeout: float) -> tuple[RowList, int | None]:  # noqa: ANN401
            del timeout  # what is left counts anew where the stream is gone on with
            rows = Rows(self._streamed(request, send))
            return RowList(rows, rows.columns), rows.row_count

        listed: tuple[RowList, int | None] = self._begun(request, collect)
        return listed


def _statement(
    described: "sql_text.SqlStatement", params: Mapping[str, Any] | None, rows: int | None
) -> Statement:
    return Statement(
        kind=described.kind,
        tables=described.tables,
        digest=described.digest,
        sql=described.masked,
        parameters=tuple(sorted(params or ())),
        rows=rows,
    )
